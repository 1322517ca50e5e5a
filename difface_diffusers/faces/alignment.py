"""Where a face lies in a photograph, and cutting it out upright.

Convention, here and in `detection` and `compositing`: points are (x, y) in pixels, x to the right, y down, and (0, 0) is the
top left *corner* of the picture, so that the first pixel's center is (0.5, 0.5) and enlarging a picture by f multiplies
every coordinate by f. Matrices are [2,3] float64 and named after their direction: `photo_to_face` takes a point of the
photograph to its place in the aligned face of S x S pixels.
"""

import cv2
import numpy as np


# FFHQ's mean landmarks in an aligned face of 512 x 512 (eyes, nose, mouth corners); what the original aligns to.
TEMPLATE_512 = np.array(
    [
        (192.98138, 239.94708),
        (318.90277, 240.1936),
        (256.63416, 314.01935),
        (201.26117, 371.41043),
        (313.08905, 371.15118),
    ]
)


def template(face_size: int) -> np.ndarray:
    """Return where the five landmarks lie in an aligned face of `face_size` pixels, `[5,2]`."""
    return TEMPLATE_512 * (face_size / 512)


def estimate_similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Fit the rotation, uniform scale and shift that take `source` nearest to `target` in the least-squares sense.

    Closed form of Umeyama (PAMI 1991, eqs. 40-42), without reflection.

    Args:
        source: points `[K,2]`, K at least 2.
        target: points `[K,2]`.

    Returns:
        The `[2,3]` matrix source to target.

    Raises:
        ValueError: the points are not `[K,2]`, not finite, or all of one side lie on one spot.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 2:
        raise ValueError(f"the points have shapes {list(source.shape)} and {list(target.shape)}; both must be [K,2].")
    if not (np.isfinite(source).all() and np.isfinite(target).all()):
        raise ValueError("the points have NaN or infinite coordinates; all must be finite.")
    source_mean, target_mean = source.mean(0), target.mean(0)
    source_centered, target_centered = source - source_mean, target - target_mean
    spread = (source_centered**2).sum()
    left, singular, right = np.linalg.svd(target_centered.T @ source_centered)
    signs = np.array([1.0, np.sign(np.linalg.det(left @ right))])
    scale = (singular * signs).sum() / spread if spread > 1e-6 else 0.0
    if scale < 1e-6:
        raise ValueError(f"the points {source.round(2).tolist()} lie on one spot or mirrored; no face can be aligned.")
    rotation = scale * (left * signs) @ right
    return np.column_stack([rotation, target_mean - rotation @ source_mean])


def align(landmarks: np.ndarray, face_size: int) -> np.ndarray:
    """Return the `photo_to_face` matrix `[2,3]` that brings the five landmarks `[5,2]` nearest to the template."""
    return estimate_similarity(landmarks, template(face_size))


def invert(matrix: np.ndarray) -> np.ndarray:
    """Return the `[2,3]` matrix of the opposite direction."""
    return cv2.invertAffineTransform(matrix)


def compose(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the `[2,3]` matrix that applies `first`, then `second`."""
    return second[:, :2] @ first + np.column_stack([np.zeros((2, 2)), second[:, 2]])


def transform(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Apply a `[2,3]` matrix to points `[K,2]`."""
    return points @ matrix[:, :2].T + matrix[:, 2]


def scale_of(matrix: np.ndarray) -> float:
    """Return by how much a `[2,3]` matrix enlarges lengths."""
    return float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))


def warp(
    image: np.ndarray, source_to_target: np.ndarray, size: tuple[int, int], border: int = cv2.BORDER_REFLECT
) -> np.ndarray:
    """Draw the part of a picture that a matrix brings into a frame; bicubic and antialiased.

    Args:
        image: `[H,W]` or `[H,W,C]`, uint8, uint16 or float32.
        source_to_target: `[2,3]`, pixels of `image` to pixels of the frame.
        size: height and width of the frame.
        border: OpenCV's name of what lies beyond the edges, mirrored or 0 (`cv2.BORDER_CONSTANT`).

    Returns:
        The frame, of the dtype of `image`; integers are rounded and clipped, floats may overshoot a little.
    """
    height, width = image.shape[:2]
    corners = np.array([(0.0, 0.0), (size[1], 0.0), (0.0, size[0]), (size[1], size[0])])
    seen = transform(corners, invert(source_to_target))
    margin = 4 + 4 / scale_of(source_to_target)
    left, top = np.clip(np.floor(seen.min(0) - margin), 0, (width - 1, height - 1)).astype(int)
    right, bottom = np.clip(np.ceil(seen.max(0) + margin), (left + 1, top + 1), (width, height)).astype(int)
    part = image[top:bottom, left:right]
    shrink = min(1.0, scale_of(source_to_target))
    rows, columns = (max(1, round(side * shrink)) for side in part.shape[:2])
    small = part if shrink == 1 else cv2.resize(part, (columns, rows), interpolation=cv2.INTER_AREA)
    small_to_image = np.array([[part.shape[1] / columns, 0, left], [0, part.shape[0] / rows, top]], np.float64)
    matrix = compose(small_to_image, source_to_target)
    matrix[:, 2] += (matrix[:, :2].sum(1) - 1) / 2  # OpenCV counts from the center of the first pixel
    return cv2.warpAffine(np.ascontiguousarray(small), matrix, size[::-1], flags=cv2.INTER_CUBIC, borderMode=border)
