import threading
import time

import pytest
import torch

from difface_diffusers.demo import live
from difface_diffusers.demo.live import FrameDone, Preview, TileDone, follow, follow_frames, follow_tiles, pass_on


@pytest.fixture
def run(restorer, faces):
    def run(**callback):
        calls.append(torch.is_grad_enabled())
        return restorer(faces, num_inference_steps=3, output_type="pt", **callback)

    calls = []
    run.calls = calls
    return run


def test_yields_a_preview_for_every_step_and_then_the_answer(run, restorer, faces):
    *previews, answer = follow(run)
    assert [(preview.step, preview.total) for preview in previews] == [(1, 3), (2, 3), (3, 3)]
    assert [face.size for face in previews[0].faces] == [(32, 32), (32, 32)]
    assert previews[0].faces[0].tobytes() != previews[2].faces[0].tobytes()
    assert answer.images.shape == faces.shape


def test_the_last_preview_is_the_answer(restorer, faces):
    def run(**callback):
        return restorer(faces, eta=0.0, generator=torch.Generator().manual_seed(0), **callback)

    *_, preview, answer = follow(run)
    assert all(seen.tobytes() == face.tobytes() for seen, face in zip(preview.faces, answer.images, strict=True))


def test_closing_stops_the_run(restorer, faces):
    steps = []
    ended = threading.Event()

    def run(callback_on_step_end, **tensors):
        def count(pipe, step, timestep, tensors):
            steps.append(step)
            return callback_on_step_end(pipe, step, timestep, tensors)

        restorer(faces, num_inference_steps=200, callback_on_step_end=count, **tensors)
        ended.set()

    events = follow(run)
    assert isinstance(next(events), Preview)
    events.close()
    assert ended.wait(timeout=30)
    assert len(steps) < 100


def test_errors_are_raised_where_it_is_followed():
    def run(**callback):
        raise ValueError("no such thing")

    with pytest.raises(ValueError, match="no such thing"):
        list(follow(run))


def test_tiles_are_followed_and_closing_stops_them():
    def enlarge(on_tile):
        for number in range(1, 4):
            on_tile(number, 3)
            reached.append(number)
            go_on.wait(5)
        return "enlarged"

    reached, go_on = [], threading.Event()
    go_on.set()
    assert list(follow_tiles(enlarge)) == [TileDone(1, 3), TileDone(2, 3), TileDone(3, 3), "enlarged"]
    reached.clear()
    go_on.clear()
    events = follow_tiles(enlarge)
    assert next(events) == TileDone(1, 3)
    events.close()
    go_on.set()
    time.sleep(0.05)
    assert reached == [1]


@pytest.fixture
def every_frame(monkeypatch):
    monkeypatch.setattr(live, "LEAST_INTERVAL", 0)


def test_frames_and_what_the_prior_makes_of_them_are_followed(restorer, faces, every_frame):
    def run(on_frame, **callback):
        on_frame("survey", 2, None)
        restorer(faces, num_inference_steps=1, **callback)
        on_frame("restore", 1, 2)
        on_frame("restore", 2, 2)
        return "answer"

    looked_at, preview, first, second, answer = follow_frames(run, {1: "picture"}.get)
    assert (looked_at, first) == (FrameDone("survey", 2, None), FrameDone("restore", 1, 2, "picture"))
    assert (preview.step, preview.total, len(preview.faces)) == (1, 1, 2)
    assert (second, answer) == (FrameDone("restore", 2, 2), "answer")


def test_of_frames_that_follow_each_other_fast_some_are_told_of():
    def run(on_frame, **callback):
        for doing in ("survey", "restore"):
            for number in range(1, 101):
                on_frame(doing, number, 100)

    *frames, _ = follow_frames(run, {51: "picture"}.get)
    assert FrameDone("survey", 100, 100) in frames and FrameDone("restore", 51, 100, "picture") in frames
    assert frames[-1] == FrameDone("restore", 100, 100) and len(frames) < 20


@pytest.mark.parametrize("calls", ["frames", "steps"])
def test_closing_stops_a_video_at_the_next_frame_or_step(restorer, faces, every_frame, calls):
    def run(on_frame, **callback):
        try:
            on_frame("restore", 1, 9)
            go_on.wait(5)
            if calls == "frames":
                on_frame("restore", 2, 9)
            else:
                restorer(faces, num_inference_steps=200, **callback)
            reached.append(calls)
        finally:
            ended.set()

    reached, go_on, ended = [], threading.Event(), threading.Event()
    events = follow_frames(run, {}.get)
    assert next(events) == FrameDone("restore", 1, 9)
    events.close()
    go_on.set()
    assert ended.wait(5) and reached == []


def test_what_comes_last_is_returned():
    def outer():
        answers.append((yield from pass_on(event for event in (TileDone(1, 1), "enlarged"))))

    answers = []
    assert list(outer()) == [TileDone(1, 1)] and answers == ["enlarged"]
