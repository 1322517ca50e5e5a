"""Do DifFace's claims hold for this model? Starts, fresh noise, schedulers, estimators and degradations.

    python -m benchmarks.ablations --data FOLDER_OF_CLEAN_FACES --output FOLDER [--srcnn FOLDER]

Clean aligned faces are brought to the model's size and degraded blindly over the training range. Every table changes one
thing and leaves the rest at the defaults saved in the pipeline, but for the number of network calls and where the chain starts:
only the last two tables, those of the degradations, have the pipeline's. Written to OUTPUT: `ablations.md`,
`ablations.json`. Needs the extra `metrics`.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from diffusers import DDIMScheduler

from difface_diffusers import DifFacePipeline, SRCNNEstimator
from difface_diffusers.degradation.blind import DegradationRanges
from difface_diffusers.models.estimator import DiffusedEstimator
from difface_diffusers.pipelines.sampling import AUTO

from .faces import BLIND, add_face_options, check_face_options, degrade_faces, load_chosen_faces, restore, with_parts
from .models import load_pipeline
from .quality import COLUMNS, LEGEND, measure_each, summarize, table
from .reports import FaceReport, circumstances
from .steps import SAMPLERS
from .uncertainty import DAMAGES


STARTS = (100, 200, 300, 400, 500, 600, 1000)
ETAS = (0.0, 0.5, 1.0)
START, CALLS = 150, 8  # of the chains
START_CALLS = 16  # where the starts are compared: a late one needs more
SCHEDULERS = tuple(dict.fromkeys(scheduler_class for scheduler_class, _ in SAMPLERS.values()))
CHANGES = {"change": ("change", "{:+.3f}"), "+-": ("interval", "{:.3f}")}  # of the identity
CONFIDENCE = 1.96  # standard errors to each side that 95 % of the means lie within
GRAIN_SIGMA, GRAIN_SIZE = 0.12, 0.7  # share of white, at middle gray; pixels of the model

Rows = dict[str, dict[str, torch.Tensor]]  # by its name what `quality.measure_each` returns
Degradation = Callable[[torch.Tensor, int], torch.Tensor]  # of clean faces `[B,3,S,S]` by a seed


@dataclass(frozen=True)
class AblationReport(FaceReport):
    """Figures of one run, as they are written to `ablations.json`; a row is what `condense` returns.

    Attributes:
        seeds: How often each face was degraded.
        starts: By start; with `kept_error`, see `measure_starts`.
        etas: By eta.
        schedulers: By scheduler.
        estimators: By estimator, alone and through the chain; "twice" asked is the mean with the answers to mirror images.
        severities: By how badly faces are degraded, before and restored from `START`, and from starts of their own.
        degradations: By degradation, before, as estimated and restored.
    """

    seeds: int
    starts: dict[str, dict[str, float]]
    etas: dict[str, dict[str, float]]
    schedulers: dict[str, dict[str, float]]
    estimators: dict[str, dict[str, float]]
    severities: dict[str, dict[str, float]]
    degradations: dict[str, dict[str, float]]

    def markdown(self) -> str:
        """Return the tables and the lines that say what they were measured on."""
        columns = COLUMNS | CHANGES
        parts = [
            "Where the chain starts:",
            *("", *table(self.starts, columns | {"kept error": ("kept_error", "{:.2f}")}), ""),
            "How much fresh noise each step adds, with DDIM:",
            *("", *table(self.etas, columns), ""),
            "Which scheduler:",
            *("", *table(self.schedulers, columns), ""),
            "Which estimator, and what the chain makes of its answer:",
            *("", *table(self.estimators, columns), ""),
            f"How badly the faces are degraded, and whether they start at t = {START} or each where it chooses:",
            *("", *table(self.severities, columns), ""),
            "Degradations of which all but the first were never trained on:",
            *("", *table(self.degradations, columns), ""),
            f"{self.faces} faces of {self.size} x {self.size} pixels, each degraded {self.seeds} times; {START_CALLS} network "
            f"calls in the first table, the pipeline's default in the last two, {CALLS} from t = {START} in the others. "
            f"{LEGEND} Change: of the identity, against the first row or the input of the same degradation, with its interval "
            "of 95 % over the faces. Kept error: how far apart the chain ends from the estimate and from the clean face with "
            "the same noise, as a share of how far apart it began.",
            "",
        ]
        return "\n".join(parts)


class GivenEstimate(DiffusedEstimator):
    """Answers what it is given, so that a chain can start from any face."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = torch.nn.Parameter(torch.empty(0))  # diffusers tells a model's dtype by its parameters

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return `image`."""
        return image


def add_film_grain(faces: torch.Tensor, seed: int) -> torch.Tensor:
    """Add gray, slightly coarse noise, strongest in the middle tones, to `[B,3,S,S]`; the i-th depends on `seed` and i."""
    grains = []
    for index in range(len(faces)):
        noise = np.random.default_rng([seed, index]).standard_normal(faces.shape[-2:], dtype=np.float32)
        noise = cv2.GaussianBlur(noise, (0, 0), GRAIN_SIZE, borderType=cv2.BORDER_REFLECT_101)
        grains.append(torch.from_numpy(noise / noise.std()))
    strength = 4 * GRAIN_SIGMA * faces.mean(dim=1, keepdim=True) * (1 - faces.mean(dim=1, keepdim=True))
    return (faces + strength * torch.stack(grains)[:, None]).clamp(0, 1)


def blindly(ranges: DegradationRanges) -> Degradation:
    """Return the blind degradation with other ranges."""
    return lambda clean, seed: degrade_faces(clean, seed, ranges)


DEGRADATIONS: dict[str, Degradation] = {
    "training range": blindly(BLIND),
    "stronger blur": blindly(replace(BLIND, blur_sigma=(15, 25))),
    "heavier noise": blindly(replace(BLIND, noise_sigma=(25, 50))),
    "JPEG quality 10": blindly(replace(BLIND, jpeg_quality=(10, 10))),
    "shrunk further": blindly(replace(BLIND, downscale=(32, 48))),
    "film grain": lambda clean, seed: add_film_grain(degrade_faces(clean, seed), seed),
}


def condense(rows: Rows, seeds: int) -> dict[str, dict[str, float]]:
    """Return the means of a table's rows, and by how much the identity of each lies above that of the row it is compared with.

    That is the input of the same degradation, or the first row. `interval` is to each side of `change`, over the faces; the
    metrics hold each face `seeds` times.
    """
    condensed = {}
    for name, row in rows.items():
        other = f"{name.rpartition(': ')[0]}: input"
        base = rows.get(other, next(iter(rows.values())))
        condensed[name] = {metric: values.mean().item() for metric, values in row.items()}
        if row is not base:
            changes = (row["identity_distance"] - base["identity_distance"]).unflatten(0, (seeds, -1)).mean(dim=0)
            summary = summarize(changes)
            condensed[name] |= {"change": summary["mean"], "interval": CONFIDENCE * summary["standard_error"]}
    return condensed


def estimate(pipe: DifFacePipeline, degraded: torch.Tensor, batch_size: int, start: int | str = START) -> torch.Tensor:
    """Return the guesses for `[B,3,S,S]` with a start, in batches; see `DifFacePipeline.prepare_estimates`."""
    sampling = pipe.with_defaults(start_timestep=start)
    return torch.cat([pipe.prepare_estimates(batch, sampling)[0] for batch in degraded.split(batch_size)])


def measure_starts(chain: DifFacePipeline, estimates: torch.Tensor, clean: torch.Tensor, batch_size: int) -> Rows:
    """Walk from the same estimates by starts, x_N with its nominal noise; `kept_error` compares with the clean face's chain.

    `kept_error` is |chain(estimate) - chain(clean)| / |estimate - clean| with the same noise in both chains, root mean
    squares over the set: 1 where the chain keeps the estimator's error, 0 where it forgets it (DifFace, section 3.2).
    """
    rows = {}
    settings = {"num_inference_steps": START_CALLS, "s_noise": 1.0}
    for start in STARTS:
        restored, _ = restore(chain, estimates, batch_size, start_timestep=start, **settings)
        ideal, _ = restore(chain, clean, batch_size, start_timestep=start, **settings)
        kept = (restored - ideal).square().mean().sqrt() / (estimates - clean).square().mean().sqrt()
        rows[f"N = {start}"] = measure_each(restored, clean) | {"kept_error": kept}
    return rows


def measure_etas(chain: DifFacePipeline, estimates: torch.Tensor, clean: torch.Tensor, batch_size: int) -> Rows:
    """Walk from the same estimates by DDIM with more and more fresh noise; x_N has its nominal noise."""
    walker = with_parts(chain, scheduler=DDIMScheduler.from_config(chain.scheduler.config))
    return {
        f"eta {eta:g}": measure_each(restore(walker, estimates, batch_size, eta=eta, s_noise=1.0)[0], clean)
        for eta in ETAS
    }


def measure_schedulers(chain: DifFacePipeline, estimates: torch.Tensor, clean: torch.Tensor, batch_size: int) -> Rows:
    """Walk from the same estimates by schedulers that keep the noise levels of the pipeline's own."""
    rows = {}
    for scheduler_class in SCHEDULERS:
        walker = with_parts(chain, scheduler=scheduler_class.from_config(chain.scheduler.config))
        rows[scheduler_class.__name__] = measure_each(restore(walker, estimates, batch_size)[0], clean)
    return rows


