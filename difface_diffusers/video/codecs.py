"""What videos are written as: codecs with their settings, containers, and the format of the pixels."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2

from ..utils.checks import check_number
from ..utils.warning import warn_user
from .colors import PLAIN, RANGES, RGB, Colors, bit_depth_of, guess_matrix, ratios_of
from .library import load_av
from .reading import VideoSource


@dataclass(frozen=True)
class Codec:
    """How an encoder is set.

    All of them encode in one thread, as the number of threads changes what some write: equal frames are to give equal bytes.

    Attributes:
        highest_crf: the worst quality, `None` if it has no loss.
        options: FFmpeg's, besides `crf`.
        even: sides of fewer samples of chroma must be even.
        shapes: the stream itself tells the shape of pixels, whatever its container.
    """

    highest_crf: int | None
    options: Mapping[str, str] = field(default_factory=dict)
    even: bool = False
    shapes: bool = False


CODECS = {
    "libx264": Codec(51, even=True, shapes=True),
    "libx265": Codec(51, {"x265-params": "pools=none:frame-threads=1:log-level=none"}, even=True, shapes=True),
    "libsvtav1": Codec(63, {"preset": "6", "svtav1-params": "lp=1"}),
    "libvpx-vp9": Codec(63, {"deadline": "good", "cpu-used": "2", "row-mt": "0"}),
    "ffv1": Codec(None, {"level": "3", "g": "1"}),
}
MP4_CODECS = ("libx264", "libx265", "libsvtav1", "libvpx-vp9")
CONTAINERS = {  # by suffix: FFmpeg's name, and what players expect in it
    ".mp4": ("mp4", MP4_CODECS),
    ".m4v": ("mp4", MP4_CODECS),
    ".mov": ("mov", ("libx264", "libx265")),
    ".mkv": ("matroska", tuple(CODECS)),
    ".webm": ("webm", ("libsvtav1", "libvpx-vp9")),
}
AVX512 = 13  # OpenCV's number of it
FASTEST = 240  # frames per second that encoders are told of; times are kept whatever the rate


def available_codecs() -> list[str]:
    """Return the names of `CODECS` that this FFmpeg has."""
    return [name for name in CODECS if name in load_av().codecs_available]


def check_target(
    target: Path,
    source: VideoSource,
    size: tuple[int, int] | None = None,
    codec: str = "libx264",
    crf: float = 18,
) -> None:
    """Find out before any work whether a video can be written, and warn of what the codec cannot keep of its source.

    Args:
        target: the file.
        source: what is restored.
        size: height and width of the frames in pixels; `None` are those of the source.
        codec: FFmpeg's name of the encoder.
        crf: the loss that it allows itself, 0 for the least; without meaning for codecs without loss.

    Raises:
        ValueError: the suffix cannot be written, the target is the source or a folder, the codec is not there, not for the
            container or refuses the size, or `crf` is out of range; the message says what is accepted.
        ImportError: the extra `video` is missing.
    """
    if target.suffix.lower() not in CONTAINERS:
        raise ValueError(f"`target` is {target}; accepted suffixes are {' '.join(CONTAINERS)}.")
    if target.is_dir():
        raise ValueError(f"`target` is {target}, which is a folder; it must be a file.")
    if target.exists() and target.samefile(source.path):
        raise ValueError(f"`target` is {target}, which is the source; it must be another file.")
    fitting = [name for name in available_codecs() if name in CONTAINERS[target.suffix.lower()][1]]
    if codec not in fitting:
        raise ValueError(f"`codec` is {codec!r}; accepted for {target.suffix} are {', '.join(fitting)}.")
    if (highest := CODECS[codec].highest_crf) is not None:
        check_number("crf", crf, 0, highest)
    size = size or (source.height, source.width)
    try:
        with load_av().open(BytesIO(), "w", format="nut") as container:
            add_encoder(container, source, size, codec, crf)
            container.start_encoding()
    except load_av().error.FFmpegError as error:
        raise ValueError(
            f"`codec` is {codec!r}, which refuses {size[1]} x {size[0]} pixels ({error.strerror}); choose another one."
        ) from error
    _warn_of_losses(source, choose_format(source, size, codec), codec, target)


def _warn_of_losses(source: VideoSource, name: str, codec: str, target: Path) -> None:
    read, written = map(load_av().VideoFormat, (source.pixel_format, name))
    if bit_depth_of(written) < source.bit_depth:
        warn_user(f"{codec} keeps {bit_depth_of(written)} of the source's {source.bit_depth} bits.")
    if source.colors.matrix != RGB and any(map(int.__gt__, ratios_of(written), ratios_of(read))):
        warn_user(f"{codec} keeps color in less detail ({written.name}) than the source ({read.name}).")
    if written.name.startswith("yuv444") and CODECS[codec].even and ratios_of(read) != (1, 1):
        warn_user(f"{codec} writes frames of odd sides as {written.name}, which some players cannot show.")
    if source.sample_aspect_ratio != 1 and not CODECS[codec].shapes and target.suffix.lower() in (".mkv", ".webm"):
        warn_user(
            f"{codec} in {target.suffix} cannot keep that pixels are {source.sample_aspect_ratio} as wide as high."
        )


def add_encoder(container: Any, like: VideoSource, size: tuple[int, int], codec: str, crf: float) -> Any:
    """Add a stream for frames of a size (height, width) to an opened container, with the properties of a source."""
    if codec == "libsvtav1":
        os.environ.setdefault("SVT_LOG", "1")  # or it prints its settings; there is no option for that
    options = dict(CODECS[codec].options)
    if CODECS[codec].highest_crf is not None:
        options["crf"] = f"{crf:g}"
    if codec == "libx264" and cv2.checkHardwareSupport(AVX512):
        options["x264-params"] = "asm=avx2"  # x264's code for AVX-512 lets what was in memory before decide on quality
    stream = container.add_stream(codec, rate=min(like.average_rate, FASTEST), options=options)
    context = stream.codec_context
    context.height, context.width = size
    context.pix_fmt = choose_format(like, size, codec)
    context.time_base = like.time_base
    context.thread_count = 1
    context.sample_aspect_ratio = like.sample_aspect_ratio
    tag(context, written_colors(like, size[0]))
    return stream


def tag(context: Any, colors: Colors) -> None:
    """Tell a codec's context what colors it holds."""
    context.colorspace, context.color_range = colors.matrix, RANGES[colors.full_range]
    context.color_primaries, context.color_trc = colors.primaries, colors.transfer


