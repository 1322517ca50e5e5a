import re
from fractions import Fraction

import av
import numpy as np
import pytest

from difface_diffusers.video.joining import join_chunks
from difface_diffusers.video.reading import open_video

from ..conftest import warned_at
from .clips import SAMPLE_RATE, number_of, packets, write_clip
from .test_joining import chunks_of


LINES = [(80, 240, "Hello"), (280, 400, "<i>you</i> there")]


def join(folder, name, suffix, part=(None, None), **options):
    """Restore a clip of twelve frames by doing nothing; the source and the target's path."""
    source = open_video(write_clip(folder / name, 12, **options))
    if part[0] is not None:
        inside = [frame.index for frame in source.frames() if part[0] <= frame.time < part[1]]
        chunks = chunks_of(folder, source, [(inside[0], inside[-1] + 1)])
    else:
        chunks = chunks_of(folder, source, [(0, 7), (7, 12)], codec="libvpx-vp9" if suffix == ".webm" else "libx264")
    target = folder / f"target{suffix}"
    join_chunks(chunks, source, target, *part)
    return source, target


def sound_of(path):
    """All samples of the first sound track, -1 .. 1, and the time of the first."""
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
        rate = frames[0].sample_rate
        resampler = av.AudioResampler("flt", "mono", rate)
        samples = np.concatenate([part.to_ndarray()[0] for frame in frames for part in resampler.resample(frame)])
        return samples, rate, frames[0].pts * frames[0].time_base


def texts_of(path):
    """Each subtitle's begin, end (in seconds) and words, without how they are drawn."""
    with av.open(str(path)) as container:
        found = []
        for packet in container.demux(subtitles=0):
            if packet.size:
                begin, end = (time * packet.time_base for time in (packet.pts, packet.pts + packet.duration))
                words = [re.sub(r"{.*?}|<.*?>", "", line.dialogue.decode()) for line in packet.decode()]
                found += [(float(begin), float(end), *words)] if words else []
        return found


def language_of(path):
    """The language of the subtitles; FFmpeg knows in MOV only those with a number of Apple's, by their older names."""
    with av.open(str(path)) as container:
        return container.streams.subtitles[0].language


