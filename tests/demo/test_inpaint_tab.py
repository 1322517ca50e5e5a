import gradio as gr
import numpy as np
import pytest
from PIL import Image

from difface_diffusers.demo.inpaint_tab import InpaintTab, painted, summary
from difface_diffusers.demo.restore_tab import EXAMPLES

from .conftest import pixels


FACE = EXAMPLES / "scratched.png"


@pytest.fixture
def tab(inpainter, cache):
    with gr.Blocks():
        return InpaintTab(inpainter)


def layer(left, top, right, bottom, opacity=255, size=(256, 256)):
    """A layer of the editor that is painted on in a box."""
    paint = np.zeros((size[1], size[0], 4), np.uint8)
    paint[top:bottom, left:right] = (255, 0, 0, opacity)
    return Image.fromarray(paint)


def fill(tab, *layers, randomize=False, seed=0):
    edited = {"background": Image.open(FACE).convert("RGBA"), "layers": list(layers), "composite": None}
    return tab.fill_painted(edited, randomize, 200, 0.5, 1.0, 4, "", seed)


def test_what_is_seen_of_a_run(tab):
    first, *steps, end = fill(tab, layer(90, 100, 150, 140))
    assert "Looking for faces" in first[tab.panel.progress]
    assert [step[tab.panel.progress].split("<progress")[0] for step in steps] == [
        f"<label>Drawing: step {number} of 4" for number in (1, 2, 3, 4)
    ]
    before, after = (np.asarray(picture).astype(int) for picture in end[tab.slider])
    changed = np.abs(after - before).max(axis=-1) > 0
    assert changed[100:140, 90:150].mean() > 0.9
    changed[100:140, 90:150] = False
    assert not changed.any()
    assert np.array_equal(pixels(end[tab.download]), after)
    assert end[tab.panel.status].startswith("1 face filled in ")


def test_the_seed_decides(tab):
    *_, first = fill(tab, layer(90, 100, 150, 140), seed=1)
    *_, other = fill(tab, layer(90, 100, 150, 140), randomize=True, seed=1)
    *_, again = fill(tab, layer(90, 100, 150, 140), seed=other[tab.controls.seed])
    assert first[tab.slider][1].tobytes() != other[tab.slider][1].tobytes() == again[tab.slider][1].tobytes()


def test_what_is_painted_is_the_union_of_the_layers():
    mask = np.asarray(painted([layer(0, 0, 4, 4, 128), layer(4, 4, 8, 8), layer(20, 0, 24, 4, 127)], (256, 256)))
    expected = np.zeros((256, 256), np.uint8)
    expected[:4, :4] = expected[4:8, 4:8] = 255
    assert np.array_equal(mask, expected)


def test_layers_are_fitted_to_the_picture():
    mask = np.asarray(painted([layer(0, 0, 10, 20, size=(100, 100))], (50, 200)))
    assert mask.shape == (200, 50) and mask[:40, :5].all() and mask.sum() == 255 * 200


@pytest.mark.parametrize("edited", [None, {"background": None, "layers": [], "composite": None}])
def test_nothing_uploaded(tab, edited):
    with pytest.raises(gr.Error, match="Choose a picture first"):
        next(tab.fill_painted(edited, False, 200, 0.5, 1.0, 4, "", 0))


def test_nothing_painted(tab):
    with pytest.raises(gr.Error, match="Paint over what is to be filled first"):
        next(fill(tab))


def test_without_a_face_it_is_said_how_it_was_filled():
    assert summary(0, 1.23) == "Filled from the surroundings in 1.2 s; no face was found under the paint."
    assert summary(2, 1) == "2 faces filled in 1.0 s."
