"""Sound and subtitles of a video: copied packet by packet where the new container takes them, else converted or left out."""

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from typing import Any

from ..utils.warning import warn_user
from .decoding import decode_packet, packets_of
from .library import load_av


SOUND_FALLBACK = {"mp4": "aac", "mov": "aac", "matroska": "aac", "webm": "libopus"}  # by container
TEXT_FALLBACK = {"mp4": "mov_text", "mov": "mov_text", "matroska": "srt", "webm": "webvtt"}
AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)
BITS_PER_CHANNEL = 96_000  # per second
KEPT = ("language", "title", "handler_name")


@dataclass(frozen=True)
class Span:
    """A part of a source, in seconds on the file's own clock.

    Attributes:
        zero: what becomes 0.
        start: of what belongs to it; `None` is the beginning, with what decoders swallow before 0.
        stop: what begins then or later is left out; `None` is the end.
    """

    zero: Fraction
    start: Fraction | None
    stop: Fraction | None

    def holds(self, begin: Fraction) -> bool:
        """Whether something that begins then belongs to it."""
        return (self.start is None or begin >= self.start) and (self.stop is None or begin < self.stop)

    def meets(self, begin: Fraction, end: Fraction) -> bool:
        """Whether something that lasts from `begin` to `end` belongs to it, if only with a part."""
        return (self.start is None or end > self.start) and (self.stop is None or begin < self.stop)


class Track(ABC):
    """A stream of the source that goes into the target.

    Args:
        stream: the source's.
        added: the target's.
        span: what of it.
    """

    def __init__(self, stream: Any, added: Any, span: Span) -> None:
        self.stream, self.added, self.span = stream, added, span

    @abstractmethod
    def packets(self, packet: Any) -> Iterator[Any]:
        """Yield the target's packets for one of the source; for `None` what is left in the end."""

    def _moved(self, pts: int) -> int:
        return pts - round(self.span.zero / self.stream.time_base)


class CopiedTrack(Track):
    """Packets as they are, at their times."""

    _least: int | None = None  # before which the next packet cannot be decoded

    def packets(self, packet: Any) -> Iterator[Any]:
        """See `Track`. Sound begins with the first packet at or after the start, as half of one cannot be copied."""
        if packet is None:
            return
        self._give_times(packet)
        begin = packet.pts * self.stream.time_base
        end = begin + (packet.duration or 0) * self.stream.time_base
        if not (self.span.holds(begin) if self.stream.type == "audio" else self.span.meets(begin, end)):
            return
        packet.pts, packet.dts = self._moved(packet.pts), self._moved(packet.dts)
        if self.stream.type == "subtitle" and packet.pts < 0:  # it is shown already when the part begins
            packet.duration, packet.pts, packet.dts = packet.duration + packet.pts, 0, 0
        packet.stream = self.added
        yield packet

    def _give_times(self, packet: Any) -> None:
        """Fill in missing times and move those that do not grow, which containers refuse."""
        known = packet.dts if packet.dts is not None else packet.pts
        least = (known or 0) if self._least is None else self._least
        packet.dts = least if known is None else max(known, least)
        packet.pts = packet.dts if packet.pts is None else max(packet.pts, packet.dts)
        self._least = packet.dts + (1 if self.stream.type == "audio" else 0)


class ConvertedSound(Track):
    """Sound decoded and coded anew."""

    def __init__(self, stream: Any, added: Any, span: Span) -> None:
        super().__init__(stream, added, span)
        context = added.codec_context
        context.open()
        self._resampler = load_av().AudioResampler(
            context.format, context.layout, context.sample_rate, context.frame_size or None
        )

    def packets(self, packet: Any) -> Iterator[Any]:
        """See `Track`; what cannot be decoded is left out."""
        for frame in decode_packet(self.stream, packet) or ():
            if self.span.holds(frame.pts * frame.time_base):
                frame.pts -= round(self.span.zero / frame.time_base)
                yield from self._encode(frame)
        if packet is None:
            yield from self._encode(None)
            yield from self.added.encode(None)

    def _encode(self, frame: Any) -> Iterator[Any]:
        for resampled in self._resampler.resample(frame):
            yield from self.added.encode(resampled)


