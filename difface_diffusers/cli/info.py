"""`difface info`: say what a pipeline consists of, without loading or downloading its weights."""

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from .files import refuse


if TYPE_CHECKING:
    from ..hub.model_info import ComponentInfo, ModelInfo, StoredWeights

LABEL_WIDTH, VALUE_WIDTH = 14, 86  # columns


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the arguments of `difface info`."""
    parser = subparsers.add_parser(
        "info",
        help="say what a model consists of",
        description="Say what a model does, and what it consists of. Its weights are neither loaded nor downloaded.",
    )
    parser.add_argument(
        "model",
        nargs="?",
        metavar="MODEL",
        help="Hub id or folder of a DifFace pipeline; the bundled one unless given",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print what the model consists of; return 2 when it cannot be read."""
    from huggingface_hub.utils import disable_progress_bars

    from .. import BUNDLED_MODEL
    from ..hub.model_info import model_info

    try:
        with disable_progress_bars():  # a few kilobytes are fetched
            info = model_info(args.model or BUNDLED_MODEL)
    except (OSError, ValueError) as error:
        return refuse("info", error)
    print(json.dumps(asdict(info), indent=2) if args.json else _text(info))
    return 0


def _text(info: "ModelInfo") -> str:
    lines = [f"{label:<{LABEL_WIDTH}}{value}" for label, value in _rows(info)]
    return "\n".join("".join(letter if letter.isprintable() else "?" for letter in line) for line in lines)


def _rows(info: "ModelInfo") -> Iterator[tuple[str, str]]:
    """Yield the lines of the answer: label, empty where the line before goes on, and value."""
    height, width = info.face_size
    yield "model", info.model
    if info.revision is not None:
        yield "revision", info.revision + (", from the cache" if info.from_cache else "")
    yield "pipeline", f"{info.pipeline}: {info.task} of faces of {height} x {width} pixels"
    yield from _component_rows("unet", info.unet)
    if info.patch_size > 1:
        yield "", f"works on patches of {info.patch_size} x {info.patch_size} pixels"
    yield from _component_rows("estimator", info.estimator)
    yield "scheduler", f"{info.scheduler.class_name} ({info.scheduler.library})"
    for line in wrap(_settings(info.scheduler_settings), VALUE_WIDTH):
        yield "", line
    yield "defaults", _settings(info.defaults)
    for index, (name, settings) in enumerate(info.presets.items()):
        yield "" if index else "presets", f"{name}: {_settings(settings) or 'the defaults'}"
    yield "license", ", ".join(filter(None, (info.license, info.license_link))) or "unknown"
    yield "pipeline tag", info.pipeline_tag or "unknown"


def _component_rows(name: str, component: "ComponentInfo") -> Iterator[tuple[str, str]]:
    count = next((weights.num_parameters for weights in component.weights if weights.num_parameters), None)
    parameters = f", {count:,} parameters" if count else ""
    yield name, f"{component.class_name} ({component.library}){parameters}"
    for weights in component.weights:
        yield "", _weights_row(weights)
    if not component.weights:
        yield "", "no weights in safetensors"


def _weights_row(weights: "StoredWeights") -> str:
    dtype = "precision unknown" if weights.dtypes is None else ", ".join(weights.dtypes)
    files = f" in {weights.num_files} files" if weights.num_files > 1 else ""
    variant = "" if weights.variant is None else f', variant="{weights.variant}"'
    return f"{dtype}, {weights.num_bytes / 1e6:,.1f} MB{files}{variant}"


def _settings(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items())
