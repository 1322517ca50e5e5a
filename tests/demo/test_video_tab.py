import gradio as gr
import numpy as np
import pytest

from difface_diffusers.demo.video_files import Upload
from difface_diffusers.demo.video_tab import VideoTab, summary
from difface_diffusers.video.reading import open_video
from difface_diffusers.video.restore import VideoRestoration
from tests.video.clips import write_clip
from tests.video.scenes import HEIGHT, WIDTH, film, place


pytestmark = pytest.mark.filterwarnings("ignore:no face in")


@pytest.fixture
def tab(restorer, cache):
    with gr.Blocks():
        return VideoTab(restorer)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Twelve frames with a face, and sound."""
    frames, _ = film(([place(130 + 3 * step, 90, 0.9) for step in range(12)], 0))
    path = tmp_path_factory.mktemp("clip") / "me at sea.mp4"
    return write_clip(path, 12, size=(HEIGHT, WIDTH), pictures=frames, options={"qp": "0"}, audio="aac")


def run(tab, path, upscale=1, steadiness=1, blend=1, randomize=False, steps=4, seed=0):
    chosen = upscale, steadiness, "lanczos", "auto", blend, True
    return tab.restore_upload(str(path), *chosen, randomize, 200, 0.5, 1.0, steps, "", seed)


def frames_of(path):
    with open_video(path) as video:
        return np.array([frame.pixels for frame in video.frames()]).astype(int)


def folders_in(cache):
    """Those of runs."""
    return set(cache.glob("tmp*"))


def test_what_is_seen_of_a_run(tab, clip, cache):
    first, *steps, end = run(tab, clip)
    assert "Looking for faces" in first[tab.panel.progress]
    assert first[tab.results]["visible"] is False and first[tab.answer] is None
    said = [step[tab.panel.progress].removeprefix("<label>").split("<")[0] for step in steps]
    assert "Looking for faces: frame 12 of 12" in said and "Drawing the faces of the first frames" in said
    assert said[-1] == "Restoring: frame 12 of 12"
    shown = [step[tab.panel.preview]["value"] for step in steps if tab.panel.preview in step]
    assert shown[0][0].size == (32, 32) and [one.size for one in shown[-1]] == [(WIDTH, HEIGHT)] * 3

    assert end[tab.results]["visible"] and end[tab.answer] == end[tab.download]
    assert end[tab.download].startswith(str(cache)) and end[tab.download].endswith("/me at sea_restored.mp4")
    assert end[tab.panel.status].startswith("12 frames in ") and end[tab.panel.status].endswith(" each; 1 face found.")
    with open_video(end[tab.answer]) as video:
        assert (video.pixel_format, video.has_audio) == ("yuv420p", True)
    changed = np.abs(frames_of(end[tab.answer]) - frames_of(clip)).max(axis=-1)
    assert changed[:, 60:120, 130:160].mean() > 5 and changed[:, :, :60].mean() < 4


def test_nothing_else_is_left(tab, clip, cache):
    before = folders_in(cache)
    *_, end = run(tab, clip)
    (folder,) = folders_in(cache) - before
    assert [str(path) for path in folder.iterdir()] == [end[tab.download]]


@pytest.mark.parametrize("after", ["Looking for faces: frame", "Drawing the faces", "Restoring: frame"])
def test_what_is_stopped_leaves_nothing_behind(tab, clip, cache, after, wait_until):
    before = folders_in(cache)
    events = run(tab, clip)
    while after not in next(events)[tab.panel.progress]:
        pass
    assert folders_in(cache) != before
    events.close()
    wait_until(lambda: folders_in(cache) == before)
    assert list(events) == []


def test_settings_arrive(tab, clip):
    *_, plain = run(tab, clip)
    *_, unchanged = run(tab, clip, blend=0)
    *_, enlarged = run(tab, clip, upscale=1.5)
    *_, other = run(tab, clip, seed=1)
    faces = [frames_of(end[tab.answer])[:, 60:120, 130:160] for end in (plain, unchanged, other)]
    assert np.abs(faces[0] - faces[1]).mean() > 3 and np.abs(faces[0] - faces[2]).mean() > 0.5
    assert frames_of(enlarged[tab.answer]).shape == (12, 270, 480, 3)


def test_another_seed_for_every_run_is_shown(tab, clip):
    *_, end = run(tab, clip, randomize=True)
    *_, again = run(tab, clip, seed=end[tab.controls.seed])
    assert end[tab.controls.seed] != 0
    assert np.array_equal(frames_of(end[tab.answer]), frames_of(again[tab.answer]))


def test_what_a_browser_could_not_play_is_made_so(tab, tmp_path):
    path = write_clip(tmp_path / "deep.mkv", 3, pixel_format="yuv444p10le", size=(47, 65))
    *steps, end = run(tab, path)
    assert any("Writing it for browsers: frame 3 of 3" in step[tab.panel.progress] for step in steps)
    assert "no face found. So it was only written anew" in end[tab.panel.status]
    with open_video(end[tab.answer]) as video:
        assert (video.pixel_format, video.height, video.width) == ("yuv420p", 46, 64)


def test_errors_come_before_any_work(tab, text_file, clip, cache):
    before = folders_in(cache)
    for path, upscale, message in ((text_file, 1, "cannot be read as a video"), (clip, 8, "enlarge them less")):
        with pytest.raises(gr.Error, match=message):
            next(run(tab, path, upscale))
    with pytest.raises(gr.Error, match="cannot be read as a video"):
        tab.look_at(str(text_file))
    assert folders_in(cache) == before


def test_a_setting_that_cannot_be(tab, clip, cache):
    before = folders_in(cache)
    with pytest.raises(gr.Error, match="`num_inference_steps` is 300; it must be at least 1 and at most 200"):
        list(run(tab, clip, steps=300))
    assert folders_in(cache) == before


def test_the_summary_tells_what_is_amiss():
    whole = Upload(50, 2.0, 0.0, True)
    restoration = VideoRestoration("out.mp4", 50, 50, 1, 2)
    assert summary(whole, restoration, True, 25) == "50 frames in 25.0 s, 0.50 s each; 2 faces found."
    assert "Its sound could not be kept." in summary(whole, restoration, False, 25)
    cut = Upload(50, 2.0, 3.21, False)
    said = summary(cut, VideoRestoration("out.mp4", 1, 1, 1, 0), False, 2)
    assert said == (
        "1 frame in 2.0 s, 2.00 s each; no face found. So it was only written anew, and enlarged where that was wanted."
        " The file ends 3.2 s before its time; it may be cut short."
    )