class ConvertedText(Track):
    """Subtitles of another kind of text."""

    def packets(self, packet: Any) -> Iterator[Any]:
        """See `Track`."""
        if packet is None or packet.pts is None:
            return
        begin, end = packet.pts, packet.pts + (packet.duration or 0)
        if not self.span.meets(begin * self.stream.time_base, end * self.stream.time_base):
            return
        lines = [subtitle.ass for subtitle in decode_packet(self.stream, packet) or ()]
        if lines:
            av = load_av()
            begin, end = max(0, self._moved(begin)), self._moved(end)
            coded = self.added.codec_context.encode_subtitle(
                av.subtitles.subtitle.SubtitleSet.create(lines[0], 0, end - begin, begin)
            )
            coded.time_base, coded.stream = self.stream.time_base, self.added
            yield coded


def add_tracks(output: Any, container: Any, span: Span) -> list[Track]:
    """Add a stream to `output` for each sound track and subtitle of `container`; a warning names what is not copied."""
    tracks = []
    for stream in (*container.streams.audio, *container.streams.subtitles):
        track = _add_track(output, stream, span)
        if track is None:
            warn_user(f"{_describe(stream)} is left out: {output.format.name} does not take it.")
            continue
        track.added.metadata.update({key: value for key, value in stream.metadata.items() if key.lower() in KEPT})
        track.added.disposition = stream.disposition
        tracks.append(track)
    return tracks


def track_packets(container: Any, tracks: list[Track]) -> Generator[Any]:
    """Yield the packets of all tracks for the target, in the order in which the source holds them."""
    if not tracks:
        return
    by_index = {track.stream.index: track for track in tracks}
    for packet in packets_of(container, [track.stream for track in tracks]):
        yield from by_index[packet.stream.index].packets(packet)
    for track in tracks:
        yield from track.packets(None)


def _describe(stream: Any) -> str:
    codec = stream.codec_context.name if stream.codec_context else "unknown codec"
    return f"{stream.type} track {stream.index} ({codec}, {stream.language or 'unknown language'})"


def _add_track(output: Any, stream: Any, span: Span) -> Track | None:
    name = output.format.name
    if stream.codec_context is None:
        return None
    if _takes(name, stream):
        return CopiedTrack(stream, output.add_stream_from_template(stream, opaque=True), span)
    if stream.type == "audio":
        track: Track = ConvertedSound(stream, _add_sound(output, stream, SOUND_FALLBACK[name]), span)
    elif stream.codec_context.codec.text_sub:
        track = ConvertedText(stream, _add_text(output, stream, TEXT_FALLBACK[name]), span)
    else:
        return None
    warn_user(f"{_describe(stream)} is converted to {track.added.codec_context.name}: {name} does not take it.")
    return track


def _takes(name: str, stream: Any) -> bool:
    """Whether a container takes a stream as it is: some refuse it only when their header is written."""
    av = load_av()
    try:
        with av.open(BytesIO(), "w", format=name) as trial:
            trial.add_stream_from_template(stream, opaque=True)
            trial.start_encoding()
    except (ValueError, av.error.FFmpegError):
        return False
    return True


def _add_sound(output: Any, stream: Any, codec: str) -> Any:
    rate = stream.codec_context.sample_rate
    added = output.add_stream(codec, rate=rate if codec == "aac" and rate in AAC_RATES else 48000)
    added.codec_context.layout = stream.codec_context.layout.name
    added.codec_context.bit_rate = BITS_PER_CHANNEL * stream.codec_context.layout.nb_channels
    return added


def _add_text(output: Any, stream: Any, codec: str) -> Any:
    stream.codec_context.open(strict=False)
    added = output.add_stream(codec)
    added.codec_context.subtitle_header = stream.codec_context.subtitle_header
    added.codec_context.time_base = added.time_base = stream.time_base
    return added
