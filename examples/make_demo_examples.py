"""Make the pictures that the demo offers to visitors, from the same portrait as the other examples.

    python -m examples.make_demo_examples

scikit-image is needed to make them, not to use them.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from difface_diffusers.faces.compositing import to_gray
from difface_diffusers.training.degradation import DegradationRanges, degrade

from .make_astronaut import make_pair


SEED = 2
SIDE = 320  # of the photographs, pixels
BLURRED = DegradationRanges(
    blur_sigma=(2.4, 2.6), downscale=(3.2, 3.4), noise_sigma=(6, 7), jpeg_quality=(50, 55), gray_probability=0
)
GRAINY = DegradationRanges(
    blur_sigma=(1.4, 1.6), downscale=(2, 2.2), noise_sigma=(12, 13), jpeg_quality=(60, 65), gray_probability=0
)
SEPIA = np.array([1.0, 0.88, 0.70], np.float32)  # of the light parts
FADED = (0.18, 0.92)  # levels of black and white in an old print
SCRATCHES = [  # of the face of 256 pixels: width and corners (x, y), pixels
    (3, [(40, 0), (88, 90), (104, 150), (150, 255)]),
    (2, [(0, 120), (70, 132), (170, 110), (255, 128)]),
    (5, [(178, 60), (160, 140), (186, 220)]),
]
PAPER = (232, 226, 214)


def shrink_and_degrade(photo: np.ndarray, recipe: DegradationRanges) -> np.ndarray:
    """Shrink `[512,512,3]`, uint8, to `[SIDE,SIDE,3]` and degrade it; float32 in [0,1]."""
    small = cv2.resize(photo, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return degrade(small.astype(np.float32) / 255, recipe, np.random.default_rng(SEED))


def fade(photo: np.ndarray) -> np.ndarray:
    """Turn a picture `[H,W,3]`, float32 in [0,1], into a faded sepia print."""
    gray = to_gray(photo)
    low, high = FADED
    return (low + (high - low) * gray) * (1 - (1 - SEPIA) * np.sqrt(gray))


def scratch(face: np.ndarray) -> np.ndarray:
    """Scratch a face `[256,256,3]`, uint8."""
    scratched = face.copy()
    for width, corners in SCRATCHES:
        cv2.polylines(scratched, [np.array(corners, np.int32)], isClosed=False, color=PAPER, thickness=width)
    return scratched


def main(argv: Sequence[str] | None = None) -> int:
    """Write the three pictures."""
    parser = argparse.ArgumentParser(description="Make the example pictures of the demo.")
    parser.add_argument("--output", type=Path, default=Path("difface_diffusers/demo/examples"), help="folder")
    output = parser.parse_args(argv).output

    from skimage.data import astronaut

    output.mkdir(parents=True, exist_ok=True)
    blurred, grainy = (shrink_and_degrade(astronaut(), recipe) for recipe in (BLURRED, GRAINY))
    photographs = {"photograph": blurred, "old_print": fade(grainy)}
    pictures = {name: np.rint(picture * 255).astype(np.uint8) for name, picture in photographs.items()}
    for name, picture in (pictures | {"scratched": scratch(make_pair(astronaut())[0])}).items():
        Image.fromarray(picture).save(output / f"{name}.png", optimize=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
