from dataclasses import replace
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
import torch

from difface_diffusers.demo import restore_tab
from difface_diffusers.demo.restore_tab import RestoreTab, summary
from difface_diffusers.imaging.files import read_photo, write_photo
from difface_diffusers.imaging.metadata import Metadata, PhotoFile
from difface_diffusers.models.srvgg import SRVGGNetCompact
from difface_diffusers.photos.real_esrgan import RealESRGANUpscaler

from .conftest import PHOTOGRAPH, pixels


@pytest.fixture
def tab(restorer, cache):
    with gr.Blocks():
        return RestoreTab(restorer)


def run(tab, samples=1, randomize=False, seed=0, steps=4, background="lanczos", path=PHOTOGRAPH):
    return tab.restore_upload(
        str(path), 1.5, background, "auto", 1, True, samples, randomize, 200, 0.5, 1.0, steps, "", seed
    )


def test_what_is_seen_of_a_run(tab):
    first, *steps, end = run(tab)
    assert "Looking for faces" in first[tab.panel.progress] and first[tab.results]["visible"] is False
    assert [step[tab.panel.progress].split("<progress")[0] for step in steps] == [
        f"<label>Drawing: step {number} of 4" for number in (1, 2, 3, 4)
    ]
    assert all(len(step[tab.panel.preview]["value"]) == 1 for step in steps)
    before, after = end[tab.slider]
    assert before.size == after.size == (480, 480) and before.tobytes() != after.tobytes()
    assert np.array_equal(pixels(end[tab.download]), np.asarray(after))
    assert end[tab.chosen]["choices"] == ["Face 1"] and end[tab.chosen]["value"] == ["Face 1"]
    assert end[tab.panel.status].startswith("1 face restored in ")
    assert not end[tab.sample]["visible"] and not end[tab.show_uncertainty]["visible"]


def test_steps_are_counted_over_all_batches(tab, monkeypatch):
    faces = restore_tab.find_faces(pixels(PHOTOGRAPH))
    monkeypatch.setattr(restore_tab, "find_faces", lambda photo: faces * 3)
    monkeypatch.setattr(restore_tab, "DRAWN_TOGETHER", 5)
    *_, last, _ = run(tab, samples=2, steps=3)
    assert last[tab.panel.progress].startswith("<label>Drawing: step 6 of 6<")
    assert len(last[tab.panel.preview]["value"]) == 2  # samples of the third face


def test_samples_can_be_looked_at_and_compared(tab):
    *_, end = run(tab, samples=2)
    result = end[tab.result]
    assert end[tab.sample]["visible"] and end[tab.sample]["maximum"] == 2 and end[tab.show_uncertainty]["visible"]
    (_, first), _, _ = tab.choose(result, [0], 1, 1, True)
    (_, second), _, _ = tab.choose(result, [0], 2, 1, True)
    assert first.tobytes() == end[tab.slider][1].tobytes() != second.tobytes()
    shown, hidden = tab.reveal(result, True), tab.reveal(result, False)
    assert shown["visible"] and shown["value"].size == (320, 320)
    assert not hidden["visible"] and hidden["value"] is None


def test_faces_can_be_left_out(tab):
    *_, end = run(tab)
    (before, after), download, gallery = tab.choose(end[tab.result], [], 1, 1, True)
    assert before.tobytes() == after.tobytes()
    assert np.array_equal(pixels(download), np.asarray(before))
    assert [caption for _, caption in gallery["value"]] == ["Face 1: left out"]


def test_the_strength_moves_the_result_at_once(tab):
    *_, end = run(tab)
    result = end[tab.result]
    pictures = [np.asarray(tab.choose_if_there(result, [0], 1, blend, True)[0][1], float) for blend in (0, 0.5, 1)]
    before = np.asarray(end[tab.slider][0], float)
    weaker, whole = (np.abs(picture - before).mean() for picture in pictures[1:])
    assert np.array_equal(pictures[0], before) and 0.3 * whole < weaker < 0.7 * whole
    assert np.array_equal(pictures[2], np.asarray(end[tab.slider][1]))


def test_before_the_first_run_the_strength_does_nothing(tab):
    assert tab.choose_if_there(None, [], 1, 0.5, True) == (gr.skip(),) * 3


