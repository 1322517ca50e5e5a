"""The reverse chains of a batch: in the same network calls, each face walks back from a timestep of its own."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.schedulers.scheduling_utils import SchedulerMixin

from ..models.estimator import diffuse
from .guidance import guided_step, predict_clean
from .schedule import Schedule, plan
from .schedulers import TAKES_ETA, wants_variance


Rows = slice | torch.Tensor
Generators = list[torch.Generator] | None
Guide = Callable[[torch.Tensor, Rows], torch.Tensor]  # the clean faces predicted for some rows, to better ones


@dataclass(frozen=True)
class Chain:
    """Rows of a batch that start together.

    Attributes:
        members: numbers of the rows.
        rows: what a batch is indexed by to get them: all, or those numbers where the batch is. A list would be copied to a
            GPU in every step, which waits for it.
        schedule: of the network calls; the state of its scheduler is that of these rows alone.
    """

    members: list[int]
    rows: Rows
    schedule: Schedule


class Chains:
    """All chains of a batch `[B,3,S,S]`.

    Args:
        scheduler: stays as it is: the chains have schedulers of their own, so that several calls may run at once.
        starts: N of each row.
        num_inference_steps: K, at most the lowest of `starts`.
        device: where the batch is.

    Attributes:
        timesteps: of the network calls, on the prior's own scale, `[calls]`, or `[calls,B]` where rows start apart.

    Raises:
        ValueError: the scheduler has no such schedule.
    """

    def __init__(
        self, scheduler: SchedulerMixin, starts: Sequence[int], num_inference_steps: int, device: torch.device | str
    ) -> None:
        self._scheduler, self._size = scheduler, len(starts)
        self._channels = 6 if wants_variance(scheduler) else 3  # of the prior's answer, that the steps take
        by_start = {start: plan(scheduler, num_inference_steps, start) for start in sorted(set(starts))}
        self._chains = []
        for start, schedule in by_start.items():
            members = [row for row, own in enumerate(starts) if own == start]
            rows = torch.tensor(members, device=device) if len(by_start) > 1 else slice(None)
            self._chains.append(Chain(members, rows, schedule))
        timesteps = self._chains[0].schedule.timesteps
        if len(by_start) > 1:
            timesteps = torch.stack([by_start[start].timesteps for start in starts], dim=1)
        self.timesteps = timesteps.to(device)

    def noise(self, estimates: torch.Tensor, generator: Generators, s_noise: float) -> torch.Tensor:
        """Return x_N, float32, of estimates in [0,1]; see `diffuse`."""

        def noise(chain: Chain) -> torch.Tensor:
            schedule, own = chain.schedule, _of_members(generator, chain.members)
            return diffuse(estimates[chain.rows], schedule.scheduler, schedule.own_noise_timestep, own, s_noise)

        return self._gather(noise)

    def scale_model_input(self, latents: torch.Tensor, step: int) -> torch.Tensor:
        """Return x_t as the network wants to see it in its call number `step`."""
        return self._gather(
            lambda chain: chain.schedule.scheduler.scale_model_input(
                latents[chain.rows], chain.schedule.own_timesteps[step]
            )
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
            model_output: predicted noise `[B,3,S,S]`, or with the variance `[B,6,S,S]`, which not every scheduler reads.
            step: from 0.
            latents: x_t.
            eta: share of fresh noise, for schedulers that take it.
            generator: of that noise.
            guide: corrects the clean faces on the way, see `guided_step`; `None` leaves them alone.
        """

        def walk(chain: Chain) -> torch.Tensor:
            rows, scheduler = chain.rows, chain.schedule.scheduler
            step_kwargs = prepare_step_kwargs(scheduler, eta, _of_members(generator, chain.members))
            state = model_output[rows][:, : self._channels], chain.schedule.own_timesteps[step], latents[rows]
            if guide is None:
                return scheduler.step(*state, **step_kwargs).prev_sample
            return guided_step(scheduler, *state, lambda clean: guide(clean, rows), **step_kwargs)

        return self._gather(walk)

    def predict_clean(self, model_output: torch.Tensor, step: int, scaled_sample: torch.Tensor) -> torch.Tensor:
        """Return the clean faces that the network's answer to call number `step` implies; see `predict_clean`."""

        def predict(chain: Chain) -> torch.Tensor:
            rows, timestep = chain.rows, chain.schedule.timesteps[step]  # a number, on the host
            return predict_clean(self._scheduler, model_output[rows][:, :3], timestep, scaled_sample[rows])

        return self._gather(predict)

    def _gather(self, answer: Callable[[Chain], torch.Tensor]) -> torch.Tensor:
        """Return what is answered for the rows of each chain, as one batch."""
        answers = [answer(chain) for chain in self._chains]
        if len(answers) == 1:
            return answers[0]
        batch = answers[0].new_empty(self._size, *answers[0].shape[1:])
        for chain, part in zip(self._chains, answers, strict=True):
            batch[chain.rows] = part
        return batch


def prepare_step_kwargs(scheduler: SchedulerMixin, eta: float, generator: Generators) -> dict[str, Any]:
    """Return those of eta and the generator that the scheduler's `step` is meant to take."""
    arguments: dict[str, Any] = {"eta": eta} if isinstance(scheduler, TAKES_ETA) else {}
    if "generator" in inspect.signature(scheduler.step).parameters:
        arguments["generator"] = generator
    return arguments


def _of_members(generator: Generators, members: list[int]) -> Generators:
    return None if generator is None else [generator[member] for member in members]
