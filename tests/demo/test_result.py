from dataclasses import replace

import numpy as np
import pytest
import torch

from difface_diffusers import restore_photo
from difface_diffusers.demo.files import write_array
from difface_diffusers.demo.result import VIEW_SIDE, Restored, draw_uncertainty, face_sheets, paste, view
from difface_diffusers.imaging.files import read_photo
from difface_diffusers.imaging.metadata import Metadata, PhotoFile
from difface_diffusers.photos.upscale import BACKGROUNDS

from .conftest import PHOTOGRAPH


LANCZOS = BACKGROUNDS["lanczos"]
METADATA = Metadata(dpi=(300, 300))


@pytest.fixture(scope="module")
def photo():
    """The same person twice, side by side, 16 bits with alpha."""
    rgb = np.tile(read_photo(PHOTOGRAPH).pixels, (1, 2, 1))
    alpha = np.full((*rgb.shape[:2], 1), 200, np.uint8)
    return PhotoFile(np.dstack([rgb, alpha]).astype(np.uint16) * 257, METADATA)


@pytest.fixture(scope="module")
def result(photo, restorer):
    restoration = restore_photo(
        restorer, photo.pixels, upscale=1, generator=torch.Generator().manual_seed(0), num_samples=2
    )
    enlarged = np.dstack([LANCZOS(photo.pixels[..., :3], (480, 960)), np.full((480, 960), 200 * 257, np.uint16)])
    return Restored(str(PHOTOGRAPH), write_array(enlarged), restoration, 2, "auto", 1, True, None)


def test_all_faces_put_back_is_what_restore_photo_makes(photo, restorer, result):
    generator = torch.Generator().manual_seed(0)
    whole = restore_photo(
        restorer, photo.pixels, upscale=1.5, background="lanczos", generator=generator, num_samples=2
    )
    for sample in (0, 1):
        pasted, _ = paste(photo, result, [0, 1], sample)
        difference = np.abs(pasted.pixels.astype(int) - whole.images[sample])
        assert difference.max() <= 257  # the faces are kept with 8 bits
    assert pasted.metadata == METADATA and pasted.pixels.dtype == np.uint16 and pasted.pixels.shape == (480, 960, 4)


def test_without_faces_it_is_only_enlarged(photo, result):
    pasted, before = paste(photo, result, [], 0)
    assert np.array_equal(before, LANCZOS(photo.pixels[..., :3], (480, 960)))
    assert np.array_equal(pasted.pixels[..., :3], before)


def test_a_face_that_is_left_out_stays(photo, result):
    pasted, before = paste(photo, result, [1], 0)
    changed = np.abs(pasted.pixels[..., :3].astype(int) - before).max(axis=(0, 2))
    assert changed[:480].max() == 0 and changed[480:].max() > 1000


def test_gray_stays_gray(restorer):
    gray = PhotoFile(read_photo(PHOTOGRAPH).pixels.mean(axis=-1).astype(np.uint8), Metadata())
    restoration = restore_photo(restorer, gray.pixels, upscale=1)
    enlarged = write_array(gray.pixels.repeat(2, 0).repeat(2, 1)[..., None].repeat(3, -1))
    result = Restored(str(PHOTOGRAPH), enlarged, restoration, 1, "auto", 1, True, None)
    pasted, before = paste(gray, result, [0], 0)
    assert pasted.pixels.shape == (640, 640) and before.shape == (640, 640, 3)


def test_samples_differ_only_in_the_faces(photo, result):
    glow = np.asarray(draw_uncertainty(photo, result)).astype(int) - dark(photo)
    assert glow[:, :320].max() > 50 and glow[:, 320:].max() > 50
    assert glow.min() >= -1
    assert glow[200:].max() <= 4 >= glow[:, :20].max()  # the map's lowest color is not quite black


def test_equal_versions_have_no_deviation(photo, restorer):
    restoration = restore_photo(restorer, photo.pixels, upscale=1)
    twice = replace(restoration, restored=[face for face in restoration.restored for _ in range(2)])
    drawn = np.asarray(draw_uncertainty(photo, Restored("", "", twice, 2, "auto", 1, True, None)))
    assert np.abs(drawn - dark(photo)).max() <= 4


def dark(photo):
    """A photograph in gray, of three tenths of its brightness."""
    return np.rint((photo.pixels[..., :3] / 257) @ [[0.0897] * 3, [0.1761] * 3, [0.0342] * 3])


def test_a_sheet_for_each_face_of_the_version(result):
    sheets = [face_sheets(result, sample) for sample in (0, 1)]
    assert [len(faces) for faces in sheets] == [2, 2]
    first, second = (np.asarray(faces[1]) for faces in sheets)
    side = result.restoration.crops[0].width
    assert np.array_equal(second[-side - 4 : -4, -side - 4 : -4], np.asarray(result.restoration.restored[3]))
    assert np.array_equal(first[:, : 2 * side], second[:, : 2 * side]) and not np.array_equal(first, second)


def test_the_browser_gets_no_more_than_it_can_show():
    assert view(np.zeros((100, 5000, 4), np.uint16)).size == (VIEW_SIDE, 41)
    assert view(np.full((3, 2), 7, np.uint8)).getpixel((0, 0)) == (7, 7, 7)
