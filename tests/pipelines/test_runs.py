"""One pipeline, called from several threads at once."""

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, HeunDiscreteScheduler, PNDMScheduler

from difface_diffusers import DifFacePipeline
from difface_diffusers.utils.choices import SCHEDULERS

from ..conftest import ddim


THREADS, CALLS_EACH = 8, 10
CALLS = [  # steps, start, faces, their side
    (2, 300, 1, 32),
    (3, 400, 2, 20),
    (1, 150, 1, 45),
    (2, 250, 3, 32),
]


def restore(pipe, number, scheduler=None):
    steps, start, count, side = CALLS[number % len(CALLS)]
    faces = torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(number))
    noise = torch.Generator().manual_seed(number)
    return pipe(
        faces,
        num_inference_steps=steps,
        start_timestep=start,
        generator=noise,
        output_type="pt",
        scheduler=scheduler,
    ).images


def in_threads(run, count):
    with ThreadPoolExecutor(THREADS) as threads:
        return list(threads.map(run, range(count)))


@pytest.mark.parametrize(
    "scheduler_class", [DPMSolverMultistepScheduler, DDPMScheduler, HeunDiscreteScheduler, PNDMScheduler]
)
def test_threads_get_what_calls_one_after_the_other_get(pipe, scheduler_class):
    pipe.scheduler = scheduler_class.from_config(ddim().config, skip_prk_steps=True)
    expected = [restore(pipe, number) for number in range(16)]
    for result, alone in zip(in_threads(partial(restore, pipe), 16), expected, strict=True):
        torch.testing.assert_close(result, alone, rtol=0, atol=0)


def test_threads_may_mix_schedulers(pipe):
    kinds = [None, *(name for name in SCHEDULERS if name != "pndm")]  # whose warm-up takes 13 steps

    different = len(kinds) * len(CALLS)

    def run(number):
        return restore(pipe, number % different, kinds[number % len(kinds)])

    expected = [run(number) for number in range(different)]
    for number, result in enumerate(in_threads(run, THREADS * CALLS_EACH)):
        torch.testing.assert_close(result, expected[number % different], rtol=0, atol=0)
    assert isinstance(pipe.scheduler, DDIMScheduler)


def test_a_callback_stops_its_own_call_alone(pipe, faces):
    stopped, finished = threading.Event(), []

    def run(number):
        def callback(pipe, step, timestep, tensors):
            if number == 0:
                pipe._interrupt = step == 1
            else:
                assert stopped.wait(20)
            finished.append(number)
            return {}

        pipe(faces, num_inference_steps=4, callback_on_step_end=callback)
        stopped.set()
        return pipe.interrupt, pipe.num_timesteps

    with ThreadPoolExecutor(2) as threads:
        futures = [threads.submit(run, number) for number in (1, 0)]
        assert [future.result() for future in futures] == [(False, 4), (True, 4)]
    assert finished.count(0) == 2 and finished.count(1) == 4


def test_from_outside_all_calls_are_stopped(pipe, faces):
    begun, told = threading.Barrier(3, timeout=20), threading.Event()
    steps = []

    def run(_):
        def callback(pipe, step, timestep, tensors):
            steps.append(step)
            begun.wait()
            assert told.wait(20)
            return {}

        pipe(faces, num_inference_steps=4, callback_on_step_end=callback)
        return pipe.interrupt

    with ThreadPoolExecutor(2) as threads:
        futures = [threads.submit(run, number) for number in range(2)]
        begun.wait()
        pipe._interrupt = True
        told.set()
        assert [future.result() for future in futures] == [True, True]
    assert steps == [0, 0]


def test_a_call_within_a_callback_leaves_the_outer_one_alone(pipe, faces):
    def callback(pipe, step, timestep, tensors):
        if step == 1:
            pipe(faces, num_inference_steps=2, callback_on_step_end=stop)
            assert pipe.num_timesteps == 4 and not pipe.interrupt
        return {}

    def stop(pipe, step, timestep, tensors):
        pipe._interrupt = True
        return {}

    pipe(faces, num_inference_steps=4, callback_on_step_end=callback)
    assert pipe.num_timesteps == 4 and not pipe.interrupt


def test_networks_that_are_offloaded_serve_one_call_after_the_other(pipe, faces):
    inside, most = [], []

    def callback(pipe, step, timestep, tensors):
        inside.append(step)
        most.append(len(inside))
        threading.Event().wait(0.01)
        inside.pop()
        return {}

    pipe._all_hooks = ["a hook"]
    pipe.maybe_free_model_hooks = lambda: None
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: pipe(faces, num_inference_steps=2, callback_on_step_end=callback), range(4)))
    assert max(most) == 1


def test_a_pipeline_that_failed_runs_again(pipe, faces):
    with pytest.raises(ValueError, match="num_samples"):
        pipe(faces, num_samples=0)
    assert isinstance(pipe, DifFacePipeline) and not pipe._runs.own.running
    assert len(pipe(faces, num_inference_steps=2).images) == 2
