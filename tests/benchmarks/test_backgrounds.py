import numpy as np
import pytest

from benchmarks import backgrounds


@pytest.mark.parametrize("painter", ["_clouds", "_stripes", "_tiles", "_scatter"])
def test_painters_fill_the_picture_with_texture(painter):
    for seed in range(4):
        picture = getattr(backgrounds, painter)(np.random.default_rng(seed), 70, 110)
        assert picture.shape == (70, 110, 3) and picture.dtype == np.float32
        assert picture.min() >= 0 and picture.max() <= 255 and picture.std(axis=(0, 1)).max() > 2


def test_background_is_an_8_bit_picture_of_many_kinds():
    pictures = [backgrounds.textured_background(np.random.default_rng(seed), 60, 90) for seed in range(8)]
    assert all(picture.shape == (60, 90, 3) and picture.dtype == np.uint8 for picture in pictures)
    assert np.std([picture.mean() for picture in pictures]) > 10