class TestCopies:
    @pytest.mark.parametrize(
        ("name", "codec", "suffix"),
        [
            ("a.mp4", "aac", ".mp4"),
            ("a.mp4", "aac", ".mkv"),
            ("a.mp4", "aac", ".mov"),
            ("a.mkv", "aac", ".mp4"),
            ("a.mkv", "libopus", ".mkv"),
            ("a.mkv", "libopus", ".webm"),
            ("a.mkv", "libopus", ".mp4"),
            ("a.avi", "pcm_s16le", ".mkv"),
            ("a.mov", "pcm_s16le", ".mov"),
            ("a.mkv", "libmp3lame", ".mp4"),
            ("a.mkv", "flac", ".mkv"),
        ],
    )
    def test_sound(self, tmp_path, name, codec, suffix, recwarn):
        source, target = join(tmp_path, name, suffix, audio=codec)
        ((before, after),) = zip(packets(source.path, "audio"), packets(target, "audio"), strict=True)
        assert len(before) >= 5
        assert [data for data, _ in after] == [data for data, _ in before]
        assert all(abs(a - b) <= Fraction(1, 1000) for (_, a), (_, b) in zip(before, after, strict=True))
        assert not recwarn.list
        frames = list(open_video(target).frames())
        assert [number_of(frame.pixels) for frame in frames] == list(range(12))
        assert all(abs(frame.time - Fraction(frame.index, 25)) < Fraction(1, 1000) for frame in frames), (
            "sound moved pictures"
        )

    def test_sound_of_broadcasts_keeps_its_place(self, tmp_path):
        """Packets lose their headers of broadcasts, which MP4 does not want."""
        source, target = join(tmp_path, "a.ts", ".mp4", audio="aac", start=3)
        (before,), (after,) = packets(source.path, "audio"), packets(target, "audio")
        assert [data[7:] for data, _ in before] == [data for data, _ in after]
        frames = [list(one.frames()) for one in (source, open_video(target))]
        assert frames[0][0].time == frames[1][0].time > 0
        assert [time - source.start for _, time in before] == pytest.approx([time for _, time in after], abs=1e-4)

    @pytest.mark.parametrize(
        ("name", "codec", "suffix"),
        [
            ("a.mp4", "mov_text", ".mp4"),
            ("a.mp4", "mov_text", ".mov"),
            ("a.mkv", "srt", ".mkv"),
            ("a.mkv", "ass", ".mkv"),
            ("a.mkv", "webvtt", ".webm"),
        ],
    )
    def test_subtitles(self, tmp_path, name, codec, suffix, recwarn):
        source, target = join(tmp_path, name, suffix, subtitles=(codec, *LINES))
        ((before, after),) = zip(packets(source.path, "subtitle"), packets(target, "subtitle"), strict=True)
        empty = bytes(2)  # between the lines of MP4
        assert [packet for packet in after if packet[0] != empty] == [
            packet for packet in before if packet[0] != empty
        ]
        assert len([packet for packet in after if packet[0] != empty]) == 2
        assert suffix == ".mov" or language_of(target) == "deu"
        assert not recwarn.list

    def test_several_tracks_keep_their_language_and_order(self, tmp_path):
        path = write_clip(tmp_path / "single.mkv", 12, audio="flac", subtitles=("srt", *LINES))
        double = tmp_path / "double.mkv"
        with av.open(str(path)) as read, av.open(str(double), "w") as output:
            added = {stream.index: output.add_stream_from_template(stream, opaque=True) for stream in read.streams}
            second = output.add_stream_from_template(read.streams.audio[0], opaque=True)
            second.metadata.update(language="fra", title="Commentary")
            second.disposition = av.stream.Disposition.comment
            added[1].metadata["language"] = "eng"
            for packet in read.demux():
                if packet.size:
                    is_sound = packet.stream.type == "audio"
                    packet.stream = added[packet.stream.index]
                    output.mux(packet)
                    if is_sound:
                        packet.stream = second
                        output.mux(packet)
        source = open_video(double)
        join_chunks(chunks_of(tmp_path, source, [(0, 12)]), source, tmp_path / "target.mkv")
        with av.open(str(tmp_path / "target.mkv")) as container:
            sounds = container.streams.audio
            assert [stream.language for stream in sounds] == ["eng", "fra"]
            assert sounds[1].metadata["title"] == "Commentary"
            assert sounds[1].disposition == av.stream.Disposition.comment
            assert len(container.streams.subtitles) == 1
        assert packets(tmp_path / "target.mkv", "audio") == packets(double, "audio")

    @pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
    def test_times_that_do_not_grow_are_mended(self, tmp_path, suffix):
        path = write_clip(tmp_path / "good.mkv", 12, audio="flac")
        bad = tmp_path / "bad.mkv"
        with av.open(str(path)) as read, av.open(str(bad), "w") as output:
            added = {stream.index: output.add_stream_from_template(stream, opaque=True) for stream in read.streams}
            for packet in read.demux():
                if packet.size:
                    if packet.stream.type == "audio":
                        packet.pts = packet.dts = packet.pts // 200 * 200
                    packet.stream = added[packet.stream.index]
                    output.mux(packet)
        before = [time for _, time in packets(bad, "audio")[0]]
        assert len(set(before)) < len(before), "else the test tells nothing"
        source = open_video(bad)
        join_chunks(chunks_of(tmp_path, source, [(0, 12)]), source, tmp_path / f"target{suffix}")
        (after,) = packets(tmp_path / f"target{suffix}", "audio")
        assert [data for data, _ in after] == [data for data, _ in packets(path, "audio")[0]]
        assert all(abs(a - b) < 0.005 for (_, a), b in zip(after, before, strict=True))


