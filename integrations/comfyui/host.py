"""What ComfyUI lends to a node: its device, its folder of models, its progress bar, and the way it stops a run.

Its modules are looked up when a node runs, not when it is loaded. Where there is no ComfyUI, nothing is shown or stopped.
"""

from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch


if TYPE_CHECKING:
    from difface_diffusers import DifFacePipeline

MODELS = "difface"  # folder in ComfyUI's `models`
PREVIEW_SIDE = 512  # longest side of what is shown while a run goes on, pixels


def _comfyui(name: str) -> ModuleType | None:
    """Return a module of ComfyUI, `None` where there is no ComfyUI."""
    try:
        return import_module(name)
    except ImportError:
        return None


def find_device(name: str) -> str:
    """Return the device of a name; of "auto" the one that ComfyUI works on, or else the fastest of this machine."""
    if name != "auto":
        return name
    if (management := _comfyui("comfy.model_management")) is not None:
        return str(management.get_torch_device())
    from difface_diffusers.utils.devices import best_device

    return best_device()


def find_model(name: str) -> str:
    """Return the folder of a name in ComfyUI's `models/difface`; the name itself if there is none."""
    paths = _comfyui("folder_paths")
    folder = None if paths is None else Path(paths.models_dir) / MODELS / name
    return name if folder is None or not folder.is_dir() else str(folder)


def stop_if_asked() -> None:
    """Raise ComfyUI's own exception if the run was cancelled."""
    if (management := _comfyui("comfy.model_management")) is not None:
        management.throw_exception_if_processing_interrupted()


def free_memory() -> None:
    """Give back what a run needed beside its networks, for the nodes that come next."""
    if (management := _comfyui("comfy.model_management")) is not None:
        management.soft_empty_cache()


class Watch:
    """Shows how far a run is, once from its start to its end for each batch of faces and for each background.

    Every step raises ComfyUI's own exception if the run was cancelled.
    """

    def __init__(self) -> None:
        utils = _comfyui("comfy.utils")
        self._bar = None if utils is None else utils.ProgressBar(1)

    @property
    def callback(self) -> dict[str, Any]:
        """The arguments of a pipeline's call that let it be watched."""
        return {
            "callback_on_step_end": self._on_step_end,
            "callback_on_step_end_tensor_inputs": ["pred_original_sample"],
        }

    def on_tile(self, done: int, total: int) -> None:
        """Show how many tiles of a background are enlarged."""
        self._show(done, total)

    def _on_step_end(
        self, pipe: "DifFacePipeline", step: int, timestep: torch.Tensor, tensors: dict[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        preview = None if self._bar is None else _draw(tensors["pred_original_sample"])
        self._show(step + 1, pipe.num_timesteps, preview)
        return {}

    def _show(self, done: int, total: int, preview: Any = None) -> None:
        stop_if_asked()
        if self._bar is not None:
            self._bar.update_absolute(done, total, preview)


def _draw(clean: torch.Tensor) -> tuple[str, Any, int]:
    """Return faces `[N,3,S,S]` in [-1,1] side by side, in the form that ComfyUI takes previews."""
    from difface_diffusers.imaging.tensors import from_tensors

    row = torch.cat(list((clean / 2 + 0.5).clamp(0, 1)), dim=-1)
    return "JPEG", from_tensors([row], "pil")[0], PREVIEW_SIDE


@contextmanager
def watching(pipe: "DifFacePipeline") -> Generator[Watch]:
    """Show how far a run of a pipeline is; a cancelled one ends before the next call of any of its networks."""
    networks: tuple[Any, ...] = (pipe.unet, pipe.estimator)
    hooks = [network.register_forward_pre_hook(lambda *_: stop_if_asked()) for network in networks]
    try:
        yield Watch()
    finally:
        for hook in hooks:
            hook.remove()
        free_memory()
