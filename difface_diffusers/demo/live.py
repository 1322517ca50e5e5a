"""A restoration that can be watched while it runs, and stopped."""

import queue
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from PIL import Image

from ..imaging.tensors import from_tensors
from ..pipelines.pipeline_difface import DifFacePipeline


T = TypeVar("T")


@dataclass(frozen=True)
class Preview:
    """What the prior believes in after one of its calls.

    Attributes:
        step: number of the call within its chain, from 1.
        total: calls of the chain.
        faces: the clean faces as it sees them now.
    """

    step: int
    total: int
    faces: list[Image.Image]


def follow(run: Callable[..., T]) -> Generator[Preview | T, None, None]:
    """Yield a `Preview` after every call of the prior, and at the end what `run` returns.

    Closing the generator ends the run after the call of the prior that is under way.

    Args:
        run: calls a pipeline with the keyword arguments that it is given: a callback, and the tensors that this wants. It
            runs in a thread of its own; what it raises is raised here.
    """
    events: queue.SimpleQueue[Preview | None] = queue.SimpleQueue()
    closed = threading.Event()

    def on_step_end(
        pipe: DifFacePipeline, step: int, timestep: torch.Tensor, tensors: dict[str, Any]
    ) -> dict[str, Any]:
        pipe._interrupt = closed.is_set()
        clean = tensors["pred_original_sample"] / 2 + 0.5
        events.put(Preview(step + 1, pipe.num_timesteps, from_tensors(list(clean.clamp(0, 1)), "pil")))
        return {}

    thread = ThreadPoolExecutor(max_workers=1)
    future = thread.submit(
        run, callback_on_step_end=on_step_end, callback_on_step_end_tensor_inputs=["pred_original_sample"]
    )
    future.add_done_callback(lambda _: events.put(None))
    try:
        yield from iter(events.get, None)
        yield future.result()
    finally:
        closed.set()
        thread.shutdown(wait=False)
