"""The reverse chains of a batch: in the same network calls, each face walks back from a timestep of its own."""

import copy
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.schedulers.scheduling_utils import SchedulerMixin

from ..models.estimator import diffuse
from .schedule import Schedule, guided_step, set_timesteps


LMS_ORDER = 4

Rows = slice | list[int]
Generators = list[torch.Generator] | None
Guide = Callable[[torch.Tensor, Rows], torch.Tensor]  # the clean faces predicted for some rows, to better ones


@dataclass(frozen=True)
class Chain:
    """Rows of a batch that start together.

    Attributes:
        rows: which.
        scheduler: set to `schedule`; its state is that of these rows alone.
        schedule: of the network calls.
    """

    rows: Rows
    scheduler: SchedulerMixin
    schedule: Schedule


class Chains:
    """All chains of a batch `[B,3,S,S]`.

    Args:
        scheduler: is itself set and run where all rows start together, and else copied for each of the starts.
        starts: N of each row.
        num_inference_steps: K, at most the lowest of `starts`.
        device: where the batch is.

    Attributes:
        timesteps: of the network calls, `[calls]`, or `[calls,B]` where rows start apart.

    Raises:
        ValueError: the scheduler has no such schedule.
    """

    def __init__(
        self, scheduler: SchedulerMixin, starts: Sequence[int], num_inference_steps: int, device: torch.device | str
    ) -> None:
        self._size = len(starts)
        first, *others = sorted(set(starts))
        if not others:
            chains = [(slice(None), scheduler, first)]
        else:
            chains = [
                ([row for row, own in enumerate(starts) if own == start], copy.deepcopy(scheduler), start)
                for start in (first, *others)
            ]
        self._chains = [
            Chain(rows, own, set_timesteps(own, num_inference_steps, start, device)) for rows, own, start in chains
        ]
        self.timesteps = self._chains[0].schedule.timesteps
        if others:
            by_start = dict(zip((first, *others), self._chains, strict=True))
            self.timesteps = torch.stack([by_start[start].schedule.timesteps for start in starts], dim=1)

    def noise(self, estimates: torch.Tensor, generator: Generators, s_noise: float) -> torch.Tensor:
        """Return x_N, float32, of estimates in [0,1]; see `diffuse`."""

        def noise(chain: Chain) -> torch.Tensor:
            level, own = chain.schedule.noise_timestep, _of_rows(generator, chain.rows)
            return diffuse(estimates[chain.rows], chain.scheduler, level, own, s_noise)

        return self._gather(noise)

    def scale_model_input(self, latents: torch.Tensor, step: int) -> torch.Tensor:
        """Return x_t as the network wants to see it in its call number `step`."""
        return self._gather(
            lambda chain: chain.scheduler.scale_model_input(latents[chain.rows], chain.schedule.timesteps[step])
        )

    def step(
        self,
        model_output: torch.Tensor,
        step: int,
        latents: torch.Tensor,
        eta: float,
        generator: Generators,
        guide: Guide | None = None,
    ) -> torch.Tensor:
        """Take the step from x_t that follows the network's call number `step`.

        Args:
            model_output: predicted noise `[B,3,S,S]`, or with the variance `[B,6,S,S]`.
            step: from 0.
            latents: x_t.
            eta: share of fresh noise, for schedulers that take it.
            generator: of that noise.
            guide: corrects the clean faces on the way, see `guided_step`; `None` leaves them alone.
        """

        def walk(chain: Chain) -> torch.Tensor:
            rows, scheduler = chain.rows, chain.scheduler
            step_kwargs = prepare_step_kwargs(scheduler, step, eta, _of_rows(generator, rows))
            state = model_output[rows], chain.schedule.timesteps[step], latents[rows]
            if guide is None:
                return scheduler.step(*state, **step_kwargs).prev_sample
            return guided_step(scheduler, *state, lambda clean: guide(clean, rows), **step_kwargs)

        return self._gather(walk)

    def _gather(self, answer: Callable[[Chain], torch.Tensor]) -> torch.Tensor:
        """Return what is answered for the rows of each chain, as one batch."""
        answers = [answer(chain) for chain in self._chains]
        if len(answers) == 1:
            return answers[0]
        batch = answers[0].new_empty(self._size, *answers[0].shape[1:])
        for chain, part in zip(self._chains, answers, strict=True):
            batch[chain.rows] = part
        return batch


def prepare_step_kwargs(scheduler: SchedulerMixin, step: int, eta: float, generator: Generators) -> dict[str, Any]:
    """Return those of eta, the generator and LMS's order that the scheduler's `step` takes."""
    # LMS reckons its order from the top of its list; it has seen `step` gradients of this chain so far.
    known = {"eta": eta, "generator": generator, "order": min(step + 1, LMS_ORDER)}
    accepted = inspect.signature(scheduler.step).parameters
    return {name: value for name, value in known.items() if name in accepted}


def _of_rows(generator: Generators, rows: Rows) -> Generators:
    if generator is None or isinstance(rows, slice):
        return generator
    return [generator[row] for row in rows]
