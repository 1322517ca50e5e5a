"""`difface evaluate`: judge a folder of restored faces against the clean ones, or without them."""

import argparse
import json
import math
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..utils.atomic import whole_file
from ..utils.records import take
from .errors import UsageError, refuse
from .parser import Commands


if TYPE_CHECKING:
    from ..evaluation.folders import FolderScores

DESCRIPTION = """\
Judge restored faces. Files belong together by their names without suffix, and must have the same size. What `restore` writes
beside its results, NAME_compare.png and NAME_uncertainty.png, is left out, unless there is a reference of that name. Of the
metrics, psnr, psnr_y, coarse_psnr, ssim, ms_ssim, lpips, gradient_ratio, identity_distance and landmark_distance compare with
--reference; niqe and piqe with nothing; frechet_distance (of dlib's embeddings), fid and kid compare sets, with --reference
and, ending in _set, with --reference-set. lpips, fid and kid need a file with their network. The mean over the images is
printed; --output has the value of each.
"""


@dataclass(frozen=True)
class EvaluateOptions:
    """What `difface evaluate` is asked.

    Attributes:
        restored: folder of restored faces.
        reference: folder of the clean faces.
        input: folder of the degraded faces, to be judged too.
        reference_set: folder of any other clean faces.
        metrics: what to take; `None` is what needs no file, and what files are given for.
        lpips_weights: file for lpips.
        features: file for fid and kid.
        output: file to write all values to.

    Raises:
        UsageError: there is nothing to compare with.
    """

    restored: Path
    reference: Path | None
    input: Path | None
    reference_set: Path | None
    metrics: list[str] | None
    lpips_weights: Path | None
    features: Path | None
    output: Path | None

    def __post_init__(self) -> None:
        alone = set(self.metrics or []) & {"niqe", "piqe"}
        if self.reference is None and self.reference_set is None and not alone:
            raise UsageError(
                "there is nothing to compare with; give --reference or --reference-set, or --metrics niqe piqe"
            )