def test_a_clean_face_is_spared_unless_that_is_not_wanted(tab):
    tab.pipe.register_to_config(clean_damage=1e6)
    try:
        *_, end = run(tab)
    finally:
        tab.pipe.register_to_config(clean_damage=None)
    before, after = end[tab.slider]
    assert before.tobytes() == after.tobytes()
    assert [caption for _, caption in end[tab.faces]["value"]] == ["Face 1: left as it is: it is clean"]
    (_, after), _, gallery = tab.choose(end[tab.result], [0], 1, 1, False)
    assert before.tobytes() != after.tobytes()
    assert [caption for _, caption in gallery["value"]] == ["Face 1: all of the restoration"]


@pytest.mark.parametrize(("chosen", "left"), [([0, 1, 2], ["Face 1", "Face 3"]), ([0], ["Face 1", "Face 2"])])
def test_a_click_toggles_a_face(tab, chosen, left):
    assert tab.toggle(chosen, SimpleNamespace(index=1)) == left


def test_another_sample_has_another_seed_which_is_shown(tab):
    *_, end = run(tab, randomize=True)
    assert end[tab.controls.seed] != 0
    *_, again = run(tab, seed=end[tab.controls.seed])
    assert again[tab.slider][1].tobytes() == end[tab.slider][1].tobytes()


def test_a_run_that_is_closed_ends(tab):
    events = run(tab, steps=200)
    next(events), next(events)
    events.close()
    assert list(events) == []


def test_alpha_is_kept(tab, tmp_path):
    """And what is fully transparent stays so."""
    picture = np.dstack([pixels(PHOTOGRAPH), np.full((320, 320), 200, np.uint8)])
    picture[:40, :40, 3] = 0
    write_photo(PhotoFile(picture, Metadata()), tmp_path / "cut.png")
    *_, end = run(tab, path=tmp_path / "cut.png")
    restored = read_photo(end[tab.download]).pixels
    assert restored.shape == (480, 480, 4) and not restored[:50, :50, 3].any()
    assert restored[100:, 100:, 3].min() == 200


@pytest.fixture
def network(monkeypatch):
    """What a name stands for: a network that darkens, in tiles of 100 pixels."""

    class Darker(SRVGGNetCompact):
        def forward(self, image):
            return torch.zeros(1, 3, 2 * image.shape[-2], 2 * image.shape[-1])

    upscaler = RealESRGANUpscaler(Darker(2, 4, 1), tile_size=100)
    monkeypatch.setattr(restore_tab, "as_upscaler", lambda name, device: {"network": upscaler}[name])
    return upscaler


def test_a_network_enlarges_tile_by_tile(tab, network):
    _, *steps, end = run(tab, background="network")
    tiles = [step[tab.panel.progress].split("<progress")[0] for step in steps[4:]]
    assert tiles == [f"<label>Enlarging: tile {number} of 16" for number in range(1, 17)]
    assert not np.asarray(end[tab.slider][0]).any() and np.asarray(end[tab.slider][1]).any()
    (before, _), _, _ = tab.choose(end[tab.result], [], 1, 1, True)
    assert not np.asarray(before).any()


def test_the_enlargement_can_be_stopped(tab, network):
    events = run(tab, background="network")
    for _ in range(6):
        last = next(events)
    assert "Enlarging: tile 1 of 16" in last[tab.panel.progress]
    events.close()
    assert list(events) == []


def test_a_network_that_cannot_be_had_is_said_before_anything_is_drawn(tab, monkeypatch):
    def offline(name, device):
        raise OSError("it is not in the cache")

    monkeypatch.setattr(restore_tab, "as_upscaler", offline)
    events = run(tab, background="realesr-general-x4v3")
    next(events)
    with pytest.raises(gr.Error, match="not in the cache"):
        next(events)


def test_results_are_not_kept_for_ever(tab):
    *_, end = run(tab)
    gone = [replace(end[tab.result], **{name: "/no/such/file"}) for name in ("path", "enlarged")]
    for result in (None, *gone):
        with pytest.raises(gr.Error, match="not kept any longer; upload it again"):
            tab.choose(result, [0], 1, 1, True)
        with pytest.raises(gr.Error, match="not kept any longer"):
            tab.reveal(result, True)


def test_nothing_uploaded(tab):
    with pytest.raises(gr.Error, match="Choose a photograph first"):
        next(tab.restore_upload(None, 2, "lanczos", "auto", 1, True, 1, False, 200, 0.5, 1.0, 4, "", 0))


def test_of_several_pictures_it_is_said_that_the_first_was_taken():
    assert summary(1, 1.23, 1) == "1 face restored in 1.2 s."
    assert summary(2, 1, 3) == "2 faces restored in 1.0 s. The file holds 3 pictures; this is the first."
