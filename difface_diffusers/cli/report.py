"""What became of every input, for the summary and for `--report`."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tqdm import tqdm

from ..faces import Face
from ..utils.atomic import whole_file


@dataclass(frozen=True)
class FileResult:
    """What became of one input.

    Attributes:
        input: as it was named or found.
        outputs: the files written.
        faces: per face its `box` (left, top, right, bottom), `landmarks` (five times x, y), both in pixels of the input, and
            `score`; with `--uncertainty` the mean `uncertainty`, and `identity_distance` and `coarse_psnr` of each sample.
            Of an aligned face the latter alone.
        seconds: what it took, in equal shares with those that went through the networks with it.
        error: why it failed.
        skipped: whether its outputs were there already.
    """

    input: str
    outputs: list[str] = field(default_factory=list)
    faces: list[dict] = field(default_factory=list)
    seconds: float = 0.0
    error: str | None = None
    skipped: bool = False


def report_done(
    file: Path,
    targets: Sequence[Path],
    faces: Sequence[Face],
    seconds: float,
    aligned: bool,
    details: Sequence[dict] = (),
) -> FileResult:
    """Say where the results of a file are, and how many faces were found unless it is one, and return its record.

    `details` are what the samples of each face tell, if they are asked.
    """
    found = "" if aligned else f" ({len(faces) or 'no'} face{'s' if len(faces) != 1 else ''})"
    tqdm.write(f"{file} -> {', '.join(map(str, targets))}{found}")
    records = [
        {
            "box": [round(value, 1) for value in face.box],
            "landmarks": face.landmarks.round(1).tolist(),
            "score": round(face.score, 3),
        }
        for face in faces
    ]
    for number, detail in enumerate(details, start=1):
        tqdm.write(f"  face {number}: {_samples_text(detail)}")
    if details:
        records = [record | detail for record, detail in zip(records or [{}], details, strict=True)]
    return FileResult(str(file), list(map(str, targets)), records, round(seconds, 3))


def _samples_text(detail: dict) -> str:
    distances, decibels = (
        "/".join(f"{value:{form}}" for value in detail[name])
        for name, form in (("identity_distance", ".2f"), ("coarse_psnr", ".1f"))
    )
    uncertainty = f"uncertainty {detail['uncertainty']:.3f}"
    return f"{uncertainty}, identity moved by {distances}, coarse detail kept to {decibels} dB"


def write_report(results: Sequence[FileResult], path: Path) -> None:
    """Write the results as JSON, a list with one object per input."""
    text = json.dumps([asdict(result) for result in results], indent=2)
    with whole_file(path) as file:
        file.write(text.encode())


def conclude(results: Sequence[FileResult], seconds: float, verb: str, report: Path | None) -> int:
    """Say what was done and what failed, write the report if there is to be one, and return the exit status."""
    failed = [result for result in results if result.error is not None]
    skipped = sum(result.skipped for result in results)
    done = len(results) - len(failed) - skipped
    already = f", {skipped} were there already" if skipped else ""
    print(f"{verb} {done} of {len(results)} inputs{already} in {seconds:.1f} s")
    for result in failed:
        print(f"failed: {result.input}: {result.error}", file=sys.stderr)
    if report is not None:
        try:
            write_report(results, report)
        except OSError as error:
            print(f"--report {report} cannot be written: {error}", file=sys.stderr)
            return 1
    return 1 if failed else 0
