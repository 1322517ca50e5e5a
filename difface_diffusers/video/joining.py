"""Chunks of a video put together with the sound of its source, without coding anything anew."""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from heapq import merge
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..utils.atomic import whole_path
from .codecs import CONTAINERS, tag, written_colors
from .decoding import open_container, video_stream
from .library import load_av
from .reading import VideoSource, in_seconds
from .tracks import Span, add_tracks, track_packets


# What a container says of itself, no longer true of another one.
STALE = ("encoder", "major_brand", "minor_version", "compatible_brands", "duration", "software")
STREAM_TEXTS = ("language", "title", "handler_name")


@dataclass(frozen=True)
class _Chunk:
    """What of a chunk must equal that of the others, and the `times` in `unit`s when its packets are shown, in stored order."""

    path: Path
    parameters: tuple[Any, ...]
    unit: Fraction
    times: tuple[int, ...]


def join_chunks(
    chunks: Sequence[str | Path],
    source: VideoSource,
    target: str | Path,
    start: float | Fraction | None = None,
    stop: float | Fraction | None = None,
) -> None:
    """Put chunks together to a video, with the sound, subtitles, chapters and texts of its source.

    Pictures are copied as they are coded, each at its time: exactly in MP4 and MOV, to the millisecond in MKV and WebM. Sound
    and subtitles are copied where the container takes them; a warning names what is converted or left out. Frames of chunks
    are upright, so no rotation is noted.

    Args:
        chunks: files of `VideoWriter`, in the order of their times, coded alike.
        source: what they were restored from.
        target: the file, see `check_target`; what was there stays until the new one is whole.
        start: time of the source, in seconds, that becomes 0; sound, subtitles and chapters are cut there. `None` is the
            beginning.
        stop: the same at the end.

    Raises:
        ValueError: there are no chunks, they differ in how they are coded, or their times overlap or begin before `start`;
            or the suffix is not in `CONTAINERS`.
        OSError: a chunk or the source cannot be read, or the target not be written.
    """
    target = Path(target)
    if target.suffix.lower() not in CONTAINERS:
        raise ValueError(f"`target` is {target}; accepted suffixes are {' '.join(CONTAINERS)}.")
    examined = [_examine(Path(chunk)) for chunk in chunks]
    _check(examined)
    first, last = in_seconds(start), in_seconds(stop)
    begin = min(examined[0].times) * examined[0].unit
    if first is not None and begin < first - examined[0].unit:
        raise ValueError(
            f"`start` is {start}, but {examined[0].path} begins at {float(begin)} s; it must not be later."
        )
    span = Span(
        source.start + (first or 0),
        None if first is None else source.start + first,
        None if last is None else source.start + last,
    )
    name, _ = CONTAINERS[target.suffix.lower()]
    av = load_av()
    with (
        whole_path(target) as temporary,
        open_container(source.path) as container,
        open_container(examined[0].path, "chunks") as template,
        av.open(f"file:{temporary}", "w", format=name, container_options=_options(name, examined[0].unit)) as output,
    ):
        stream = _add_video(output, video_stream(template, examined[0].path), source)
        described = video_stream(container, source.path)
        stream.metadata.update(
            {key: value for key, value in described.metadata.items() if key.lower() in STREAM_TEXTS}
        )
        tracks = add_tracks(output, container, span)
        output.metadata.update({key: value for key, value in source.metadata.items() if key.lower() not in STALE})
        output.set_chapters(list(_chapters(container, span)))
        pictures = _pictures(examined, stream, source, first or Fraction(0), _end_of(source, last))
        for packet in merge(pictures, track_packets(container, tracks), key=_decoding_time):
            output.mux(packet)


