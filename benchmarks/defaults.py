"""Which noise and which start suit a model: what stands behind the defaults in its config.

    python -m benchmarks.defaults --data FOLDER_OF_CLEAN_FACES --output FOLDER [--s-noises 1 1.03] [--starts 100 150] \
        [--noise-margins 16 18]

Clean aligned faces are brought to the model's size, degraded blindly over the training range, and restored with the defaults
saved in the pipeline, but for the one that a table is about. For the number of network calls see `benchmarks.steps`. Written
to OUTPUT: `defaults.md` and `defaults.json`. Needs the extra `metrics`.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from difface_diffusers import DifFacePipeline
from difface_diffusers.pipelines.sampling import AUTO

from .faces import add_face_options, check_face_options, degrade_faces, load_chosen_faces, restore, with_parts
from .models import load_pipeline
from .quality import LEGEND, measure, table
from .reports import FaceReport, circumstances


S_NOISES = (1.0, 1.02, 1.03, 1.04, 1.05)
STARTS = (100, 150, 200)
NOISE_MARGINS = (14.0, 16.0, 18.0, 20.0, 22.0)


@dataclass(frozen=True)
class DefaultsReport(FaceReport):
    """Figures of one run, as they are written to `defaults.json`; a row is what `quality.measure` returns.

    Attributes:
        input: Of the degraded faces.
        s_noises: By factor on the first noise.
        starts: By timestep, the same for all faces.
        noise_margins: By margin, each face starting where it says; with the `lowest`, `highest` and `mean` start.
    """

    input: dict[str, float]
    s_noises: dict[float, dict[str, float]]
    starts: dict[int, dict[str, float]]
    noise_margins: dict[float, dict[str, float]]

    def markdown(self) -> str:
        """Return the tables and the line that says what they were measured on."""
        noises = {f"`s_noise` {noise:g}": row for noise, row in self.s_noises.items()}
        starts = {f"t = {start}": row for start, row in self.starts.items()}
        margins = {
            f"`noise_margin` {margin:g}: t = {row['lowest']} to {row['highest']}, mean {row['mean']:.0f}": row
            for margin, row in self.noise_margins.items()
        }
        parts = [
            "How strong the first noise is:",
            *("", *table({"input": self.input} | noises), ""),
            "Where the chain starts, for all faces or for each:",
            *("", *table(starts | margins), ""),
            f"{self.faces} faces of {self.size} x {self.size} pixels. {LEGEND}",
            "",
        ]
        return "\n".join(parts)


def measure_noise_margins(
    pipe: DifFacePipeline, degraded: torch.Tensor, clean: torch.Tensor, batch_size: int, noise_margins: Sequence[float]
) -> dict[float, dict[str, float]]:
    """Restore from starts of the faces' own, by margin."""
    walker = with_parts(pipe)
    sampling = pipe.with_defaults(start_timestep=AUTO)
    rows = {}
    for margin in noise_margins:
        walker.register_to_config(noise_margin=margin)
        restored, _ = restore(walker, degraded, batch_size, start_timestep=AUTO)
        starts = [
            start for batch in degraded.split(batch_size) for start in walker.prepare_estimates(batch, sampling)[1]
        ]
        spread = {"lowest": min(starts), "highest": max(starts), "mean": sum(starts) / len(starts)}
        rows[margin] = measure(restored, clean) | spread
    return rows


@torch.no_grad()
def report(
    pipe: DifFacePipeline,
    model: str,
    clean: torch.Tensor,
    seed: int,
    batch_size: int,
    s_noises: Sequence[float],
    starts: Sequence[int],
    noise_margins: Sequence[float],
) -> DefaultsReport:
    """Degrade, restore with one setting after the other, and measure."""
    degraded = degrade_faces(clean, seed)
    return DefaultsReport(
        **circumstances(pipe, model, clean, seed),
        input=measure(degraded, clean),
        s_noises={noise: measure(restore(pipe, degraded, batch_size, s_noise=noise)[0], clean) for noise in s_noises},
        starts={
            start: measure(restore(pipe, degraded, batch_size, start_timestep=start)[0], clean) for start in starts
        },
        noise_margins=measure_noise_margins(pipe, degraded, clean, batch_size, noise_margins),
    )


def check_settings(parser: argparse.ArgumentParser, args: argparse.Namespace, pipe: DifFacePipeline) -> None:
    """Stop with a usage error where the pipeline would refuse a setting."""
    settings = [{"s_noise": noise} for noise in args.s_noises] + [{"start_timestep": start} for start in args.starts]
    try:
        for setting in settings:
            pipe.check_inputs(num_images=1, sampling=pipe.with_defaults(**setting))
    except ValueError as error:
        parser.error(str(error))
    if min(args.noise_margins, default=1) <= 0:
        parser.error(f"--noise-margins must be above 0, got {min(args.noise_margins)}")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure settings of a pipeline on a folder of clean faces."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.defaults",
        description="What the strength of the first noise and the start do to the restorations of a DifFace pipeline.",
    )
    add_face_options(parser)
    for name, number, values in (
        ("--s-noises", float, S_NOISES),
        ("--starts", int, STARTS),
        ("--noise-margins", float, NOISE_MARGINS),
    ):
        parser.add_argument(name, type=number, nargs="*", default=values, help=f"default: {values}; none: left out")
    args = parser.parse_args(argv)
    check_face_options(parser, args, lowest_limit=2)  # one face is no set

    pipe = load_pipeline(args.model, DifFacePipeline)
    check_settings(parser, args, pipe)
    clean = load_chosen_faces(args, pipe.model_size[0])
    figures = report(
        pipe, str(args.model), clean, args.seed, args.batch_size, args.s_noises, args.starts, args.noise_margins
    )
    figures.write(args.output, "defaults")
    print(figures.markdown())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
