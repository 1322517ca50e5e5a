"""The buttons that start and stop a run, how far it is, and what the faces look like meanwhile."""

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any, TypeVar

import gradio as gr
from gradio.components import Component

from .live import Preview


T = TypeVar("T")

QUEUE = "networks"  # all that runs networks waits in one queue


class RunPanel:
    """The part of a tab that runs something.

    Args:
        verb: what the button says.
    """

    def __init__(self, verb: str) -> None:
        with gr.Row():
            self.start_button = gr.Button(verb, variant="primary")
            self.stop_button = gr.Button("Stop", variant="stop", visible=False)
        self.status = gr.HTML(elem_classes="run-status")

    def add_preview(self) -> None:
        """Add what the faces look like meanwhile to the layout."""
        self.preview = gr.Gallery(
            label="The faces as they take shape",
            height="auto",
            allow_preview=False,
            buttons=[],
            visible=False,
            elem_classes="run-preview",
        )

    @property
    def display(self) -> list[Component]:
        """The components that `watch` changes."""
        return [self.status, self.preview]

    def connect(
        self, starts: Mapping[gr.Button, Sequence[Component]], run: Callable[..., Any], outputs: Sequence[Component]
    ) -> None:
        """Let buttons start `run`, and the stop button end it.

        Args:
            starts: the buttons, and for each the components whose values `run` gets.
            run: a generator that yields dictionaries of new values for `outputs` and `display`.
            outputs: the components that it changes.
        """
        panel = [self.start_button, self.stop_button, *self.display]
        here = partial(dict, queue=False, api_visibility="private")
        runs = []
        for button, inputs in starts.items():
            waiting = button.click(self._started, None, panel, **here())
            running = waiting.then(
                run,
                list(inputs),
                [*self.display, *outputs],
                concurrency_limit=1,
                concurrency_id=QUEUE,
                show_progress="minimal",
                show_progress_on=self.status,
                api_visibility="private",
            )
            running.success(self._ended, None, panel[:2] + panel[3:], **here())
            running.failure(self._failed, None, panel, **here())
            runs.append(running)
        self.stop_button.click(None, cancels=runs).then(self._stopped, None, panel, **here())

    def watch(
        self, events: Generator[Preview | T, None, None], chains: int = 1
    ) -> Generator[dict[Component, Any], None, T]:
        """Yield new values of the display for every `Preview`; return what comes after the last.

        Args:
            events: as `follow` yields them.
            chains: how many chains there will be one after the other; where there are more, the total grows.
        """
        done = 0
        with closing(events):
            while isinstance(event := next(events), Preview):
                done += 1
                total = event.total * max(chains, math.ceil(done / event.total))
                yield {
                    self.status: progress(f"Drawing: step {done} of {total}", done, total),
                    self.preview: gr.update(value=event.faces, visible=True),
                }
        return event

    def _started(self) -> tuple[Any, ...]:
        return gr.update(visible=False), gr.update(visible=True), progress("Waiting for a free place"), None

    def _ended(self) -> tuple[Any, ...]:
        return gr.update(visible=True), gr.update(visible=False), gr.update(value=None, visible=False)

    def _failed(self) -> tuple[Any, ...]:
        start, stop, preview = self._ended()
        return start, stop, "", preview

    def _stopped(self) -> tuple[Any, ...]:
        start, stop, preview = self._ended()
        return start, stop, "Stopped.", preview


def progress(text: str, done: int | None = None, total: int = 1) -> str:
    """Return a bar that is filled to `done` of `total`, or moves where that is not known, as HTML."""
    value = "" if done is None else f' value="{done}" max="{total}"'
    return f"<label>{text}<progress{value}></progress></label>"
