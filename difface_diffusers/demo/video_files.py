"""What videos may be uploaded, what people are told when one cannot be used, and what a browser can play."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import gradio as gr

from ..imaging.pixels import to_uint8
from ..video.decoding import open_container, packets_of, video_stream
from ..video.job import OnFrame
from ..video.joining import join_chunks
from ..video.reading import CUT_SHORT, VideoSource, open_video
from ..video.writing import VideoWriter
from .files import MAX_FILE_MEGABYTES, sentence


MAX_SECONDS = 20
MAX_FRAMES = 600
MAX_MEGAPIXELS = 2.1  # of a frame, enlarged: 1920 x 1080
MIN_SIDE = 16  # pixels
LIMITS = (
    f"Up to {MAX_SECONDS} seconds, {MAX_FRAMES} frames and {MAX_FILE_MEGABYTES} MB; frames of at most 1920 x 1080 pixels,"
    " enlarged ones too."
)
ACCEPTED = "accepted are MP4, MOV, MKV, WebM, AVI and most others"
PLAYABLE = ("yuv420p", "yuvj420p")  # formats of pixels that every browser decodes in H.264


@dataclass(frozen=True)
class Upload:
    """A video that can be restored.

    Attributes:
        frames: in the file.
        seconds: from the first frame to the end of the last.
        missing: seconds at its end that the file tells of but does not hold.
        has_audio: there is a sound track.
    """

    frames: int
    seconds: float
    missing: float
    has_audio: bool


def check_video(path: str | None, upscale: float = 1) -> Upload:
    """Look into an upload, of which one frame is decoded.

    Args:
        path: of the file.
        upscale: by how much it is to be enlarged.

    Raises:
        gr.Error: there is none, it cannot be read, or is beyond the limits.
    """
    if path is None:
        raise sentence("Choose a video first.")
    with _errors_of_decoders():
        frames, end, has_audio = _count(Path(path), upscale)
        video = open_video(path)
    _check_size(video.height, video.width, upscale)
    seconds = frames / video.average_rate if end is None else end - video.start + 1 / video.average_rate
    if seconds > MAX_SECONDS + 0.5:
        raise sentence(f"This video lasts {float(seconds):.0f} seconds; accepted are {MAX_SECONDS}.")
    if frames > MAX_FRAMES:
        raise sentence(f"This video has {frames} frames; accepted are {MAX_FRAMES}.")
    missing = (video.duration or 0) - seconds
    return Upload(frames, float(seconds), float(missing) if missing > CUT_SHORT else 0.0, has_audio)


def _count(path: Path, upscale: float) -> tuple[int, Fraction | None, bool]:
    """Return how many frames a file holds, when the last is shown if it says so, and whether there is sound.

    What its header tells may be missing or wrong. Nothing is decoded yet, as frames may be of any size.
    """
    with open_container(path) as container:
        has_audio = bool(container.streams.audio)
        try:
            stream = video_stream(container, path)
        except OSError as error:
            if not has_audio:
                raise
            raise sentence(f"This file holds sound, but no video; {ACCEPTED}.") from error
        _check_size(stream.codec_context.height, stream.codec_context.width, upscale)
        times = [packet.pts for packet in packets_of(container, [stream])]
        if not times:
            raise sentence("This video holds no frame.")
        known = [time for time in times if time is not None]
        return len(times), max(known) * stream.time_base if len(known) == len(times) else None, has_audio


def _check_size(height: int, width: int, upscale: float) -> None:
    megapixels = height * width / 1e6
    if megapixels > MAX_MEGAPIXELS:
        raise sentence(
            f"The frames of this video have {megapixels:.1f} megapixels ({width} x {height}); accepted are"
            f" {MAX_MEGAPIXELS} (1920 x 1080)."
        )
    if megapixels * upscale**2 > MAX_MEGAPIXELS:
        raise sentence(
            f"Enlarged {upscale:g} times the frames of this video have {megapixels * upscale**2:.1f} megapixels; at most"
            f" {MAX_MEGAPIXELS} can be made here: enlarge them less."
        )
    if 0 < min(height, width) < MIN_SIDE:
        raise sentence(f"The frames of this video have {width} x {height} pixels; that is too small to find a face.")


@contextmanager
def _errors_of_decoders() -> Generator[None]:
    try:
        yield
    except gr.Error:
        raise
    except Exception as error:  # of any kind, as decoders trust what a broken file says of itself
        raise sentence(f"This file cannot be read as a video, or it is damaged or cut short; {ACCEPTED}.") from error


def make_playable(path: Path, on_frame: OnFrame) -> VideoSource:
    """Write an H.264 anew that no browser plays, as it has more bits, more color or odd sides; return what is there then.

    Of odd sides the last row or column is lost.

    Args:
        path: an MP4.
        on_frame: told how far it is after every frame, as "finish".
    """
    with open_video(path) as video:
        if video.pixel_format in PLAYABLE:
            return video
        height, width = video.height // 2 * 2, video.width // 2 * 2
        like = replace(video, pixel_format=PLAYABLE[0], bit_depth=8)
        chunk = path.with_suffix(".nut")
        with VideoWriter(chunk, like, (height, width)) as writer:
            for frame in video.frames():
                writer.write(to_uint8(frame.pixels)[:height, :width], frame.time)
                on_frame("finish", frame.index + 1, video.frame_count)
        join_chunks([chunk], video, path)
    chunk.unlink()
    return open_video(path)
