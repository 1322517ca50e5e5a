"""Files of videos as PyAV opens them, and their pictures as it decodes them, damaged ones too."""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from heapq import heappop, heappush
from itertools import chain
from pathlib import Path
from typing import Any

from .library import load_av


UNTIMED = ("avi",)  # containers that store one packet a tick, whatever the order in which their frames are shown
TEXT_AS_PICTURES = ("tty", "bin", "xbin", "adf", "idf")  # formats in which FFmpeg draws the letters of a text
ACCEPTED = "accepted is a file with a video that FFmpeg can decode"
DAMAGED_IN_A_ROW = 100  # places where nothing can be read, after which the rest of a file is given up


@contextmanager
def open_container(path: Path, name: str = "source") -> Generator[Any]:
    """Open a file for reading; errors call the argument that it comes from `name`.

    Raises:
        FileNotFoundError: there is none.
        OSError: it is a folder, or none that FFmpeg knows; the message names it.
    """
    av = load_av()
    if not path.exists():
        raise FileNotFoundError(f"`{name}` is {path}, which does not exist; {ACCEPTED}.")
    if path.is_dir():
        raise IsADirectoryError(f"`{name}` is {path}, which is a folder; {ACCEPTED}.")
    try:
        container = av.open(f"file:{path}", metadata_errors="replace")
    except av.error.FFmpegError as error:
        raise OSError(f"`{name}` is {path}, which cannot be read ({error.strerror}); {ACCEPTED}.") from error
    with container:
        yield container


def video_stream(container: Any, path: Path) -> Any:
    """Return the stream that players show, which decodes in one thread: the same frames everywhere, of damaged files too.

    Raises:
        OSError: there is none but a cover, or no decoder for it; the message names `path`.
    """
    streams = [stream for stream in container.streams.video if not _is_cover(stream)]
    if not streams or container.format.name in TEXT_AS_PICTURES:
        raise OSError(f"`source` is {path}, which holds no video; {ACCEPTED}.")
    best = container.streams.best("video")
    stream = best if best in streams else streams[0]
    if stream.codec_context is None:
        raise OSError(f"`source` is {path}, whose video is of a kind that cannot be decoded; {ACCEPTED}.")
    stream.thread_count = 1
    return stream


def _is_cover(stream: Any) -> bool:
    return bool(stream.disposition & (stream.disposition.attached_pic | stream.disposition.timed_thumbnails))


def decode(container: Any, stream: Any, on_damage: Callable[[], None]) -> Generator[Any]:
    """Yield the frames of a stream in the order in which they are shown, from where the container stands to the end.

    Args:
        container: an opened one.
        stream: which of its streams.
        on_damage: called for each packet, or place in the file, that is left out.
    """
    is_untimed = container.format.name in UNTIMED
    ticks: list[int] = []  # of packets whose frames have not come out yet
    for packet in chain(packets_of(container, [stream], on_damage), [None]):
        frames = decode_packet(stream, packet)
        if frames is None:
            on_damage()
            continue
        if is_untimed and packet is not None:
            heappush(ticks, packet.dts)
        for frame in frames:
            if ticks:
                frame.pts = heappop(ticks)
            yield frame


def decode_packet(stream: Any, packet: Any) -> list[Any] | None:
    """Return what a decoder makes of a packet, and for `None` what it has kept back; `None` if it is damaged."""
    try:
        return stream.decode(packet)
    except load_av().error.FFmpegError:
        return None


def packets_of(container: Any, streams: Sequence[Any], on_damage: Callable[[], None] = lambda: None) -> Generator[Any]:
    """Yield the packets of streams that hold something, over damaged places in the file, from where it stands to the end."""
    error_class = load_av().error.FFmpegError
    in_a_row = 0
    while in_a_row < DAMAGED_IN_A_ROW:
        try:
            for packet in container.demux(streams):
                if packet.size:
                    in_a_row = 0
                    yield packet
            return
        except error_class:
            in_a_row += 1
            on_damage()