def written_colors(like: VideoSource, height: int) -> Colors:
    """Return the colors of a video that is written in YUV: those of its source, or for RGB what players expect."""
    colors = like.colors
    if colors.matrix == RGB:
        return Colors(guess_matrix(height), False, colors.primaries, colors.transfer)
    return colors


def choose_format(like: VideoSource, size: tuple[int, int], codec: str) -> str:
    """Choose the format of the pixels: of the source's depth and subsampling of chroma, or the next better that the codec has.

    RGB and gray become 4:2:0, which everything plays. H.264 and HEVC cannot halve an odd side, nor say that a single row or
    column is to be cut off: there chroma is kept whole instead, and no pixel is added or lost.
    """
    av = load_av()
    read = av.VideoFormat(like.pixel_format)
    wanted = (2, 2) if like.colors.matrix == RGB or len(read.components) < 3 else ratios_of(read)
    if CODECS[codec].even:
        wanted = tuple(1 if side % 2 else ratio for side, ratio in zip(size, wanted, strict=True))

    def unfitness(known: Any) -> tuple[int, ...]:
        depth, ratios = bit_depth_of(known), ratios_of(known)
        coarser = sum(max(0, ratio - want) for ratio, want in zip(ratios, wanted, strict=True))
        return coarser, max(0, like.bit_depth - depth), max(0, depth - like.bit_depth), -ratios[0] * ratios[1]

    known = [one for one in av.Codec(codec, "w").video_formats if PLAIN.fullmatch(one.name)]
    return min((one for one in known if one.name.startswith("yuv4") and max(ratios_of(one)) < 3), key=unfitness).name
