"""The buttons that start and stop a run, how far it is, and what the faces look like meanwhile."""

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any, TypeVar

import gradio as gr
from gradio.blocks import Block
from gradio.components import Component

from .live import Preview, TileDone


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
        self.progress = gr.HTML(visible=False, elem_classes="run-progress")
        self.status = gr.HTML(visible=False, elem_classes="run-status")

    def add_preview(self, style: str = "run-preview") -> None:
        """Add what is seen meanwhile to the layout; `style` names its rules in `style.css`."""
        with gr.Column(visible=False) as self.meanwhile:
            self.preview = gr.Gallery(
                label="The faces as they take shape",
                height="auto",
                allow_preview=False,
                buttons=[],
                visible=False,
                elem_classes=style,
            )

    def connect(
        self, starts: Mapping[gr.Button, Sequence[Component]], run: Callable[..., Any], outputs: Sequence[Component]
    ) -> None:
        """Let buttons start `run`, and the stop button end it.

        What a run says may still arrive after it was stopped. So while it runs it changes `progress` and `preview` alone,
        which are shown and hidden around it, the latter with what holds it; `status` is for the end, and shown then.

        Args:
            starts: the buttons, and for each the components whose values `run` gets.
            run: a generator that yields dictionaries of new values for `outputs`, `progress`, `preview` and, with the
                last, `status`.
            outputs: the components that it changes.
        """
        panel = [self.start_button, self.stop_button, self.progress, self.status, self.meanwhile, self.preview]
        here = partial(dict, queue=False, show_progress="hidden", api_visibility="private")
        runs = []
        for button, inputs in starts.items():
            waiting = button.click(self._start, None, panel, **here())
            running = waiting.then(
                run,
                list(inputs),
                [self.progress, self.preview, self.status, *outputs],
                concurrency_limit=1,
                concurrency_id=QUEUE,
                show_progress="minimal",
                show_progress_on=self.progress,
                api_visibility="private",
            )
            running.success(self._end, None, panel, **here())
            running.failure(self._end, None, panel, **here())  # or stopped
            runs.append(running)
        self.stop_button.click(None, cancels=runs).then(lambda: "Stopped.", None, self.status, **here())

    def watch(
        self, events: Generator[Preview | TileDone | T, None, None], chains: int = 1
    ) -> Generator[dict[Component, Any], None, T]:
        """Yield new values of `progress` and `preview` for everything that happens; return what comes last.

        Args:
            events: as `follow` and `follow_tiles` yield them.
            chains: how many chains there will be one after the other; where there are more, the total grows.
        """
        steps = 0
        with closing(events):
            while isinstance(event := next(events), Preview | TileDone):
                if isinstance(event, TileDone):
                    text = f"Enlarging: tile {event.done} of {event.total}"
                    yield {self.progress: progress_bar(text, event.done, event.total)}
                else:
                    steps += 1
                    total = event.total * max(chains, math.ceil(steps / event.total))
                    yield {
                        self.progress: progress_bar(f"Drawing: step {steps} of {total}", steps, total),
                        self.preview: gr.update(value=event.faces, visible=True),
                    }
        return event

    def _start(self) -> dict[Block, Any]:
        return {
            self.start_button: gr.update(visible=False),
            self.stop_button: gr.update(visible=True),
            self.progress: gr.update(value=progress_bar("Waiting for a free place"), visible=True),
            self.status: gr.update(value=None, visible=False),
            self.meanwhile: gr.update(visible=True),
            self.preview: gr.update(value=None, visible=False),
        }

    def _end(self) -> dict[Block, Any]:
        return {
            self.start_button: gr.update(visible=True),
            self.stop_button: gr.update(visible=False),
            self.progress: gr.update(visible=False),
            self.status: gr.update(visible=True),
            self.meanwhile: gr.update(visible=False),
        }


def progress_bar(text: str, done: int | None = None, total: int = 1) -> str:
    """Return a bar that is filled to `done` of `total`, or moves where that is not known, as HTML."""
    value = "" if done is None else f' value="{done}" max="{total}"'
    return f"<label>{text}<progress{value}></progress></label>"
