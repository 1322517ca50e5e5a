"""Tiny videos, made by PyAV itself: none of the package's writing is in them."""

from fractions import Fraction

import av
import numpy as np


SIZE = (48, 64)
SUBTITLE_HEADER = b"""[Script Info]
ScriptType: v4.00+
[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour
Style: Default,Arial,16,&Hffffff
[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""
SAMPLE_RATE = 48000
MILLISECOND = Fraction(1, 1000)


def picture(number, size=SIZE, deep=False):
    """RGB [H,W,3] with red top left, green top right, blue bottom left, and a gray bottom right that tells the number."""
    height, width = size
    pixels = np.zeros((height, width, 3), np.uint8)
    top, left = (height + 1) // 2, (width + 1) // 2
    pixels[:top, :left], pixels[:top, left:], pixels[top:, :left] = (200, 20, 20), (20, 200, 20), (20, 20, 200)
    pixels[top:, left:] = 30 + 8 * number
    return pixels.astype(np.uint16) * 257 if deep else pixels


def number_of(pixels):
    """The number that `picture` was given, after any coding."""
    height, width = pixels.shape[:2]
    gray = pixels[height * 5 // 8 : height * 7 // 8, width * 5 // 8 : width * 7 // 8].mean()
    return round((gray / (257 if pixels.dtype == np.uint16 else 1) - 30) / 8)


def write_clip(
    path,
    count=10,
    *,
    times=None,
    time_base=None,
    rate=25,
    size=SIZE,
    codec="libx264",
    pixel_format="yuv420p",
    options=None,
    container_options=None,
    container=None,
    rotation=None,
    shape=1,
    audio=None,
    subtitles=None,
    chapters=(),
    metadata=None,
    start=0,
    pictures=None,
):
    """Write `count` pictures at `times`, in units of `time_base` (or else at a constant rate), and what belongs to them.

    `rotation` are the arguments of PyAV's `set_display_rotation`; `subtitles` a codec, (begin, end, text) in milliseconds
    follow; `chapters` are (begin, end, title) in milliseconds; `start` is added to all times, in seconds.
    """
    rate = Fraction(rate)
    time_base = time_base or 1 / rate
    times = times or [round(number / rate / time_base) for number in range(count)]
    with av.open(str(path), "w", format=container, container_options=container_options or {}) as output:
        output.metadata.update(metadata or {})
        video = output.add_stream(codec, rate=rate, options=options or {})
        video.height, video.width = size
        video.pix_fmt = pixel_format
        video.codec_context.time_base = time_base
        video.codec_context.thread_count = 1
        video.codec_context.sample_aspect_ratio = Fraction(shape)
        if rotation is not None:
            video.set_display_rotation(*rotation)
        sound = _add_sound(output, audio) if audio else None
        text = _add_text(output, subtitles[0]) if subtitles else None
        if chapters:
            names = enumerate(chapters)
            output.set_chapters(
                [
                    {"id": i, "start": begin, "end": end, "time_base": MILLISECOND, "metadata": {"title": title}}
                    for i, (begin, end, title) in names
                ]
            )
        for number, time in enumerate(times):
            deep = "p1" in pixel_format
            pixels = pictures[number] if pictures else picture(number, size, deep)
            frame = (
                av.VideoFrame.from_ndarray(pixels, format="rgb48le" if deep else "rgb24")
                if isinstance(pixels, np.ndarray)
                else pixels
            )
            frame.pts, frame.time_base = time + round(start / time_base), time_base
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
        if sound:
            _write_sine(output, sound, len(times) / rate, start)
        for begin, end, words in subtitles[1:] if subtitles else ():
            _write_text(output, text, begin, end, words)
    return path


def planes(levels, pixel_format, size=SIZE, colorspace=2, color_range=0):
    """A frame of one color, of the levels (Y, U, V)."""
    frame = av.VideoFrame(size[1], size[0], pixel_format)
    for plane, level in zip(frame.planes, levels, strict=True):
        dtype = "<u2" if "p1" in pixel_format else "u1"
        np.frombuffer(plane, dtype)[:] = level
    frame.colorspace, frame.color_range = colorspace, color_range
    return frame


def packets(path, kind):
    """Of each stream of a kind, the bytes and times (in seconds) of all packets."""
    with av.open(str(path)) as container:
        streams = [stream for stream in container.streams if stream.type == kind]
        found = {stream.index: [] for stream in streams}
        for packet in container.demux(streams) if streams else ():
            if packet.size:
                found[packet.stream_index].append((bytes(packet), packet.pts * packet.time_base))
        return list(found.values())


def _add_sound(output, codec):
    stream = output.add_stream(codec, rate=SAMPLE_RATE)
    stream.layout = "mono"
    return stream


def _write_sine(output, stream, seconds, start):
    context = stream.codec_context
    context.open(strict=False)
    resampler = av.AudioResampler(context.format, "mono", SAMPLE_RATE, context.frame_size or None)
    samples = np.sin(np.arange(int(seconds * SAMPLE_RATE)) * 440 * 2 * np.pi / SAMPLE_RATE) * 8000
    frame = av.AudioFrame.from_ndarray(samples.astype(np.int16)[None], format="s16", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, int(start * SAMPLE_RATE), Fraction(1, SAMPLE_RATE)
    for part in [*resampler.resample(frame), *resampler.resample(None)]:
        output.mux(stream.encode(part))
    output.mux(stream.encode(None))


def _add_text(output, codec):
    stream = output.add_stream(codec)
    stream.codec_context.subtitle_header = SUBTITLE_HEADER
    stream.codec_context.time_base = stream.time_base = MILLISECOND
    stream.metadata["language"] = "deu"
    return stream


def _write_text(output, stream, begin, end, words):
    line = av.subtitles.subtitle.SubtitleSet.create(f"0,0,Default,,0,0,0,,{words}".encode(), 0, end - begin, begin)
    packet = stream.codec_context.encode_subtitle(line)
    packet.stream, packet.time_base = stream, MILLISECOND
    output.mux(packet)
