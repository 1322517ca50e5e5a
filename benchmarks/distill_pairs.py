"""What a small upscaler learns from: patches of pictures, shrunk, and what a large network makes of them.

Patches are cut from photographs and from painted textures. The teacher sees them shrunk but otherwise whole, so that its
answers hold no guesses about noise and blocks; these are added while the student is trained (`distill_upscaler`).
"""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from benchmarks.backgrounds import textured_background
from difface_diffusers.imaging.files import load_image
from difface_diffusers.models.rrdbnet import RRDBNet
from difface_diffusers.models.srvgg import SRVGGNetCompact
from difface_diffusers.utils.atomic import whole_file


SCALE = 2  # of the student
SIDE = 96  # of a patch that is enlarged, pixels
PAINTED = 0.25  # share of patches that are painted
CANDIDATES = 3  # of which the patch with most fine detail is taken: most of a portrait is smooth
LARGEST_SHRINK = 1.8  # by which a photograph is shrunk before a patch is cut
SHARD, BATCH = 32, 2  # pairs in a file, and at once in the teacher

Upscaling = RRDBNet | SRVGGNetCompact


def make_pairs(
    files: Sequence[Path], teacher: Upscaling, folder: Path, count: int, seed: int, side: int = SIDE
) -> None:
    """Write at least `count` pairs in files of `SHARD`; files that are there already are kept.

    Args:
        files: photographs.
        teacher: network in eval mode, of a factor of `SCALE` or more.
        folder: for the files: arrays `small` `[n,side,side,3]`, `clean` and `teacher` `[n,SCALE*side,SCALE*side,3]`, uint8.
        count: number of pairs.
        seed: each file depends on it and on its own number only.
        side: of `small`, pixels.
    """
    for number in tqdm(range(-(-count // SHARD)), unit="shard"):
        path = folder / f"{number:04}.npz"
        if path.exists():
            continue
        rng = np.random.default_rng((seed, number))
        clean = [choose_patch(files, SCALE * side, rng) for _ in range(SHARD)]
        small = [shrink(patch, rng) for patch in clean]
        answers = [answer for first in range(0, SHARD, BATCH) for answer in ask(teacher, small[first : first + BATCH])]
        with whole_file(path) as file:
            np.savez(file, small=np.stack(small), clean=np.stack(clean), teacher=np.stack(answers))


def choose_patch(files: Sequence[Path], side: int, rng: np.random.Generator) -> np.ndarray:
    """Paint `[side,side,3]` uint8, or cut it from the photographs where there is detail."""
    if rng.random() < PAINTED:
        return _page(rng, side) if rng.random() < 0.3 else textured_background(rng, side, side)
    candidates = [cut_patch(files, side, rng) for _ in range(CANDIDATES)]
    return max(candidates, key=lambda patch: np.abs(cv2.Laplacian(patch, cv2.CV_32F)).mean())


def cut_patch(files: Sequence[Path], side: int, rng: np.random.Generator) -> np.ndarray:
    """Return `[side,side,3]` uint8 of a photograph, more or less shrunk."""
    photo = np.asarray(load_image(files[int(rng.integers(len(files)))]).convert("RGB"))
    largest = min(LARGEST_SHRINK, min(photo.shape[:2]) / side)
    factor = 1 / rng.uniform(min(1, largest), largest)  # above 1 only if the photograph is smaller than a patch
    height, width = (max(side, round(factor * length)) for length in photo.shape[:2])
    if (height, width) != photo.shape[:2]:
        photo = np.asarray(Image.fromarray(photo).resize((width, height), Image.Resampling.LANCZOS))
    top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
    return photo[top : top + side, left : left + side]


def shrink(patch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shrink `[H,W,3]` uint8 by `SCALE`; half the patches are blurred before."""
    size = patch.shape[1] // SCALE, patch.shape[0] // SCALE
    if rng.random() < 0.5:
        patch = cv2.GaussianBlur(patch, (0, 0), rng.uniform(0.4, 1.4))
    if rng.random() < 0.5:
        return cv2.resize(patch, size, interpolation=cv2.INTER_AREA)
    return np.asarray(Image.fromarray(patch).resize(size, Image.Resampling.LANCZOS))


def ask(teacher: Upscaling, patches: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the teacher's answers `[SCALE*h,SCALE*w,3]` to patches `[h,w,3]`, uint8; reduced if its factor is larger."""
    images = torch.from_numpy(np.stack(patches)).permute(0, 3, 1, 2).to(teacher.device, teacher.dtype) / 255
    with torch.inference_mode():
        enlarged = teacher(images.contiguous(memory_format=torch.channels_last))
    pixels = (enlarged.float().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    size = SCALE * patches[0].shape[1], SCALE * patches[0].shape[0]
    return [np.asarray(Image.fromarray(answer).resize(size, Image.Resampling.LANCZOS)) for answer in pixels]


def _page(rng: np.random.Generator, side: int) -> np.ndarray:
    """Paint letters and lines on a plain ground."""
    ground, ink = rng.integers(0, 256, (2, 3))
    picture = np.full((side, side, 3), ground, np.uint8)
    for _ in range(rng.integers(3, 20)):
        place = rng.integers(-side // 4, side, 2).tolist()
        thickness = int(rng.integers(1, 4))
        if rng.random() < 0.6:
            text = "".join(map(chr, rng.integers(33, 127, 12)))
            font = int(
                rng.choice((cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_COMPLEX, cv2.FONT_HERSHEY_SCRIPT_SIMPLEX))
            )
            cv2.putText(picture, text, place, font, rng.uniform(0.4, 1.5), ink.tolist(), thickness, cv2.LINE_AA)
        else:
            cv2.line(picture, place, rng.integers(0, side, 2).tolist(), ink.tolist(), thickness, cv2.LINE_AA)
    return picture
