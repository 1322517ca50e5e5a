"""Enlarging a photograph by a network of Real-ESRGAN."""

from pathlib import Path
from typing import cast

import numpy as np
import torch
from safetensors import SafetensorError

from ..acceleration.processor import fastest_dtype
from ..faces.compositing import to_gray
from ..hub.originals.released_upscalers import RELEASED, released_upscaler
from ..hub.originals.upscalers import load_upscaler_file
from ..models.rrdbnet import RRDBNet
from ..models.srvgg import SRVGGNetCompact
from ..utils.checks import check_integer
from ..utils.warning import warn_user
from .tiles import OnTile, Tiling, enlarge_in_tiles


SMALLEST_TILE = 32  # tried when memory runs out, pixels of the photograph
NO_MEMORY = MemoryError, torch.OutOfMemoryError


class RealESRGANUpscaler:
    """Enlarges by RRDBNet or SRVGGNetCompact (Wang et al. 2021, arXiv 2107.10833), tile by tile.

    The network's own factor is fixed; what it makes of a tile is resampled by an antialiased Lanczos filter to the size asked
    for. A gray photograph stays gray. If memory runs out, smaller tiles are tried, and a warning says so.

    Args:
        model: in eval mode; it is moved, see the last two.
        tile_size: side of a tile, pixels of the photograph.
        overlap: pixels that the network sees beyond what it draws, not more than a tile has; over half of it neighbors fade
            into each other.
        device: where the network runs; where it is if `None`.
        dtype: of its weights; the one in which `device` is fastest if `None`: float16, or on a CPU bfloat16 where it has
            instructions for it, else float32, as on Apple's GPUs.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        model: RRDBNet | SRVGGNetCompact,
        tile_size: int = 256,
        overlap: int = 24,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_integer("tile_size", tile_size, 1, None)
        check_integer("overlap", overlap, 0, tile_size, "`tile_size`")
        if not isinstance(model, RRDBNet | SRVGGNetCompact):
            raise ValueError(f"`model` is a {type(model).__name__}; it must be an RRDBNet or SRVGGNetCompact.")
        device = model.device if device is None else device
        dtype = fastest_dtype(device) if dtype is None else dtype
        self.model = model.to(memory_format=torch.channels_last)
        torch.nn.Module.to(model, device, dtype)  # the one of diffusers 0.42 warns of every dtype
        self.tiling = Tiling(tile_size, overlap, fade=overlap // 4)

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        device: str | torch.device = "cpu",
        dtype: torch.dtype | None = None,
        denoise_strength: float = 1.0,
    ) -> "RealESRGANUpscaler":
        """Load a network.

        Args:
            name: one of the releases (`RELEASED`), which is fetched the first time; an official file, `.pth` or
                `.safetensors`; or what `save_pretrained` wrote, a folder or Hub id.
            device: where the network runs.
            dtype: see the class.
            denoise_strength: see `released_upscaler`.

        Raises:
            OSError: nothing there, or a file that cannot be read.
            ValueError: another network, or weights that are damaged, unsafe or do not fit; the message has the name.
        """
        network = find_network(name, denoise_strength)
        if network is None:
            raise ValueError(f"{str(name)!r} is no RRDBNet or SRVGGNetCompact, or there is no such file.")
        return cls(network, device=device, dtype=dtype)

    def __call__(self, photo: np.ndarray, size: tuple[int, int], on_tile: OnTile | None = None) -> np.ndarray:
        """Enlarge `[H,W,3]`, uint8 or uint16, to `[*size,3]`; a photograph that has this size already is copied.

        Args:
            photo: RGB, upright.
            size: height and width of the result.
            on_tile: see `enlarge_in_tiles`.

        Raises:
            ValueError: another shape or dtype, or a `size` below the photograph's.
            RuntimeError: the network's result is not finite.
            MemoryError: there is none even for small tiles; `torch.OutOfMemoryError` on a GPU.
        """
        is_gray = not np.ptp(photo, axis=-1).any()

        def run(pixels: np.ndarray) -> np.ndarray:
            enlarged = self._run(pixels)
            return to_gray(enlarged.transpose(1, 2, 0)).transpose(2, 0, 1).copy() if is_gray else enlarged

        while True:
            try:
                return enlarge_in_tiles(photo, size, self.model.config["scale"], run, self.tiling, on_tile)
            except NO_MEMORY:
                half = self.tiling.size // 2
                if half < max(SMALLEST_TILE, self.tiling.overlap):
                    raise
                warn_user(f"no memory for tiles of {self.tiling.size} pixels; trying {half}")
                self.tiling = Tiling(half, self.tiling.overlap, self.tiling.fade)

    def _run(self, pixels: np.ndarray) -> np.ndarray:
        """Enlarge `[h,w,3]` in [0,1] to `[3,scale*h,scale*w]`, about [0,1], both float32."""
        image = torch.from_numpy(pixels).permute(2, 0, 1)[None].to(self.model.device, self.model.dtype)
        with torch.inference_mode():
            enlarged = self.model(image.contiguous(memory_format=torch.channels_last))[0].float()
        if not enlarged.isfinite().all():
            raise RuntimeError(f"the network's result is not finite in {self.model.dtype}; try float32 or bfloat16.")
        return enlarged.cpu().contiguous().numpy()


def find_network(name: str | Path, denoise_strength: float = 1.0) -> RRDBNet | SRVGGNetCompact | None:
    """Return the network of a name as `RealESRGANUpscaler.from_pretrained` takes it; `None` if it is none of Real-ESRGAN's."""
    if name in RELEASED:
        return released_upscaler(str(name), denoise_strength)
    if Path(name).is_file():
        return load_upscaler_file(name)
    try:
        config = cast(dict, RRDBNet.load_config(name))
    except (OSError, ValueError):
        return None
    for kind in (RRDBNet, SRVGGNetCompact):
        if kind.__name__ == config.get("_class_name"):
            try:
                return kind.from_pretrained(name)
            except (RuntimeError, ValueError, SafetensorError) as error:
                raise ValueError(f"the weights in {str(name)!r} do not fit its config.json: {error}") from error
    return None
