"""`difface info`: say what a pipeline consists of, without loading or downloading its weights."""

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from .errors import refuse
from .parser import Commands


if TYPE_CHECKING:
    from ..hub.model_info import ComponentInfo, ModelInfo, StoredWeights

LABEL_WIDTH, VALUE_WIDTH = 14, 86  # columns


def add_parser(subparsers: Commands) -> None:
    """Declare the arguments of `difface info`."""
    parser = subparsers.add_parser(
        "info",
        help="say what a model consists of",
        description="Say what a model does, and what it consists of. Its weights are neither loaded nor downloaded.",
        examples=[
            "difface info",
            "difface info ORG/NAME --json",
        ],
    )
    parser.add_argument(
        "model",
        nargs="?",
        metavar="MODEL",
        help='Hub id or folder of a DifFace pipeline, "bundled" or "official"; the bundled one unless given',
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print what the model consists of; return 2 when it cannot be read."""
    from huggingface_hub.utils import disable_progress_bars

    from ..hub.model_info import model_info

    try:
        with disable_progress_bars():  # a few kilobytes are fetched
            info = model_info(_place_of(args.model))
    except (OSError, ValueError) as error:
        return refuse("info", error)
    print(json.dumps(asdict(info), indent=2) if args.json else _text(info))
    return 0


def _place_of(model: str | None) -> str:
    """Return the folder or Hub id of a model that a command names; nothing is fetched."""
    from ..hub.named_models import BUNDLED, resolve_model
    from ..hub.official_models import OFFICIAL, cached_official

    if model == OFFICIAL and cached_official("restoration") is None:
        raise ValueError("the official model is not in the cache yet; `difface restore --model official` fetches it.")
    return resolve_model(model or BUNDLED, "DifFacePipeline")


def _text(info: "ModelInfo") -> str:
    lines = [f"{label:<{LABEL_WIDTH}}{value}" for label, value in _rows(info)]
    return "\n".join("".join(letter if letter.isprintable() else "?" for letter in line) for line in lines)


def _rows(info: "ModelInfo") -> Iterator[tuple[str, str]]:
    """Yield the lines of the answer: label, empty where the line before goes on, and value."""
    size = "unknown size" if info.face_size is None else f"{info.face_size[0]} x {info.face_size[1]} pixels"
    yield "model", info.model
    if info.revision is not None:
        yield "revision", info.revision + (", from the cache" if info.from_cache else "")
    yield "pipeline", f"{info.pipeline}: {info.task} of faces of {size}"
    if info.trust_remote_code:
        yield "own code", "loads with trust_remote_code=True only, which runs"
        for line in wrap(", ".join(info.code), VALUE_WIDTH):
            yield "", line
    yield from _network_rows("unet", info.unet)
    if info.patch_size is not None and info.patch_size > 1:
        yield "", f"works on patches of {info.patch_size} x {info.patch_size} pixels"
    yield from _network_rows("estimator", info.estimator)
    yield "scheduler", _component_row("scheduler", info.scheduler)
    for line in wrap(_settings(info.scheduler_settings), VALUE_WIDTH):
        yield "", line
    for name, component in info.others.items():
        yield "further part", f"{name}: {_component_row(name, component)}"
        yield from _weights_rows(component)
    yield "defaults", _settings(info.defaults)
    for index, (name, settings) in enumerate(info.presets.items()):
        yield "" if index else "presets", f"{name}: {_settings(settings) or 'the defaults'}"
    yield "license", ", ".join(filter(None, (info.license, info.license_link))) or "unknown"
    yield "pipeline tag", info.pipeline_tag or "unknown"


def _component_row(name: str, component: "ComponentInfo | None") -> str:
    if component is None:
        return f"none saved; from_pretrained(..., {name}=...) adds one"
    count = next((weights.num_parameters for weights in component.weights if weights.num_parameters), None)
    parameters = f", {count:,} parameters" if count else ""
    return f"{component.class_name} ({component.library}){parameters}"


def _network_rows(name: str, network: "ComponentInfo | None") -> Iterator[tuple[str, str]]:
    yield name, _component_row(name, network)
    yield from _weights_rows(network)
    if network is not None and not network.weights:
        yield "", f"no weights in safetensors or .bin; from_pretrained(..., {name}=...) adds them"


def _weights_rows(component: "ComponentInfo | None") -> Iterator[tuple[str, str]]:
    if component is None:
        return
    for weights in component.weights:
        yield "", _weights_row(weights)
    if component.source is not None:
        yield "", f"shared with {component.source}"


def _weights_row(weights: "StoredWeights") -> str:
    dtype = "precision unknown" if weights.dtypes is None else ", ".join(weights.dtypes)
    form = ".bin (pickle), " if weights.format == "bin" else ""
    files = f" in {weights.num_files} files" if weights.num_files > 1 else ""
    variant = "" if weights.variant is None else f', variant="{weights.variant}"'
    return f"{form}{dtype}, {weights.num_bytes / 1e6:,.1f} MB{files}{variant}{_loading(weights)}"


def _loading(weights: "StoredWeights") -> str:
    """Say what hinders these weights from being loaded."""
    if weights.loaded:
        return ""
    if weights.format == "bin":
        return "; loaded with use_safetensors=False only"
    return "; not loaded, since another network is .bin alone"


def _settings(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items())
