"""Enlarging a photograph by a network of Real-ESRGAN."""

from pathlib import Path
from typing import cast

import cv2
import numpy as np
import torch
from safetensors import SafetensorError

from ..faces.compositing import to_gray
from ..hub.originals.released_upscalers import RELEASED, released_upscaler
from ..hub.originals.upscalers import load_upscaler_file
from ..models.rrdbnet import RRDBNet
from ..models.srvgg import SRVGGNetCompact
from ..utils.checks import check_integer, check_number
from ..utils.warning import warn_user
from .tiles import Tiling, check_request, enlarge_in_tiles


SMALLEST_TILE = 32  # tried when memory runs out, pixels of the photograph
NO_MEMORY = MemoryError, torch.OutOfMemoryError


class RealESRGANUpscaler:
    """Enlarges by RRDBNet or SRVGGNetCompact (Wang et al. 2021, arXiv 2107.10833), tile by tile.

    The network's own factor is fixed; what it makes of a tile is resampled by an antialiased Lanczos filter to the size asked
    for. A gray photograph stays gray. If memory runs out, smaller tiles are tried, and a warning says so.

    Args:
        model: in eval mode; it runs where and in the dtype it is.
        tile_size: side of a tile, pixels of the photograph.
        overlap: pixels that the network sees beyond what it draws, not more than a tile has; over half of it neighbors fade
            into each other.
        blend: share of the network's picture, 0 .. 1; the rest is enlarged by Lanczos.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self, model: RRDBNet | SRVGGNetCompact, tile_size: int = 256, overlap: int = 24, blend: float = 1.0
    ) -> None:
        check_integer("tile_size", tile_size, 1, None)
        check_integer("overlap", overlap, 0, tile_size, "`tile_size`")
        check_number("blend", blend, 0, 1)
        if not isinstance(model, RRDBNet | SRVGGNetCompact):
            raise ValueError(f"`model` is a {type(model).__name__}; it must be an RRDBNet or SRVGGNetCompact.")
        self.model = model
        self.tiling = Tiling(tile_size, overlap, fade=overlap // 4)
        self.blend = blend

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        device: str | torch.device = "cpu",
        dtype: torch.dtype | None = None,
        blend: float = 1.0,
    ) -> "RealESRGANUpscaler":
        """Load a network.

        Args:
            name: one of the releases (`RELEASED`), which is fetched the first time; an official file, `.pth` or
                `.safetensors`; or what `save_pretrained` wrote, a folder or Hub id.
            device: where the network runs.
            dtype: of its weights; float32 if `None`.
            blend: share of the network's picture, 0 .. 1; the rest is enlarged by Lanczos.

        Raises:
            OSError: nothing there, or a file that cannot be read.
            ValueError: another network, or weights that are damaged, unsafe or do not fit; the message has the name.
        """
        if name in RELEASED:
            model = released_upscaler(str(name))
        elif Path(name).is_file():
            model = load_upscaler_file(name)
        else:
            kind = kind_of_network(name)
            if kind is None:
                raise ValueError(f"{str(name)!r} is no RRDBNet or SRVGGNetCompact, or there is no such file.")
            try:
                model = kind.from_pretrained(name)
            except (RuntimeError, ValueError, SafetensorError) as error:
                raise ValueError(f"the weights in {str(name)!r} do not fit its config.json: {error}") from error
        model = model.eval().to(memory_format=torch.channels_last)
        return cls(model.to(device, dtype or torch.float32), blend=blend)

    def __call__(self, photo: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Enlarge `[H,W,3]`, uint8 or uint16, to `[*size,3]`; a photograph that has this size already is copied.

        Raises:
            ValueError: another shape or dtype, or a `size` below the photograph's.
            RuntimeError: the network's result is not finite.
            MemoryError: there is none even for small tiles; `torch.OutOfMemoryError` on a GPU.
        """
        check_request(photo, size)
        if photo.shape[:2] == tuple(size):
            return photo.copy()
        enlarged = self._enlarge(photo, size)
        if not np.ptp(photo, axis=-1).any():
            enlarged = np.rint(to_gray(enlarged)).astype(photo.dtype)
        if self.blend == 1:
            return enlarged
        plain = cv2.resize(photo, size[::-1], interpolation=cv2.INTER_LANCZOS4)
        return np.rint(plain + np.float32(self.blend) * (enlarged.astype(np.float32) - plain)).astype(photo.dtype)

    def _enlarge(self, photo: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Enlarge in tiles that fit into memory."""
        while True:
            try:
                return enlarge_in_tiles(photo, size, self.model.config["scale"], self._run, self.tiling)
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


def kind_of_network(name: str | Path) -> type[RRDBNet] | type[SRVGGNetCompact] | None:
    """Return the class that the config.json of a folder or Hub id names; `None` if it is another, or there is none."""
    try:
        config = cast(dict, RRDBNet.load_config(name))
    except (OSError, ValueError):
        return None
    return next((kind for kind in (RRDBNet, SRVGGNetCompact) if kind.__name__ == config.get("_class_name")), None)
