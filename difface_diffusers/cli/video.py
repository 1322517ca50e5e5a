"""`difface video`: restore the faces of a video."""

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..utils.choices import MIN_FACE_SIZE
from ..utils.records import take
from ..utils.wording import counted
from .errors import UsageError, refuse
from .model import load_pipeline
from .options import ModelOptions, SamplingOptions, add_change_arguments, add_model_arguments
from .parser import Commands


if TYPE_CHECKING:
    from ..video.restore import VideoRestoration

DESCRIPTION = """\
Restore the faces of a video, held still over time: its sound, subtitles, chapters and the times of its frames are kept.
What is done when it is stopped (Ctrl-C) can be played, and --resume goes on. `accelerate launch` shares the scenes among
several processes.
"""


@dataclass(frozen=True)
class VideoOptions:
    """What `difface video` is asked; the names are those of `restore_video`.

    Attributes:
        source: the video.
        target: what is written.
        model: which model, and where.
        sampling: how the faces are drawn.
        upscale: see `restore_video`, as are the rest.
        background: see there.
        background_blend: see there.
        faces: see there.
        min_face_size: see there.
        detect_every: see there.
        steadiness: see there.
        keep_gray: see there.
        blend: see there.
        keep_clean: see there.
        match_grain: see there.
        start: see there.
        stop: see there.
        fps: see there.
        codec: see there.
        crf: see there.
        compare: see there.
        preview: see there.
        resume: see there.
    """

    source: Path
    target: Path
    model: ModelOptions
    sampling: SamplingOptions
    upscale: float
    background: str
    background_blend: float | None
    faces: str
    min_face_size: float
    detect_every: int
    steadiness: float
    keep_gray: str
    blend: float
    keep_clean: bool
    match_grain: str
    start: float | None
    stop: float | None
    fps: float | None
    codec: str
    crf: float
    compare: bool
    preview: int | None
    resume: bool


def add_parser(subparsers: Commands) -> None:
    """Declare the arguments of `difface video`."""
    parser = subparsers.add_parser(
        "video",
        help="restore the faces of a video",
        description=DESCRIPTION,
        examples=[
            "difface video in.mp4 -o out.mp4",
            "difface video in.mp4 -o out.mp4 --preset fast --start 10 --end 0:20 --compare",
            "difface video in.mp4 -o out.mp4 --resume",
        ],
    )
    parser.add_argument("source", type=Path, metavar="IN", help="a video of any kind that FFmpeg reads")
    parser.add_argument(
        "-o",
        "--output",
        dest="target",
        required=True,
        type=Path,
        metavar="OUT",
        help="an .mp4, .mov, .mkv or .webm; without a suffix a folder, which gets a PNG of each frame",
    )
    parser.add_argument("--start", type=_seconds, metavar="T", help="where to begin, as 12.5 or 1:02:03")
    parser.add_argument("--end", dest="stop", type=_seconds, metavar="T", help="where to end")
    parser.add_argument("--fps", type=float, metavar="F", help="frames a second; every frame is kept unless given")
    parser.add_argument("--codec", default="libx264", help="libx264, libx265, libsvtav1, libvpx-vp9 or ffv1")
    parser.add_argument(
        "--crf", type=float, default=18, metavar="Q", help="loss that the codec may take; 0 is the least"
    )
    parser.add_argument("--compare", action="store_true", help="write each frame before beside it after")
    parser.add_argument(
        "--preview", type=int, metavar="N", help="also write every Nth frame as a PNG to the folder OUT_preview"
    )
    parser.add_argument("--resume", action="store_true", help="go on with what was left when it was stopped")

    faces = parser.add_argument_group("frames and faces")
    faces.add_argument(
        "--steadiness", type=float, default=1.0, metavar="S", help="0, frame by frame, .. 1, which is steadiest"
    )
    faces.add_argument("--faces", choices=["all", "largest"], default="all", help="which, of each scene")
    faces.add_argument("--min-face-size", type=float, default=MIN_FACE_SIZE, metavar="PX", help="leave narrower faces")
    faces.add_argument(
        "--detect-every",
        type=int,
        default=5,
        metavar="K",
        help="look for faces in every Kth frame, follow them between",
    )
    faces.add_argument("--upscale", type=float, default=1, metavar="F", help="of the whole picture, 1 .. 8")
    faces.add_argument("--background", default="bundled", help="what enlarges the frames; see difface restore")
    add_change_arguments(faces, match_grain="off")
    add_model_arguments(parser, for_video=True)
    parser.set_defaults(run=run)


def _seconds(text: str) -> float:
    """Return the seconds that a time says, as 12.5, 2:03 or 1:02:03."""
    seconds = 0.0
    try:
        for part in text.split(":"):
            seconds = 60 * seconds + float(part)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; accepted are 12.5, 2:03 and 1:02:03") from None
    return seconds


def run(args: argparse.Namespace) -> int:
    """Restore; return 0, 1 when it failed, 2 when it cannot begin, 130 when it was stopped."""
    started = time.monotonic()
    try:
        options = take(VideoOptions, vars(args))
        result = _restore(options)
    except UsageError as error:
        return refuse("video", error)
    except KeyboardInterrupt:
        print("difface video: stopped; the same command with --resume goes on", file=sys.stderr)
        return 130
    except (ImportError, ValueError) as error:
        return refuse("video", error)
    except OSError as error:
        print(f"difface video: {error}", file=sys.stderr)
        return 1
    if result is not None:
        seconds = time.monotonic() - started
        print(
            f"{result.target}: {counted(result.frames, 'frame')}, {counted(result.scenes, 'scene')},"
            f" {counted(result.faces, 'face')} followed; {counted(result.restored_frames, 'frame')} in {seconds:.1f} s,"
            f" {result.restored_frames / seconds:.2f} a second"
        )
    return 0


def _restore(options: VideoOptions) -> "VideoRestoration | None":
    """Restore; returns `None` from all processes but the first."""
    from tqdm import tqdm

    from .. import BUNDLED_MODEL, DifFacePipeline
    from ..photos.upscale import as_upscaler
    from ..video.library import load_av
    from ..video.restore import restore_video
    from .jobs import join_processes

    load_av()  # what is missing is said before a model is loaded
    processes = join_processes()
    pipe = load_pipeline(options.model, options.sampling, DifFacePipeline, BUNDLED_MODEL, processes)
    pipe.set_progress_bar_config(disable=True)
    try:
        as_upscaler(options.background, pipe.device)  # stays in memory
    except (ImportError, OSError, ValueError) as error:
        raise UsageError(f"--background: {error}") from error
    given = {name: value for name, value in vars(options).items() if name not in ("model", "sampling")}
    bars: dict[str, tqdm] = {}

    def show(doing: str, done: int, total: int | None) -> None:
        if doing not in bars:
            bars[doing] = tqdm(total=total, desc=doing, unit="frame", disable=None, leave=False)
        bars[doing].update(done - bars[doing].n)

    try:
        result = restore_video(
            pipe,
            batch_size=options.sampling.batch_size,
            seed=options.sampling.seed,
            on_frame=show if processes is None or processes.is_main_process else None,
            processes=processes,
            **options.sampling.of_a_call(),
            **given,
        )
    finally:
        for bar in bars.values():
            bar.close()
    return result if processes is None or processes.is_main_process else None