def measure_estimators(
    chain: DifFacePipeline, answers: dict[str, torch.Tensor], clean: torch.Tensor, batch_size: int
) -> Rows:
    """Measure each estimator's answers, as they are and after the chain."""
    rows = {}
    for name, faces in answers.items():
        rows[name] = measure_each(faces, clean)
        rows[f"{name}, chain"] = measure_each(restore(chain, faces, batch_size)[0], clean)
    return rows


def measure_severities(pipe: DifFacePipeline, clean: torch.Tensor, seed: int, batch_size: int) -> Rows:
    """Measure input and restorations for each of `DAMAGES`, from `START` and, if the pipeline can, by `AUTO`."""
    starts = [START, AUTO] if pipe.can_choose_starts else [START]
    rows = {}
    for name, ranges in DAMAGES.items():
        degraded = degrade_faces(clean, seed, ranges)
        rows[f"{name}: input"] = measure_each(degraded, clean)
        for start in starts:
            restored, _ = restore(pipe, degraded, batch_size, start_timestep=start)
            rows[f"{name}: {start}"] = measure_each(restored, clean)
    return rows


def measure_degradations(pipe: DifFacePipeline, clean: torch.Tensor, seed: int, batch_size: int) -> Rows:
    """Measure input, estimate and restoration for each of `DEGRADATIONS`."""
    rows = {}
    for name, degradation in DEGRADATIONS.items():
        degraded = degradation(clean, seed)
        restored, estimates = restore(pipe, degraded, batch_size)
        stages = {"input": degraded, "estimate": estimates, "restored": restored}
        rows |= {f"{name}: {stage}": measure_each(faces, clean) for stage, faces in stages.items()}
    return rows


