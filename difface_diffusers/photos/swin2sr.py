"""Enlarging a photo by a Swin2SR network of transformers."""

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

from ..utils.extras import import_extra
from .tiles import OnTile, Tiling, enlarge_in_tiles


class Swin2SRUpscaler:
    """Enlarges by a Swin2SR super-resolution network (Conde et al. 2022, arXiv 2209.11345), tile by tile.

    The network's own factor is fixed; what it makes of a tile is resampled by an antialiased Lanczos filter to the
    size asked for. It sees more than the tile, so that neighbors agree where they meet.

    Args:
        model: a `transformers.Swin2SRForImageSuperResolution` in eval mode; it runs where and in the dtype it is.
        tile_size: side of a tile in pixels of the photo.
        overlap: pixels of the photo that the network sees beyond each side of the tile. Whatever the photo's size,
            it never sees more than `tile_size + 2 * (overlap + window_size)` pixels a side.

    Raises:
        ValueError: `tile_size` below 1, `overlap` below 0, or a network that cannot enlarge RGB photos.
    """

    def __init__(self, model: Any, tile_size: int = 192, overlap: int = 16) -> None:
        accepted = {
            # Left out: "pixelshuffle_aux", for which transformers does not normalize the bicubic copy as the original
            # does, and those that restore without enlarging.
            "upsampler": ("pixelshuffle", "pixelshuffledirect", "nearest+conv"),
            "num_channels": (3,),
            "num_channels_out": (3,),
            "patch_size": (1,),
            "use_absolute_embeddings": (False,),
        }
        for name, values in accepted.items():
            value = getattr(model.config, name)
            if value not in values:
                raise ValueError(f"`model.config.{name}` is {value!r}; accepted is {' or '.join(map(repr, values))}.")
        self.model = model
        self.tiling = Tiling(tile_size, overlap, multiple=model.config.window_size)

    @classmethod
    def from_pretrained(
        cls, name: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
    ) -> "Swin2SRUpscaler":
        """Load a network by its Hub id or from a folder, which holds config.json and the weights.

        Args:
            name: Hub id or folder.
            device: where the network runs.
            dtype: of its weights; as saved if `None`.

        Raises:
            ImportError: `transformers` is missing.
            OSError: nothing there, or a file that cannot be read.
            ValueError: not a Swin2SR network that enlarges RGB photos, or weights that are damaged, unsafe or not
                those that config.json asks for.
        """
        transformers = import_extra("transformers", "upscale", "Swin2SR needs")
        problem = f"{str(name)!r} cannot be loaded as a Swin2SR network"
        try:
            config, _ = transformers.Swin2SRConfig.get_config_dict(name)
            if config.get("model_type") != "swin2sr":  # would be loaded all the same, with random weights
                raise ValueError(f"config.json has the model_type {config.get('model_type')!r}, not 'swin2sr'.")
            model, report = transformers.Swin2SRForImageSuperResolution.from_pretrained(
                name, dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True
            )
            wrong = {*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])}
            # Buffers may be left over, from older versions of transformers.
            wrong.update(key for key in report["unexpected_keys"] if key.endswith((".weight", ".bias")))
            if wrong:
                raise ValueError(f"the weights do not fit config.json: {len(wrong)} differ, such as {min(wrong)}.")
            upscaler = cls(model)
        except OSError as error:
            raise OSError(f"{problem}. {error}") from error
        except (UnpicklingError, EOFError) as error:  # torch's own message suggests to switch its protection off
            raise ValueError(f"{problem}. The weights are a damaged or unsafe pickle.") from error
        except (ValueError, TypeError, RuntimeError, SafetensorError, StrictDataclassError) as error:
            raise ValueError(f"{problem}. {error}") from error
        model.to(device)
        return upscaler

    @torch.inference_mode()
    def __call__(self, photo: np.ndarray, size: tuple[int, int], on_tile: OnTile | None = None) -> np.ndarray:
        """Enlarge `[H,W,3]`, uint8 or uint16, to `[*size,3]`; a photo that has this size already is copied.

        Args:
            photo: RGB, upright.
            size: height and width of the result.
            on_tile: see `enlarge_in_tiles`.

        Raises:
            ValueError: another shape or dtype, or a `size` below the photo's.
            RuntimeError: the network's result is not finite.
        """
        return enlarge_in_tiles(photo, size, self.model.config.upscale, self._run, self.tiling, on_tile)

    def _run(self, pixels: np.ndarray) -> np.ndarray:
        """Enlarge `[h,w,3]` in [0,1] to `[3,h*upscale,w*upscale]`, about [0,1], both float32."""
        height, width = pixels.shape[:2]
        window, scale = self.model.config.window_size, self.model.config.upscale
        # The network takes whole windows only; the original pads in this way.
        padded = np.pad(pixels, ((0, -height % window), (0, -width % window), (0, 0)), mode="symmetric")
        image = torch.from_numpy(padded.transpose(2, 0, 1)[None].copy()).to(self.model.device, self.model.dtype)
        enlarged = self.model(pixel_values=image).reconstruction[0].float()
        if not enlarged.isfinite().all():
            raise RuntimeError(f"Swin2SR's result is not finite in {self.model.dtype}; try float32 or bfloat16.")
        return enlarged[:, : height * scale, : width * scale].cpu().numpy()
