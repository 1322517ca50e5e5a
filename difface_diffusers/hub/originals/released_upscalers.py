"""Real-ESRGAN's networks by name: the files of its releases, fetched once."""

import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub.constants import HF_HUB_OFFLINE
from tqdm import tqdm

from ...models.rrdbnet import RRDBNet
from ...models.srvgg import SRVGGNetCompact
from ...utils.checks import check_number
from ..assets import assets_folder
from ..download import download
from .upscalers import load_upscaler_file


RELEASES = "https://github.com/xinntao/Real-ESRGAN/releases/download"  # BSD-3-Clause


@dataclass(frozen=True)
class ReleasedFile:
    """A file of a release.

    Attributes:
        path: below `RELEASES`.
        sha256: of the file.
    """

    path: str
    sha256: str


RELEASED = {
    "realesr-general-x4v3": ReleasedFile(
        "v0.2.5.0/realesr-general-x4v3.pth", "8dc7edb9ac80ccdc30c3a5dca6616509367f05fbc184ad95b731f05bece96292"
    ),
    "realesr-general-wdn-x4v3": ReleasedFile(
        "v0.2.5.0/realesr-general-wdn-x4v3.pth", "1641f8c4464b9f097c9fdda5589273713f67cf59f3d909e0bd688f0cee269dca"
    ),
    "realesrgan-x2plus": ReleasedFile(
        "v0.2.1/RealESRGAN_x2plus.pth", "49fafd45f8fd7aa8d31ab2a22d14d91b536c34494a5cfe31eb5d89c2fa266abb"
    ),
    "realesrgan-x4plus": ReleasedFile(
        "v0.1.0/RealESRGAN_x4plus.pth", "4fa0d38905f75ac06eb49a7951b426670021be3018265fd191d2125df9d682f1"
    ),
}


GENTLE_TWINS = {"realesr-general-x4v3": "realesr-general-wdn-x4v3"}  # trained to leave noise as it is ("weak denoise")


def released_upscaler(name: str, denoise_strength: float = 1.0) -> RRDBNet | SRVGGNetCompact:
    """Return a network of Real-ESRGAN by its name; its file is fetched into Hugging Face's cache the first time.

    Args:
        name: one of `RELEASED`.
        denoise_strength: share of its own weights, 0 .. 1; the rest are those of its twin in `GENTLE_TWINS`, which leaves
            more of the noise.

    Raises:
        OSError: a file cannot be fetched, or `HF_HUB_OFFLINE` is set; the message says where to put it by hand.
        ValueError: there is no such name, it has no twin, or what arrived is not the file that it was.
    """
    check_denoising(name, denoise_strength)
    if denoise_strength == 1:
        return _load(name)
    network, twin = _load(name), _load(GENTLE_TWINS[name])
    with torch.no_grad():
        for weight, gentle in zip(network.parameters(), twin.parameters(), strict=True):
            weight.lerp_(gentle, 1 - denoise_strength)
    return network


def check_denoising(name: str | Path, denoise_strength: float) -> None:
    """Raise `ValueError` unless the network of a name can be mixed to this `denoise_strength`; see `released_upscaler`."""
    check_number("denoise_strength", denoise_strength, 0, 1)
    if denoise_strength < 1 and name not in GENTLE_TWINS:
        raise ValueError(
            f"`denoise_strength` is {denoise_strength}; below 1 is for {', '.join(GENTLE_TWINS)}, not {str(name)!r}."
        )


def _load(name: str) -> RRDBNet | SRVGGNetCompact:
    """Return a network as it was released."""
    if name not in RELEASED:
        raise ValueError(f"{name!r} is no network of Real-ESRGAN; there are {', '.join(RELEASED)}.")
    released = RELEASED[name]
    folder = assets_folder("real_esrgan")
    path = folder / Path(released.path).name
    if not path.exists():
        url = f"{RELEASES}/{released.path}"
        by_hand = f"fetch {url} elsewhere and put it there as {path}"
        if HF_HUB_OFFLINE:
            raise OSError(f"{name} is not in the cache, and HF_HUB_OFFLINE is set; {by_hand}.")
        tqdm.write(f"fetching {url} to {path}", file=sys.stderr)
        try:
            download(url, folder, released.sha256)
        except OSError as error:
            raise OSError(f"{error} Or {by_hand}.") from error
    return load_upscaler_file(path)