class TestConversions:
    @pytest.mark.parametrize(
        ("name", "codec", "suffix", "became"),
        [("a.mkv", "libopus", ".mov", "aac"), ("a.mp4", "aac", ".webm", "opus"), ("a.mkv", "flac", ".mov", "aac")],
    )
    def test_sound(self, tmp_path, name, codec, suffix, became):
        with warned_at(__file__, rf"audio track 1 \({codec.removeprefix('lib')}, .*\) is converted to .*{became}"):
            source, target = join(tmp_path, name, suffix, audio=codec)
        with av.open(str(target)) as container:
            assert container.streams.audio[0].codec_context.name == became
        (before, rate, begin), (after, new_rate, new_begin) = sound_of(source.path), sound_of(target)
        assert rate == new_rate == SAMPLE_RATE
        assert abs(begin - new_begin) < 0.03
        assert new_begin + Fraction(len(after), rate) >= begin + Fraction(len(before), rate), "its end is missing"
        middle = slice(4000, 16000)
        lag = round((begin - new_begin) * rate)
        spectrum = [np.abs(np.fft.rfft(samples[middle])) for samples in (before, after)]
        assert spectrum[0].argmax() == spectrum[1].argmax() == round(440 * 12000 / SAMPLE_RATE)
        assert spectrum[1].max() == pytest.approx(spectrum[0].max(), rel=0.1)
        shifted = after[4000 + lag : 16000 + lag]
        assert np.corrcoef(before[middle], shifted)[0, 1] > 0.95, "sound and picture fall apart"

    @pytest.mark.parametrize(
        ("name", "codec", "suffix", "became"),
        [
            ("a.mkv", "srt", ".mp4", "mov_text"),
            ("a.mkv", "ass", ".mov", "mov_text"),
            ("a.mp4", "mov_text", ".mkv", "srt"),
            ("a.mkv", "srt", ".webm", "webvtt"),
        ],
    )
    def test_subtitles(self, tmp_path, name, codec, suffix, became):
        with warned_at(__file__, rf"subtitle track 1 \(.*, deu\) is converted to {became}"):
            _, target = join(tmp_path, name, suffix, subtitles=(codec, *LINES))
        with av.open(str(target)) as container:
            assert container.streams.subtitles[0].codec_context.name == became
        assert suffix == ".mov" or language_of(target) == "deu"
        assert texts_of(target) == [(0.08, 0.24, "Hello"), (0.28, 0.4, "you there")]

    def test_what_cannot_be_converted_is_named(self, tmp_path):
        path = write_clip(tmp_path / "text.mkv", 12, subtitles=("srt", *LINES))
        pictured = tmp_path / "pictured.mkv"
        pictured.write_bytes(path.read_bytes().replace(b"S_TEXT/UTF8", b"S_HDMV/PGS\0"))
        source = open_video(pictured)
        assert source.has_subtitles
        chunks = chunks_of(tmp_path, source, [(0, 12)])
        with warned_at(__file__, r"subtitle track 1 \(pgssub, deu\) is left out: mp4 does not take it"):
            join_chunks(chunks, source, tmp_path / "target.mp4")
        assert packets(tmp_path / "target.mp4", "subtitle") == []


class TestParts:
    START, STOP = Fraction(4, 25), Fraction(8, 25)

    def test_sound_is_cut_at_packets(self, tmp_path):
        source, target = join(tmp_path, "a.mp4", ".mp4", (self.START, self.STOP), audio="aac")
        inside = [
            (data, time - self.START)
            for data, time in packets(source.path, "audio")[0]
            if self.START <= time < self.STOP
        ]
        (after,) = packets(target, "audio")
        assert 5 < len(after) == len(inside)
        assert [data for data, _ in after] == [data for data, _ in inside]
        assert all(abs(a - b) <= Fraction(1, SAMPLE_RATE) for (_, a), (_, b) in zip(inside, after, strict=True))
        assert [frame.time for frame in open_video(target).frames()] == [Fraction(number, 25) for number in range(4)]

    def test_converted_sound(self, tmp_path):
        with pytest.warns(UserWarning, match="is converted"):
            _, target = join(tmp_path, "a.mkv", ".mov", (self.START, self.STOP), audio="flac")
        samples, rate, begin = sound_of(target)
        assert begin < 0.11 and abs(len(samples) / rate - 0.16) < 0.12

    @pytest.mark.parametrize(("name", "codec", "suffix"), [("a.mkv", "srt", ".mkv"), ("a.mkv", "srt", ".mp4")])
    @pytest.mark.filterwarnings("ignore:subtitle track")
    def test_subtitles_that_are_shown_already(self, tmp_path, name, codec, suffix):
        _, target = join(tmp_path, name, suffix, (self.START, self.STOP), subtitles=(codec, *LINES))
        assert texts_of(target) == [(0, 0.08, "Hello"), (0.12, 0.24, "you there")]

    def test_subtitles_of_other_parts(self, tmp_path):
        _, target = join(tmp_path, "a.mkv", ".mkv", (Fraction(11, 25), Fraction(12, 25)), subtitles=("srt", *LINES))
        assert texts_of(target) == []
