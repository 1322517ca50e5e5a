"""For whom is it worse? What a restoration is worth to groups of people.

    python -m benchmarks.groups --data FOLDER_OF_CLEAN_FACES --output FOLDER

`benchmarks/people.csv` says by the names of faces, without their suffixes, who is on them; `--people` takes another table, with
columns of one's own. These faces are degraded over the whole training range, with several seeds, and restored with the
defaults saved in the pipeline. Written to OUTPUT: `groups.md` and `groups.json`. Needs the extra `metrics`.
"""

import argparse
import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from difface_diffusers import DifFacePipeline
from difface_diffusers.evaluation import identity_distance, landmark_distance, psnr

from .faces import degrade_faces, load_named_faces, restore
from .models import add_model_option, load_pipeline
from .quality import summarize
from .reports import FaceReport, circumstances


PEOPLE = Path(__file__).with_name("people.csv")
METRICS = {"identity": identity_distance, "landmarks": landmark_distance, "psnr": psnr}
EVERYBODY = "everybody"
COLUMNS = (
    *("faces", "identity before", "identity after", "nearer by"),
    *("landmarks before", "landmarks after", "PSNR before", "PSNR after"),
)


@dataclass(frozen=True)
class GroupReport(FaceReport):
    """Figures of each group.

    Attributes:
        seeds: How often each face was degraded.
        rows: By group: the number of its `faces`; the means of "input" and "restored" by metric; and by how much the latter is
            better, the mean and its standard error over the faces.
    """

    seeds: int
    rows: dict[str, dict[str, float]]

    def markdown(self) -> str:
        """See `Report.markdown`."""
        lines = [
            "|  | " + " | ".join(COLUMNS) + " |",
            "| --- |" + " ---: |" * len(COLUMNS),
        ]
        for group, row in self.rows.items():
            lines.append(
                f"| {group} | {row['faces']} | {row['identity_input']:.3f} | {row['identity_restored']:.3f} |"
                f" {row['identity_gain']:.3f} +- {row['identity_error']:.3f} | {row['landmarks_input']:.2f} |"
                f" {row['landmarks_restored']:.2f} | {row['psnr_input']:.2f} | {row['psnr_restored']:.2f} |"
            )
        lines += [
            "",
            f"{self.faces} faces of {self.size} x {self.size} pixels, each degraded {self.seeds} times; means over a group's "
            "faces, and the standard error of what it gains. Landmarks in pixels, PSNR in dB.",
            "",
        ]
        return "\n".join(lines)


def read_people(path: Path) -> tuple[list[str], dict[str, list[int]]]:
    """Return the names of a table's faces, and by group which of them belong to it.

    A column and a value make a group, "age: child"; an empty value makes none.

    Raises:
        ValueError: The table has no column `name`, or no row.
    """
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or "name" not in rows[0]:
        raise ValueError(
            f"--people {path} must be a table of comma-separated values with a column `name` and a row a face"
        )
    groups: dict[str, list[int]] = {EVERYBODY: list(range(len(rows)))}
    for column in rows[0]:
        for value in sorted({row[column] for row in rows if column != "name" and row[column]}):
            groups[f"{column}: {value}"] = [index for index, row in enumerate(rows) if row[column] == value]
    return [row["name"] for row in rows], groups


def measure(pipe: DifFacePipeline, clean: torch.Tensor, seeds: int, batch_size: int) -> dict[str, torch.Tensor]:
    """Return each metric of the degraded and of the restored faces, `[B]`, means over the seeds from 0 on."""
    figures: dict[str, list[torch.Tensor]] = {}
    for seed in range(seeds):
        degraded = degrade_faces(clean, seed)
        restored, _ = restore(pipe, degraded, batch_size)
        for name, metric in METRICS.items():
            for kind, images in (("input", degraded), ("restored", restored)):
                figures.setdefault(f"{name}_{kind}", []).append(metric(images, clean))
    return {name: torch.stack(values).mean(dim=0) for name, values in figures.items()}


def row_of(figures: dict[str, torch.Tensor], members: list[int]) -> dict[str, float]:
    """Return what a row of the table needs of the faces `members`."""
    means = {name: values[members].mean().item() for name, values in figures.items()}
    nearer = (figures["identity_input"] - figures["identity_restored"])[members]
    gain = summarize(nearer)
    return means | {"faces": len(members), "identity_gain": gain["mean"], "identity_error": gain["standard_error"]}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure a pipeline on groups of people."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.groups", description="What a restoration is worth to groups of people."
    )
    add_model_option(parser)
    parser.add_argument("--data", type=Path, required=True, help="folder of clean aligned faces")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    parser.add_argument("--people", type=Path, default=PEOPLE, help="table of who is on which face")
    parser.add_argument("--seeds", type=int, default=3, help="how often each face is degraded (default: 3)")
    parser.add_argument("--batch-size", type=int, default=8, help="faces worked on at once (default: 8)")
    args = parser.parse_args(argv)
    for name in ("seeds", "batch_size"):
        if getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1, got {getattr(args, name)}")
    pipe = load_pipeline(args.model, DifFacePipeline)
    try:
        names, groups = read_people(args.people)
        clean = load_named_faces(args.data, pipe.model_size[0], names)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    figures = measure(pipe, clean, args.seeds, args.batch_size)
    rows = {group: row_of(figures, members) for group, members in groups.items()}
    report = GroupReport(**circumstances(pipe, args.model, clean, seed=0), seeds=args.seeds, rows=rows)
    report.write(args.output, "groups")
    print(report.markdown())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