@torch.no_grad()
def report(
    pipe: DifFacePipeline,
    model: str,
    srcnn: SRCNNEstimator | None,
    faces: torch.Tensor,
    seed: int,
    seeds: int,
    batch_size: int,
) -> AblationReport:
    """Measure everything; the table of estimators has `srcnn` too, if there is one.

    Each of `faces` is taken `seeds` times, with other damage and other noise.
    """
    clean = faces.repeat(seeds, 1, 1, 1)
    degraded = degrade_faces(clean, seed)
    chain = with_parts(pipe, estimator=GivenEstimate())
    chain.register_to_config(default_num_inference_steps=CALLS, default_start_timestep=START)
    answers = {"none": degraded, "the pipeline's": estimate(pipe, degraded, batch_size)}
    if pipe.can_choose_starts:
        answers["the pipeline's, twice"] = estimate(pipe, degraded, batch_size, AUTO)
    if srcnn is not None:
        answers["SRCNN"] = estimate(with_parts(pipe, estimator=srcnn), degraded, batch_size)
    estimates = answers["the pipeline's"]
    rows = {
        "starts": measure_starts(chain, estimates, clean, batch_size),
        "etas": measure_etas(chain, estimates, clean, batch_size),
        "schedulers": measure_schedulers(chain, estimates, clean, batch_size),
        "estimators": measure_estimators(chain, answers, clean, batch_size),
        "severities": measure_severities(pipe, clean, seed, batch_size),
        "degradations": measure_degradations(pipe, clean, seed, batch_size),
    }
    condensed = {name: condense(each, seeds) for name, each in rows.items()}
    return AblationReport(**circumstances(pipe, model, faces, seed), seeds=seeds, **condensed)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the ablations of a pipeline on a folder of clean faces."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ablations",
        description="What start, eta, estimator and degradation do to the restorations of a DifFace pipeline.",
    )
    add_face_options(parser)
    parser.add_argument("--srcnn", type=Path, help="folder of a saved SRCNNEstimator to compare with")
    parser.add_argument("--seeds", type=int, default=3, help="how often each face is degraded (default: 3)")
    args = parser.parse_args(argv)
    check_face_options(parser, args, lowest_limit=2)  # one face is no set
    if args.seeds < 1:
        parser.error(f"--seeds must be at least 1, got {args.seeds}")

    pipe = load_pipeline(args.model, DifFacePipeline)
    srcnn = SRCNNEstimator.from_pretrained(args.srcnn) if args.srcnn else None
    clean = load_chosen_faces(args, pipe.model_size[0])
    figures = report(pipe, args.model, srcnn, clean, args.seed, args.seeds, args.batch_size)
    figures.write(args.output, "ablations")
    print(figures.markdown())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
