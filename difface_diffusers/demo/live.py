"""A restoration that can be watched while it runs, and stopped."""

import queue
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from PIL import Image

from ..imaging.tensors import from_tensors
from ..photos.tiles import OnTile
from ..pipelines.pipeline_difface import DifFacePipeline
from ..video.job import RESTORE


T = TypeVar("T")

LEAST_INTERVAL = 0.1  # seconds between frames of a video that are told of


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


@dataclass(frozen=True)
class TileDone:
    """How far the enlargement of a background is.

    Attributes:
        done: tiles.
        total: tiles.
    """

    done: int
    total: int


@dataclass(frozen=True)
class FrameDone:
    """How far a video is.

    Attributes:
        doing: what is done with its frames, see `OnFrame`.
        done: frames.
        total: frames, `None` where that is not known.
        picture: the frame, if it is one that is to be looked at.
    """

    doing: str
    done: int
    total: int | None
    picture: Image.Image | None = None


class _ClosedError(Exception):
    """Nobody follows any longer."""


def follow(run: Callable[..., T]) -> Generator[Preview | T, None, None]:
    """Yield a `Preview` after every call of the prior, and at the end what `run` returns.

    Closing the generator ends the run after the call of the prior that is under way.

    Args:
        run: calls a pipeline with the keyword arguments that it is given: a callback, and the tensors that this wants. It
            runs in a thread of its own; what it raises is raised here.
    """
    events: queue.SimpleQueue[Any] = queue.SimpleQueue()
    closed = threading.Event()

    def on_step_end(
        pipe: DifFacePipeline, step: int, timestep: torch.Tensor, tensors: dict[str, Any]
    ) -> dict[str, Any]:
        pipe._interrupt = closed.is_set()
        events.put(_preview(pipe, step, tensors))
        return {}

    yield from _follow(partial(run, **_callback(on_step_end)), events, closed)


def follow_tiles(run: Callable[[OnTile], T]) -> Generator[TileDone | T, None, None]:
    """Yield a `TileDone` after every tile of a background, and at the end what `run` returns; see `follow`.

    Args:
        run: calls an upscaler with the callback that it is given.
    """
    events: queue.SimpleQueue[Any] = queue.SimpleQueue()
    closed = threading.Event()

    def on_tile(done: int, total: int) -> None:
        if closed.is_set():
            raise _ClosedError
        events.put(TileDone(done, total))

    yield from _follow(partial(run, on_tile), events, closed)


def follow_frames(
    run: Callable[..., T], picture_of: Callable[[int], Image.Image | None]
) -> Generator[Preview | FrameDone | T, None, None]:
    """Yield a `FrameDone` for frames of a video, a `Preview` after every call of the prior, and at the end what `run` returns.

    Closing the generator ends the run after the frame or the call that is under way; see `follow`.

    Args:
        run: calls `restore_video` with the keyword arguments that it is given: those of `follow`, and `on_frame`.
        picture_of: answers the frame of a number, from 1, once it is restored; `None` if it is not one to be looked at.
    """
    events: queue.SimpleQueue[Any] = queue.SimpleQueue()
    closed = threading.Event()
    last = 0.0

    def on_frame(doing: str, done: int, total: int | None) -> None:
        nonlocal last
        if closed.is_set():
            raise _ClosedError
        picture = picture_of(done) if doing == RESTORE else None
        now = time.monotonic()
        if picture is not None or done == total or now - last >= LEAST_INTERVAL:
            last = now
            events.put(FrameDone(doing, done, total, picture))

    def on_step_end(
        pipe: DifFacePipeline, step: int, timestep: torch.Tensor, tensors: dict[str, Any]
    ) -> dict[str, Any]:
        if closed.is_set():
            raise _ClosedError
        events.put(_preview(pipe, step, tensors))
        return {}

    yield from _follow(partial(run, on_frame=on_frame, **_callback(on_step_end)), events, closed)


def _preview(pipe: DifFacePipeline, step: int, tensors: dict[str, Any]) -> Preview:
    clean = tensors["pred_original_sample"] / 2 + 0.5
    return Preview(step + 1, pipe.num_timesteps, from_tensors(list(clean.clamp(0, 1)), "pil"))


def _callback(on_step_end: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    return {"callback_on_step_end": on_step_end, "callback_on_step_end_tensor_inputs": ["pred_original_sample"]}


def _follow(
    run: Callable[[], T], events: queue.SimpleQueue[Any], closed: threading.Event
) -> Generator[Any, None, None]:
    """Run in a thread of its own; yield what arrives in `events` meanwhile, then the answer."""
    thread = ThreadPoolExecutor(max_workers=1)
    future = thread.submit(run)
    future.add_done_callback(lambda _: events.put(None))
    try:
        yield from iter(events.get, None)
        yield future.result()
    finally:
        closed.set()
        thread.shutdown(wait=False)


def pass_on(events: Generator[Any, None, None]) -> Generator[Preview | TileDone, None, Any]:
    """Yield what happens on the way and return what comes last, for the events of `follow` and `follow_tiles`."""
    with closing(events):
        while isinstance(event := next(events), Preview | TileDone):
            yield event
    return event