def _examine(path: Path) -> _Chunk:
    with open_container(path, "chunks") as container:
        stream = video_stream(container, path)
        context = stream.codec_context
        parameters = (
            context.name,
            context.width,
            context.height,
            context.pix_fmt,
            stream.time_base,
            context.extradata,
        )
        times = tuple(packet.pts for packet in container.demux(stream) if packet.size)
        if not times:
            raise OSError(f"`chunks` is {path}, which holds no frame; it must be whole.")
        return _Chunk(path, parameters, stream.time_base, times)


def _check(chunks: Sequence[_Chunk]) -> None:
    if not chunks:
        raise ValueError("`chunks` is empty; at least one is needed.")
    for before, chunk in pairwise(chunks):
        if chunk.parameters != before.parameters:
            raise ValueError(
                f"`chunks` holds {chunk.path}, which is coded otherwise than {before.path}; they must be alike."
            )
        if min(chunk.times) <= max(before.times):
            raise ValueError(
                f"`chunks` holds {chunk.path}, which begins before {before.path} ends; they must follow each other."
            )


def _options(name: str, unit: Fraction) -> dict[str, str]:
    if name in ("mp4", "mov"):
        return {"fflags": "+bitexact", "movflags": "+faststart", "movie_timescale": str(unit.denominator)}
    return {"fflags": "+bitexact", "avoid_negative_ts": "disabled"}


def _add_video(output: Any, template: Any, source: VideoSource) -> Any:
    stream = output.add_stream_from_template(template, opaque=True)
    context = stream.codec_context
    context.framerate = source.average_rate
    context.sample_aspect_ratio = source.sample_aspect_ratio
    tag(context, written_colors(source, context.height))
    return stream


def _end_of(source: VideoSource, stop: Fraction | None) -> Fraction | None:
    """Return when the last picture ends, in seconds after the file's beginning; `None` if nothing tells."""
    return min((time for time in (source.duration, stop) if time is not None), default=None)


def _pictures(
    chunks: Sequence[_Chunk], stream: Any, source: VideoSource, start: Fraction, end: Fraction | None
) -> Generator[Any]:
    """Yield the packets of all chunks for the target.

    When a packet is decoded is told anew, for all of them together: with frames kept back by as many places as the farthest
    moved one needs, each is decoded at the time when another one is shown. Chunks whose first frames follow each other faster
    than the last ones of the chunk before would overlap otherwise.
    """
    stored = [time for chunk in chunks for time in chunk.times]
    shown = sorted(stored)
    places = {time: place for place, time in enumerate(shown)}
    delay = max(place - places[time] for place, time in enumerate(stored))
    unit = chunks[0].unit
    step = max(1, round(1 / (source.average_rate * unit)))
    until = 0 if end is None else round(end / unit)
    nexts = [*shown[1:], until if until > shown[-1] else shown[-1] + step]
    decoded = [*range(shown[0] - delay * step, shown[0], step), *shown]
    offset = round(start / unit)
    for packet, time, dts in zip(_stored_packets(chunks), stored, decoded, strict=False):
        packet.pts, packet.dts, packet.duration = time - offset, dts - offset, nexts[places[time]] - time
        packet.stream = stream
        yield packet


def _stored_packets(chunks: Sequence[_Chunk]) -> Iterator[Any]:
    for chunk in chunks:
        with open_container(chunk.path, "chunks") as container:
            yield from (packet for packet in container.demux(video_stream(container, chunk.path)) if packet.size)


def _decoding_time(packet: Any) -> Fraction:
    time = packet.dts if packet.dts is not None else packet.pts
    return (time or 0) * packet.time_base


def _chapters(container: Any, span: Span) -> Iterator[dict[str, Any]]:
    for chapter in container.chapters():
        unit = chapter["time_base"]
        if span.meets(chapter["start"] * unit, chapter["end"] * unit):
            last = None if span.stop is None else round((span.stop - span.zero) / unit)
            begin, end = (chapter[edge] - round(span.zero / unit) for edge in ("start", "end"))
            yield {**chapter, "start": max(0, begin), "end": end if last is None else min(end, last)}
