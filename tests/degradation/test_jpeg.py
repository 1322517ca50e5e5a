import io

import numpy as np
from PIL import Image

from difface_diffusers.degradation.jpeg import jpeg

from ..training.tiny import face


def test_jpeg_is_that_of_pillow():
    buffer = io.BytesIO()
    Image.fromarray(face(3)).save(buffer, "JPEG", quality=40)
    expected = np.asarray(Image.open(buffer)).astype(np.float32) / 255
    assert np.abs(jpeg(face(3).astype(np.float32) / 255, 40) - expected).max() <= 3 / 255


def test_jpeg_rounds_to_8_bits():
    image = np.full((8, 8, 3), 100.4 / 255, dtype=np.float32)
    np.testing.assert_allclose(jpeg(image, 100), 100 / 255, atol=1e-6)
    np.testing.assert_allclose(jpeg(image + np.float32(0.2 / 255), 100), 101 / 255, atol=1e-6)
