"""`difface doctor`: say what is installed, what is missing for what, and whether a restoration works."""

import argparse
import os
import platform
import time
from collections.abc import Iterator
from importlib.metadata import metadata, requires
from pathlib import Path

from packaging.requirements import Requirement

from ..utils.versions import PACKAGE, version_of
from .parser import Commands


ABSENT = "is not installed"
NAMED = ("torch", "diffusers", "huggingface_hub", "opencv-python-headless")  # whose versions are said
FOR_DEVELOPERS = {"dev", "docs", "all", "engines"}  # extras that are not asked after
EXAMPLE = "demo/examples/photograph.png"  # that comes with the package
LABEL_WIDTH = 12  # columns


def add_parser(subparsers: Commands) -> None:
    """Declare the arguments of `difface doctor`."""
    parser = subparsers.add_parser(
        "doctor",
        help="say what is installed, and whether it works",
        description="Say which versions, devices and extras there are, what is missing for what, and where the cache is; then"
        " restore a small photograph. The exit status is 1 if something that every restoration needs is missing or fails.",
        examples=["difface doctor"],
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Examine; return 1 if no photograph can be restored."""
    try:
        for label, value in _versions():
            _say(label, value)
        if missing := _missing(""):
            _say("missing", f"{', '.join(missing)}: pip install {PACKAGE}")
            return 1
        for examine in (_devices, _extras, _cache, _self_test):
            for label, value in examine():
                _say(label, value)
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        _say("fault", f"{type(error).__name__}: {error}")
        return 1
    return 0


def _say(label: str, value: str) -> None:
    print(f"{label:<{LABEL_WIDTH}}{value}", flush=True)


def _versions() -> Iterator[tuple[str, str]]:
    yield "package", f"{PACKAGE} {version_of(PACKAGE) or ABSENT}"
    yield "python", f"{platform.python_version()}, {platform.platform()}"
    yield "libraries", ", ".join(f"{name} {version_of(name) or ABSENT}" for name in NAMED)


def _requirements(extra: str) -> list[Requirement]:
    """Return what an extra asks for besides the package itself; "" is what everything needs."""
    every = [Requirement(line) for line in requires(PACKAGE) or ()]
    return [
        requirement
        for requirement in every
        if requirement.name != PACKAGE
        and (not extra if requirement.marker is None else requirement.marker.evaluate({"extra": extra}))
    ]


def _missing(extra: str) -> list[str]:
    """Return what of an extra is not installed, or in a version that is not accepted."""
    found = {requirement: version_of(requirement.name) for requirement in _requirements(extra)}
    return [
        f"{requirement.name}{requirement.specifier} ({there or ABSENT})"
        for requirement, there in found.items()
        if there is None or not requirement.specifier.contains(there, prereleases=True)
    ]


def _devices() -> Iterator[tuple[str, str]]:
    import torch

    from ..acceleration.processor import NATIVE, is_native, multiplies_bytes, processor_name
    from ..utils.devices import best_device

    fast = [f"{dtype}".removeprefix("torch.") for dtype in NATIVE if is_native(dtype)]
    fast += ["8 bits"] if multiplies_bytes() else []
    yield (
        "processor",
        f"{processor_name()}, {torch.get_num_threads()} threads; fast in {', '.join(['float32', *fast])}",
    )
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        yield f"cuda:{number}", f"{properties.name}, {properties.total_memory / 1e9:.0f} GB"
    yield "device", f"{best_device()}, unless --device says otherwise"


def _extras() -> Iterator[tuple[str, str]]:
    for extra in sorted({*metadata(PACKAGE).get_all("Provides-Extra", [])} - FOR_DEVELOPERS):
        missing = _missing(extra)
        install = f'; pip install "{PACKAGE}[{extra}]"'
        yield extra, "there" if not missing else f"lacks {', '.join(missing)}{install}"


def _cache() -> Iterator[tuple[str, str]]:
    from huggingface_hub.constants import HF_HOME, HF_HUB_OFFLINE

    from ..hub.assets import assets_folder, cached_models

    there = cached_models()
    writable = os.access(assets_folder("official"), os.W_OK)
    yield "cache", f"{HF_HOME}{'' if writable else ', which cannot be written'}{', offline' if HF_HUB_OFFLINE else ''}"
    yield "fetched", ", ".join(f"{model.name} ({model.num_bytes / 1e6:.0f} MB)" for model in there) or "nothing"


def _self_test() -> Iterator[tuple[str, str]]:
    """Restore a photograph that comes with the package, by the bundled model.

    Raises:
        RuntimeError: its face is not found, or does not come out as one.
    """
    import numpy as np
    from diffusers.utils import logging

    from .. import BUNDLED_MODEL, DifFacePipeline, restore_photo
    from ..faces import YuNetDetector
    from ..imaging.files import load_image

    logging.disable_progress_bar()
    pipe = DifFacePipeline.from_pretrained(BUNDLED_MODEL)
    pipe.set_progress_bar_config(disable=True)
    start = time.perf_counter()
    result = restore_photo(pipe, load_image(Path(BUNDLED_MODEL).parent / EXAMPLE), preset="fast")
    seconds = time.perf_counter() - start
    if len(result.faces) != 1:
        raise RuntimeError(f"{len(result.faces)} faces were found in a photograph of one.")
    if not YuNetDetector().detect(np.asarray(result.restored[0])):
        raise RuntimeError("what the bundled model restored is no face.")
    yield "self-test", f"a face was found and restored, in {seconds:.1f} s"
