"""What the tabs have in common: inputs beside outputs, the two pictures of an answer, and the endpoint for programs."""

from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import spaces
from gradio.components import Component

from ..pipelines.pipeline_difface import DifFacePipeline
from .run_panel import QUEUE


EXAMPLES = Path(__file__).parent / "examples"


class Tab:
    """Lays a tab out and connects it.

    Args:
        pipe: what the tab runs.
    """

    scales = (1, 1)  # widths of inputs and outputs beside each other
    gpu_seconds = 60  # for which a run may have a GPU, where visitors share one
    _run: Callable[..., Generator[Any, None, None]]  # runs the networks; see `follow`

    def __init__(self, pipe: DifFacePipeline) -> None:
        self.pipe = pipe
        self.run = spaces.GPU(duration=self.gpu_seconds)(self._run)
        with gr.Row():
            for scale, add in zip(self.scales, (self._add_inputs, self._add_outputs), strict=True):
                with gr.Column(scale=scale, min_width=320):
                    add()
        self._connect()

    def _add_inputs(self) -> None:
        raise NotImplementedError

    def _add_outputs(self) -> None:
        raise NotImplementedError

    def _connect(self) -> None:
        raise NotImplementedError

    def _add_answer(self, image_format: str) -> None:
        self.slider = gr.ImageSlider(
            label="Before and after: drag the line", format=image_format, interactive=False, buttons=["fullscreen"]
        )
        with gr.Row():
            self.download = gr.DownloadButton("Download (PNG)", variant="primary")
            self.another = gr.Button("Try another sample")

    def _add_endpoint(self, name: str, answer: Callable[..., str], inputs: Sequence[Component]) -> None:
        gr.Button(visible=False).click(
            answer, list(inputs), self.download, api_name=name, concurrency_limit=1, concurrency_id=QUEUE
        )
