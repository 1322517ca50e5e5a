"""What is seen of a video while it is restored: how far it is, how long it will take, and its newest frames."""

import time
from collections.abc import Generator
from contextlib import closing
from typing import Any, TypeVar

import gradio as gr
from gradio.components import Component
from PIL import Image

from ..video.job import RESTORE, SURVEY
from ..video.steady_mean import LOOKAHEAD
from .live import FrameDone, Preview
from .run_panel import RunPanel, progress_bar


T = TypeVar("T")

SHOWN = 4  # newest frames
DOING = {SURVEY: "Looking for faces", RESTORE: "Restoring", "finish": "Writing it for browsers"}


def watch_frames(
    panel: RunPanel, events: Generator[Preview | FrameDone | T, None, None]
) -> Generator[dict[Component, Any], None, T]:
    """Yield new values of the panel's `progress` and `preview` for what happens; return what comes last.

    Until the first frame is done, a face is shown as it takes shape. Something is yielded for everything that happens, as only
    there a run can be stopped.

    Args:
        panel: of the tab.
        events: as `follow_frames` yields them.
    """
    pictures: list[Image.Image] = []
    newest = FrameDone(SURVEY, 0, None)
    began = time.monotonic()
    with closing(events):
        while isinstance(event := next(events), Preview | FrameDone):
            if isinstance(event, FrameDone):
                newest = event
                if event.doing != RESTORE:
                    began = time.monotonic()
                seen: dict[Component, Any] = {panel.progress: _bar(event, time.monotonic() - began)}
                if event.picture is not None:
                    pictures = [event.picture, *pictures][:SHOWN]
                    seen[panel.preview] = gr.update(value=pictures, label="The newest frames", visible=True)
                yield seen
            elif pictures:
                yield {panel.progress: _bar(newest, time.monotonic() - began)}
            else:
                yield {
                    panel.progress: progress_bar("Drawing the faces of the first frames"),
                    panel.preview: gr.update(value=event.faces[:1], label="A face as it takes shape", visible=True),
                }
    return event


def _bar(event: FrameDone, seconds: float) -> str:
    text = f"{DOING[event.doing]}: frame {event.done}"
    if event.total is None:
        return progress_bar(text)
    text += f" of {event.total}"
    if event.doing == RESTORE and event.done < event.total:
        drawn = min(event.done + LOOKAHEAD, event.total)  # frames wait for those after them
        text += f", {duration(seconds / drawn * (event.total - drawn))} left"
    return progress_bar(text, event.done, event.total)


def duration(seconds: float) -> str:
    """Return about how long something takes."""
    return f"about {seconds / 60:.0f} min" if seconds >= 90 else f"about {max(1, round(seconds))} s"
