"""Make the examples: a small, degraded photograph, whole and torn; an aligned, degraded face; and the face it was made from.

    python examples/make_astronaut.py

The source is the NASA portrait of Eileen Collins that scikit-image carries, in the public domain. scikit-image is
needed to make the pictures, not to use them.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from difface_diffusers.degradation.blind import DegradationRanges, degrade
from difface_diffusers.faces.alignment import estimate_similarity


# Left eye, right eye, nose tip, left and right mouth corner (left as the viewer sees it), (x, y) in pixels whose
# centers are whole numbers. Found in skimage.data.astronaut() by OpenCV's YuNet (2023mar), mean of 17 detections on
# the head enlarged 1 to 3 times (a single one is off by 1 to 2 pixels).
ASTRONAUT_POINTS = np.array([(203.38, 101.93), (246.12, 104.49), (223.12, 127.34), (202.78, 142.26), (241.86, 144.29)])
# The same five points on the bundled model's training faces, scaled to 512 x 512: YuNet's mean over 200 of them and
# six sizes. DifFace's own template is (192.98,239.95) (318.90,240.19) (256.63,314.02) (201.26,371.41) (313.09,371.15),
# which is the same to 4 pixels, that is to 2 pixels at 256 x 256.
TRAINING_POINTS_512 = np.array(
    [(191.70, 240.15), (319.35, 240.61), (257.46, 316.46), (197.91, 373.36), (310.51, 373.88)]
)

FACE_SIZE = 256
SEED = 1
# A little milder than the middle of the training range, which leaves this face without eyes.
RECIPE = DegradationRanges(
    blur_sigma=(5, 7), downscale=(11, 13), noise_sigma=(8, 12), jpeg_quality=(55, 75), gray_probability=0
)
# The same for the whole photograph, whose side is 3.1 times that of the face; lengths in pixels of 512.
PHOTO_SIZE = 256
PHOTO_RECIPE = DegradationRanges(
    blur_sigma=(2, 2.4), downscale=(3.2, 3.4), noise_sigma=(7, 8), jpeg_quality=(55, 65), gray_probability=0
)
# Tears of it: width and corners (x, y), pixels.
TEARS = [
    (6, [(0, 142), (58, 112), (92, 62), (126, 47), (148, 18), (190, 0)]),
    (4, [(118, 70), (128, 84), (124, 97), (205, 120), (255, 118)]),
    (3, [(12, 255), (96, 196), (150, 190), (255, 226)]),
]
PAPER = 236


def make_pair(photo: np.ndarray, seed: int = SEED) -> tuple[np.ndarray, np.ndarray]:
    """Crop the clean face and degrade a copy of it.

    Args:
        photo: skimage.data.astronaut(), `[512,512,3]`, RGB, uint8.
        seed: of the degradation.

    Returns:
        The clean face and the degraded one, `[256,256,3]`, RGB, uint8.
    """
    # Pixel centers: a point p of a face of 512 pixels lies at (p + 0.5) / 2 - 0.5 of one of 256.
    target = (TRAINING_POINTS_512 + 0.5) * FACE_SIZE / 512 - 0.5
    matrix = estimate_similarity(ASTRONAUT_POINTS, target)
    clean = cv2.warpAffine(photo, matrix, (FACE_SIZE, FACE_SIZE), flags=cv2.INTER_CUBIC)
    degraded = degrade(clean.astype(np.float32) / 255, RECIPE, np.random.default_rng(seed))
    return clean, np.rint(degraded * 255).astype(np.uint8)


def make_photo(photo: np.ndarray, seed: int = SEED) -> np.ndarray:
    """Shrink skimage.data.astronaut() to `[256,256,3]` and degrade it; RGB, uint8."""
    small = cv2.resize(photo, (PHOTO_SIZE, PHOTO_SIZE), interpolation=cv2.INTER_AREA)
    degraded = degrade(small.astype(np.float32) / 255, PHOTO_RECIPE, np.random.default_rng(seed))
    return np.rint(degraded * 255).astype(np.uint8)


def tear(photo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tear the photograph `[256,256,3]`; return it and the mask `[256,256]`, 255 where it is torn."""
    mask = np.zeros(photo.shape[:2], np.uint8)
    for width, corners in TEARS:
        cv2.polylines(mask, [np.array(corners, np.int32)], isClosed=False, color=255, thickness=width)
    return np.where(mask[..., None] > 0, np.uint8(PAPER), photo), mask


def main(argv: Sequence[str] | None = None) -> int:
    """Write the five pictures."""
    parser = argparse.ArgumentParser(description="Make the example photograph, face and degraded face.")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, help="folder to write to")
    output = parser.parse_args(argv).output

    from skimage.data import astronaut

    output.mkdir(parents=True, exist_ok=True)
    clean, degraded = make_pair(astronaut())
    photo = make_photo(astronaut())
    torn, mask = tear(photo)
    pictures = {
        "astronaut_clean.png": clean,
        "astronaut.png": degraded,
        "astronaut_photo.png": photo,
        "astronaut_torn.png": torn,
        "astronaut_torn_mask.png": mask,
    }
    for name, picture in pictures.items():
        Image.fromarray(picture).save(output / name, optimize=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
