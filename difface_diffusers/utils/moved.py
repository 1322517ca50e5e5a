"""Where the modules of the last release are now. For one release they can be imported from there, with a warning."""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from .warning import warn_user


PACKAGE = __name__.partition(".")[0]
MOVED = {  # what has gone to several modules, to all of them
    "allocation": ("acceleration.allocation",),
    "bundled": ("models.bundled",),
    "chains": ("pipelines.chains",),
    "channels_last": ("acceleration.layouts",),
    "damage": ("photos.damage",),
    "engines": ("acceleration.runtimes",),
    "evaluation.degraded_sets": ("degradation.test_sets",),
    "evaluation.sheets": ("imaging.grids",),
    "image_processing": ("imaging.tensors", "imaging.pixels", "imaging.files"),
    "int8": ("acceleration.int8",),
    "mask_processing": ("imaging.masks",),
    "model_info": ("hub.model_info",),
    "photo": ("photos.restore", "photos.result"),
    "photo_files": ("imaging.files", "imaging.metadata", "imaging.pixels", "utils.atomic"),
    "pipeline_difface": (
        "pipelines.pipeline_difface",
        "pipelines.output",
        "pipelines.sampling",
        "pipelines.generators",
    ),
    "pipeline_difface_inpaint": ("pipelines.pipeline_difface_inpaint",),
    "processor": ("acceleration.processor",),
    "quantisation": ("acceleration.calibration",),
    "samples": ("photos.samples",),
    "timesteps": ("pipelines.schedule",),
    "training.degradation": ("degradation.blind",),
    "training.masks": ("degradation.holes",),
    "upscale": ("photos.upscale",),
}
RENAMED = {
    "count_in_int8": "quantize_int8",
    "quantise_graph": "quantize_graph",
    "sheet": "image_grid",
    "use_engine": "use_runtime",
}


class MovedModules(MetaPathFinder, Loader):
    """Finds the modules of `MOVED` under their old names."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where a module is to be had, if it is one of those that have moved."""
        return ModuleSpec(fullname, self) if fullname.removeprefix(f"{PACKAGE}.") in MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        """Fill a module with the names of those that have taken its place."""
        places = [f"{PACKAGE}.{place}" for place in MOVED[module.__name__.removeprefix(f"{PACKAGE}.")]]
        warn_user(
            f"{module.__name__} is {' and '.join(places)} now; the old name goes with the next release.",
            DeprecationWarning,
        )
        for place in reversed(places):
            vars(module).update(
                {name: value for name, value in vars(import_module(place)).items() if name[:2] != "__"}
            )
        vars(module).update({old: vars(module)[new] for old, new in RENAMED.items() if new in vars(module)})


def renamed(module: str, names: dict[str, str]) -> Any:
    """Return a `__getattr__` for a module whose public names have changed: from the old to the new.

    Args:
        module: its `__name__`.
        names: old and new.
    """

    def find(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warn_user(
            f"{module}.{name} is called {names[name]} now; the old name goes with the next release.",
            DeprecationWarning,
        )
        return getattr(sys.modules[module], names[name])

    return find


def install() -> None:
    """Let the old names be found."""
    if not any(isinstance(finder, MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(MovedModules())
