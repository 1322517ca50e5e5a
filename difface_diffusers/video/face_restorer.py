"""One face of a scene restored frame by frame, with its noise held still and its pictures steady over time."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..photos.treatment import FaceTreatment, choose_treatment
from ..pipelines.pipeline_difface import DifFacePipeline
from ..pipelines.runs import as_run
from .plan import FacePlan, Judgement
from .settings import VideoSettings
from .steady_mean import SteadyMean


ESTIMATE_MEMORY, RESTORED_MEMORY = 0.9, 0.5  # of `SteadyMean`, at full steadiness


@dataclass(frozen=True)
class RestoredFace:
    """A face in one frame.

    Attributes:
        estimate: what the estimator answers, `[S,S,3]` float32 in [0,1], as the next.
        restored: what the prior makes of it.
        treatment: how much of both is put back.
    """

    estimate: np.ndarray
    restored: np.ndarray
    treatment: FaceTreatment


class FaceRestorer:
    """Takes the crops of one face in the order of their frames, and gives back what became of them some frames later.

    Its noise is the same in every frame, of x_N and of every step of the chain, and lies still in the crop, which the smooth
    landmarks hold to the face. The estimates are averaged over time before they are noised, the restored faces after it.

    Args:
        pipe: restores.
        plan: of the face; where it has no judgement every frame has a start, a treatment and noise of its own.
        settings: of the call.
    """

    def __init__(self, pipe: DifFacePipeline, plan: FacePlan, settings: VideoSettings) -> None:
        self._pipe, self._plan, self._settings = pipe, plan, settings
        self._estimates = SteadyMean(ESTIMATE_MEMORY * settings.steadiness)
        self._faces = SteadyMean(RESTORED_MEMORY * settings.steadiness)
        self._frames: list[int] = []  # those that have not been given back
        self._crops: list[np.ndarray] = []  # that wait for the estimator
        self._judged: list[Judgement] = []  # of the frames whose estimates wait to be averaged
        self._steady: list[np.ndarray] = []  # estimates that wait for the prior
        self._finished: list[tuple[np.ndarray, Judgement]] = []  # the estimates of faces that wait to be averaged

    def add(self, frame: int, crop: np.ndarray) -> dict[int, RestoredFace]:
        """Take the crop `[S,S,3]`, float32 in [0,1], of the next frame; return what is known by now, by frame."""
        self._frames.append(frame)
        self._crops.append(crop)
        return self._go_on() if len(self._crops) == self._settings.batch_size else {}

    def finish(self) -> dict[int, RestoredFace]:
        """Return what has not been given back; the next crop begins anew."""
        return self._go_on(to_the_end=True)

    def _go_on(self, to_the_end: bool = False) -> dict[int, RestoredFace]:
        if self._crops:
            estimates, judged = judge_frames(self._pipe, self._crops, self._plan.judgement, self._settings)
            self._judged += judged
            self._steady += self._estimates.add(estimates)
            self._crops = []
        if to_the_end:
            self._steady += self._estimates.finish()
        faces = []
        while len(self._steady) >= self._settings.batch_size or (self._steady and to_the_end):
            count = min(len(self._steady), self._settings.batch_size)
            estimates, self._steady = self._steady[:count], self._steady[count:]
            judged, self._judged = self._judged[:count], self._judged[count:]
            starts = [judgement.start for judgement in judged]
            restored = restore(self._pipe, estimates, starts, self._noise(count), self._settings)
            self._finished += zip(estimates, judged, strict=True)
            faces += self._faces.add(restored)
        if to_the_end:
            faces += self._faces.finish()
        answers = {}
        for face in faces:
            estimate, judgement = self._finished.pop(0)
            answers[self._frames.pop(0)] = RestoredFace(estimate, face, judgement.treatment)
        return answers

    def _noise(self, count: int) -> list[torch.Generator]:
        """Return the sources of noise of the next frames that go through the prior."""
        first = len(self._finished)
        keys = [[self._settings.seed, self._plan.number] for _ in range(count)]
        if self._settings.steadiness == 0:
            keys = [[*key, self._frames[first + index]] for index, key in enumerate(keys)]
        seeds = [int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1)) for key in keys]
        return [torch.Generator().manual_seed(seed) for seed in seeds]


@torch.no_grad()
def judge_frames(
    pipe: DifFacePipeline, crops: Sequence[np.ndarray], judgement: Judgement | None, settings: VideoSettings
) -> tuple[list[np.ndarray], list[Judgement]]:
    """Return the estimates of crops, and how each is to be treated.

    Args:
        pipe: its estimator answers.
        crops: `[S,S,3]`, float32 in [0,1].
        judgement: of all of them; `None` finds one for each.
        settings: of the call.
    """
    estimates, starts = pipe.prepare_estimates(_to_batch(crops, pipe.device), settings.sampling)
    guesses = _from_batch(estimates)
    if judgement is not None:
        return guesses, [judgement] * len(crops)
    clean_damage = pipe.config.get("clean_damage")
    treatments = [
        choose_treatment(crop, guess, clean_damage, settings.keep_clean, settings.blend)
        for crop, guess in zip(crops, guesses, strict=True)
    ]
    return guesses, [Judgement(start, treatment) for start, treatment in zip(starts, treatments, strict=True)]


def judge_face(pipe: DifFacePipeline, crops: list[np.ndarray], settings: VideoSettings) -> Judgement:
    """Return how a face is to be treated in all of a scene, by some of its crops: the median start and treatment."""
    _, judged = judge_frames(pipe, crops, None, settings)
    starts = sorted(judgement.start for judgement in judged)
    treatments = sorted((judgement.treatment for judgement in judged), key=lambda treatment: treatment.damage)
    return Judgement(starts[len(starts) // 2], treatments[len(treatments) // 2])


@torch.no_grad()
@as_run
def restore(
    pipe: DifFacePipeline,
    estimates: Sequence[np.ndarray],
    starts: list[int],
    noise: list[torch.Generator],
    settings: VideoSettings,
) -> list[np.ndarray]:
    """Noise estimates `[S,S,3]`, float32 in [0,1], each to its start, and let the prior walk back; the same in and out.

    Raises:
        KeyboardInterrupt: the chains were interrupted.
    """
    request = pipe.prepare_request(
        num_images=len(estimates),
        sampling=settings.sampling,
        num_samples=1,
        generator=noise,
        latents=None,
        output_type="np",
        callback_on_step_end=settings.callback_on_step_end,
        callback_on_step_end_tensor_inputs=settings.callback_on_step_end_tensor_inputs,
    )
    latents = pipe.restore_estimates(_to_batch(estimates, pipe.device), starts, request)
    if pipe.interrupt:  # so these are no faces
        raise KeyboardInterrupt
    return _from_batch((latents / 2 + 0.5).clamp(0, 1))


def _to_batch(faces: Sequence[np.ndarray], device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.stack(faces)).permute(0, 3, 1, 2).to(device)


def _from_batch(faces: torch.Tensor) -> list[np.ndarray]:
    return list(np.ascontiguousarray(faces.permute(0, 2, 3, 1).cpu().numpy()))
