"""What became of every input, for the summary and for `--report`."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import cv2
from tqdm import tqdm

from ..faces import Face
from ..utils.atomic import whole_file
from ..utils.wording import counted
from .inputs import Source, some_of


UNREACHED = "the run ended before"
# What can go wrong with one input alone; other errors are mistakes of the program.
FAILURES = (OSError, ValueError, ArithmeticError, LookupError, RuntimeError, MemoryError, cv2.error)


@dataclass(frozen=True)
class FileResult:
    """What became of one input.

    Attributes:
        input: as it was named or found.
        outputs: the files written.
        faces: per face its `box` (left, top, right, bottom), `landmarks` (five times x, y), both in pixels of the input, and
            `score`; how far it was changed and why (`treatment`, see `FaceTreatment`); with `--uncertainty` the mean
            `uncertainty`, and `identity_distance` and `coarse_psnr` of each sample.
            Of an aligned face only what `--uncertainty` tells.
        seconds: what it took, in equal shares with those that went through the networks with it.
        error: why it failed.
        skipped: whether its outputs were there already.
        page: which of the input's pictures it is, from 1; `None` is the first, and the only one that was read.
        pages: how many pictures the input holds.
    """

    input: str
    outputs: list[str] = field(default_factory=list)
    faces: list[dict] = field(default_factory=list)
    seconds: float = 0.0
    error: str | None = None
    skipped: bool = False
    page: int | None = None
    pages: int = 1


def failed(source: Source, error: object) -> FileResult:
    """Return the record of an input that failed."""
    plain = isinstance(error, str | OSError | ValueError | cv2.error)
    text = str(error) if plain else f"{type(error).__name__}: {error}"
    return FileResult(source.name, error=text, page=source.page)


def finished(
    source: Source, targets: Sequence[Path], faces: Sequence[Face], seconds: float, details: Sequence[dict] = ()
) -> FileResult:
    """Return the record of an input whose results are written; `details` are what else is known of each face."""
    records = [
        {
            "box": [round(value, 1) for value in face.box],
            "landmarks": face.landmarks.round(1).tolist(),
            "score": round(face.score, 3),
        }
        for face in faces
    ]
    if details:
        records = [record | detail for record, detail in zip(records or [{}], details, strict=True)]
    return FileResult(source.name, list(map(str, targets)), records, round(seconds, 3), page=source.page)


def say_done(result: FileResult, aligned: bool) -> None:
    """Say where the results of an input are, how many faces were found and left alone, and what their samples tell."""
    count = len(result.faces)
    notes = [] if aligned else [counted(count, "face") if count else "no faces"]
    kept = sum(face.get("treatment", {}).get("repaired") == 0 for face in result.faces)
    notes += [f"{kept} left as {'they are' if kept > 1 else 'it is'}"] if kept else []
    notes += [f"picture {result.page or 1} of {result.pages}"] if result.pages > 1 else []
    tqdm.write(f"{result.input} -> {', '.join(result.outputs)}" + (f" ({', '.join(notes)})" if notes else ""))
    for number, face in enumerate(result.faces, start=1):
        if "uncertainty" in face:
            tqdm.write(f"  face {number}: {_samples_text(face)}")


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


def conclude(
    results: Sequence[FileResult], seconds: float, verb: str, report: Path | None, left_out: Sequence[str] = ()
) -> int:
    """Say what was done, what failed and what was left out, write the report if there is to be one; return the exit status."""
    unreached = [result for result in results if result.error == UNREACHED]
    errors = [result for result in results if result.error not in (None, UNREACHED)]
    skipped = sum(result.skipped for result in results)
    done = len(results) - len(errors) - len(unreached) - skipped
    already = f", {skipped} were there already" if skipped else ""
    print(f"{verb} {done} of {len(results)} inputs{already} in {seconds:.1f} s")
    partly = [result.input for result in results if result.pages > 1 and result.page is None and not result.skipped]
    if partly:
        print(f"the first picture of several (--pages all takes all): {some_of(partly)}")
    for sentence in left_out:
        print(sentence)
    for result in errors:
        page = f" (picture {result.page})" if result.page else ""
        print(f"failed: {result.input}{page}: {result.error}", file=sys.stderr)
    if unreached:
        print(f"not reached: {some_of([result.input for result in unreached])}", file=sys.stderr)
    if report is not None:
        try:
            write_report(results, report)
        except OSError as error:
            print(f"--report {report} cannot be written: {error}", file=sys.stderr)
            return 1
    return 1 if errors or unreached else 0
