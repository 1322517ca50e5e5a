import gradio as gr
import pytest
from PIL import Image

from difface_diffusers.demo import video_progress
from difface_diffusers.demo.live import FrameDone, Preview
from difface_diffusers.demo.run_panel import RunPanel
from difface_diffusers.demo.video_progress import SHOWN, duration, watch_frames


@pytest.fixture
def panel():
    with gr.Blocks():
        panel = RunPanel("Run")
        panel.add_preview()
    return panel


@pytest.fixture
def clock(monkeypatch):
    """Every look at it is a second later."""
    seconds = iter(range(1000))
    monkeypatch.setattr(video_progress.time, "monotonic", lambda: next(seconds))


def picture(number):
    return Image.new("RGB", (4, 4), (number, 0, 0))


def watch(panel, *events):
    """What the progress says, without its bar; the numbers of the pictures; and what is returned."""
    said, shown = [], []
    watched = watch_frames(panel, (event for event in events))
    while True:
        try:
            seen = next(watched)
        except StopIteration as end:
            return said, shown, end.value
        said.append(seen[panel.progress].removeprefix("<label>").split("<")[0])
        if panel.preview in seen:
            shown.append(
                (seen[panel.preview]["label"], [one.getpixel((0, 0))[0] for one in seen[panel.preview]["value"]])
            )


def test_what_is_seen_of_a_video(panel, clock):
    said, shown, answer = watch(
        panel,
        FrameDone("survey", 1, None),
        FrameDone("survey", 24, 24),
        Preview(1, 2, [picture(90), picture(91)]),
        FrameDone("restore", 1, 24, picture(1)),
        Preview(2, 2, [picture(92)]),
        FrameDone("restore", 4, 24),
        Preview(1, 2, [picture(93)]),  # here too one can stop
        FrameDone("restore", 24, 24),
        FrameDone("finish", 2, 24),
        "answer",
    )
    assert said == [
        "Looking for faces: frame 1",
        "Looking for faces: frame 24 of 24",
        "Drawing the faces of the first frames",
        "Restoring: frame 1 of 24, about 3 s left",
        "Restoring: frame 1 of 24, about 5 s left",
        "Restoring: frame 4 of 24, about 4 s left",
        "Restoring: frame 4 of 24, about 5 s left",
        "Restoring: frame 24 of 24",
        "Writing it for browsers: frame 2 of 24",
    ]
    assert shown == [("A face as it takes shape", [90]), ("The newest frames", [1])]
    assert answer == "answer"


def test_the_newest_frames_come_first(panel):
    events = [FrameDone("restore", number, 9, picture(number)) for number in range(1, 7)]
    _, shown, _ = watch(panel, *events, "answer")
    assert [numbers for _, numbers in shown][:2] == [[1], [2, 1]]
    assert shown[-1][1] == [6, 5, 4, 3] and SHOWN == 4


def test_closing_it_closes_what_is_watched(panel):
    def events():
        try:
            yield FrameDone("survey", 1, 2)
        finally:
            closed.append(True)

    closed = []
    watched = watch_frames(panel, events())
    next(watched)
    watched.close()
    assert closed == [True]


def test_durations():
    assert [duration(seconds) for seconds in (0, 1.4, 89, 90, 200)] == [
        "about 1 s",
        "about 1 s",
        "about 89 s",
        "about 2 min",
        "about 3 min",
    ]
