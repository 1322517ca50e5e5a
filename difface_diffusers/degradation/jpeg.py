"""The JPEG round trip."""

import cv2
import numpy as np


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """Round to 8 bits, pass through a JPEG of `quality` and return float32 in [0,1]."""
    bgr = np.rint(image[..., ::-1] * 255).clip(0, 255).astype(np.uint8)
    _, buffer = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(buffer, cv2.IMREAD_COLOR))[..., ::-1].astype(np.float32) / 255
