from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from difface_diffusers import restore_photo
from difface_diffusers.photos.changes import changed_area
from tests.photos.test_restore import KnownFaces, landmarks_at, picture


DETECTOR = KnownFaces(landmarks_at(40, 60, 60), landmarks_at(100, 50, 50, degrees=15))


@pytest.mark.parametrize("upscale", [1, 2.5])
def test_holds_all_that_changed(pipe, upscale):
    photo = picture()
    arguments = {"upscale": upscale, "generator": torch.Generator().manual_seed(0)}
    restoration = restore_photo(pipe, photo, DETECTOR, **arguments)
    changed = (restoration.image != restore_photo(pipe, photo, faces=[], **arguments).image).any(axis=-1)
    area = changed_area(restoration)
    assert area.shape == changed.shape and area.dtype == np.float32
    assert area.min() == 0 and area.max() == 1
    assert not changed[area == 0].any() and changed[area == 1].mean() > 0.9


def test_leaves_out_faces_that_were_left_as_they_are(pipe):
    restoration = restore_photo(pipe, Image.fromarray(picture()), DETECTOR, upscale=1)
    first, second = restoration.treatments
    area = changed_area(replace(restoration, treatments=[replace(first, repaired=0.0), second]))
    assert area[50, 100] == 1 and area[60, 40] == 0


def test_is_empty_without_a_face(pipe):
    assert not changed_area(restore_photo(pipe, picture(), faces=[])).any()