def add_parser(subparsers: Commands) -> None:
    """Declare the arguments of `difface evaluate`."""
    parser = subparsers.add_parser(
        "evaluate",
        help="judge restored faces",
        description=DESCRIPTION,
        examples=[
            "difface evaluate --restored restored/ --input blind/lq --reference blind/hq -o report.json",
            "difface evaluate --video out.mp4 --reference in.mp4",
        ],
    )
    judged = parser.add_mutually_exclusive_group(required=True)
    judged.add_argument("--restored", type=Path, metavar="DIR", help="folder of restored faces")
    judged.add_argument(
        "--video", type=Path, metavar="FILE", help="a restored video, to be judged for steadiness against --reference"
    )
    parser.add_argument(
        "--reference",
        type=Path,
        metavar="DIR",
        help="folder of the clean faces; of a video the clean one, or the input",
    )
    parser.add_argument("--input", type=Path, metavar="DIR", help="folder of the degraded faces, to be judged too")
    parser.add_argument("--reference-set", type=Path, metavar="DIR", help="folder of any other clean faces")
    parser.add_argument(
        "--metrics",
        nargs="+",
        metavar="NAME",
        help="what to take; unless given, what needs no file and works at any size, and what files are given for",
    )
    parser.add_argument(
        "--lpips-weights",
        type=Path,
        metavar="FILE",
        help="for lpips: alexnet-owt-7be5be79.pth of download.pytorch.org",
    )
    parser.add_argument(
        "--features", type=Path, metavar="FILE", help="for fid and kid: TorchScript, as inception-2015-12-05.pt"
    )
    parser.add_argument("-o", "--output", type=Path, metavar="JSON", help="write all values")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Judge; return 0, 1 when some images failed, 2 when it cannot be done."""
    started = time.monotonic()
    if args.video is not None:
        return _judge_video(args.video, args.reference, args.output)
    try:
        options = take(EvaluateOptions, vars(args))
        rows = _score(options)
    except (UsageError, ImportError) as error:
        return refuse("evaluate", error)
    for line in _table({name: scores.means for name, scores in rows.items()}):
        print(line)
    judged = sum(len(scores.images) for scores in rows.values())
    failures = [(name, file, reason) for name, scores in rows.items() for file, reason in scores.failures.items()]
    print(f"judged {judged} of {judged + len(failures)} images in {time.monotonic() - started:.1f} s")
    for name, file, reason in failures:
        print(f"failed: {name} {file}: {reason}", file=sys.stderr)
    if options.output is not None:
        try:
            _write(options.output, options, rows)
        except OSError as error:
            print(f"--output {options.output} cannot be written: {error}", file=sys.stderr)
            return 1
    return 1 if failures else 0


def _judge_video(restored: Path, reference: Path | None, output: Path | None) -> int:
    """Print, and write if wanted, the figures of a video; see `evaluate_video`."""
    from ..video.evaluation import evaluate_video

    try:
        if reference is None:
            raise UsageError("--video needs --reference, the clean video or the input")
        figures = evaluate_video(restored, reference)
        if output is not None:
            with whole_file(output) as file:
                file.write((json.dumps(figures, indent=2) + "\n").encode())
    except (UsageError, ImportError, ValueError) as error:
        return refuse("evaluate", error)
    except OSError as error:
        print(f"difface evaluate: {error}", file=sys.stderr)
        return 1
    for name, value in figures.items():
        print(f"{name} {value:.5f}")
    return 0


def _score(options: EvaluateOptions) -> dict[str, "FolderScores"]:
    from ..evaluation.folders import features_of, load_metrics, score_folder

    folders = {name: getattr(options, name) for name in ("reference", "reference_set", "restored", "input")}
    files: dict[str, dict[str, Path]] = {}
    for name, folder in folders.items():
        if folder is not None:
            judged = name in ("restored", "input")
            files[name] = _collect(name, folder, files.get("reference", {}) if judged else None)
    try:
        suite = load_metrics(_names(options), options.lpips_weights, options.features)
        reference_set = features_of(suite, list(files["reference_set"].values())) if "reference_set" in files else None
    except (OSError, ValueError) as error:
        raise UsageError(str(error)) from error
    return {
        name: score_folder(suite, files[name], files.get("reference"), reference_set)
        for name in ("restored", "input")
        if name in files
    }


def _names(options: EvaluateOptions) -> list[str]:
    from ..evaluation.folders import DEFAULT_METRICS

    if options.metrics is not None:
        return options.metrics
    lpips, sets = options.lpips_weights is not None, options.features is not None
    return [*DEFAULT_METRICS, *(["lpips"] if lpips else []), *(["fid", "kid"] if sets else [])]


def _collect(name: str, folder: Path, references: Mapping[str, Path] | None) -> dict[str, Path]:
    """Return the images of a folder by their names without suffix.

    Given references, what `restore` writes beside its results is left out, unless there is a reference of its name.
    """
    from .files import companions
    from .inputs import folder_images

    option = f"--{name.replace('_', '-')}"
    files = folder_images(option, folder)
    if references is not None:
        beside = {file for file in companions(files) if file.stem not in references}
        files = [file for file in files if file not in beside]
        if beside:
            print(f"{option}: left out {len(beside)} that `restore` writes beside its results, as {min(beside).name}")
    by_name = {file.stem: file for file in files}
    if len(by_name) < len(files):
        doubles = sorted(file.name for file in files if by_name[file.stem] != file)
        raise UsageError(f"{option} {folder} holds several images of one name: {', '.join(doubles)}")
    return by_name


def _table(rows: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return the lines of a table with a row for each metric and a column for each folder."""
    metrics = list(dict.fromkeys(metric for means in rows.values() for metric in means))
    width = max(map(len, metrics), default=0)
    lines = [" " * width + "".join(f" {name:>11}" for name in rows)] if metrics else []
    for metric in metrics:
        cells = (f" {means[metric]:11.4f}" if metric in means else " " * 12 for means in rows.values())
        lines.append(f"{metric:<{width}}" + "".join(cells))
    return lines


def _write(path: Path, options: EvaluateOptions, rows: Mapping[str, "FolderScores"]) -> None:
    """Write the report; a number that JSON does not know (the PSNR of equal images) is null."""
    folders = {
        name: str(value) for name, value in vars(options).items() if isinstance(value, Path) and name != "output"
    }
    report = {"files": folders, **{name: asdict(scores) for name, scores in rows.items()}}
    with whole_file(path) as file:
        file.write(json.dumps(_finite(report), indent=2).encode())


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
