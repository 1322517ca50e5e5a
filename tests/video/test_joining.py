import os
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest

from difface_diffusers.video.codecs import CONTAINERS
from difface_diffusers.video.joining import join_chunks
from difface_diffusers.video.reading import open_video
from difface_diffusers.video.writing import VideoWriter

from .clips import number_of, packets, picture, write_clip
from .test_writing import full_disk


TICKS = [0, 3003, 4000, 9009, 9500, 12012, 15015, 30030, 30500, 33033, 36036, 39039]  # of 90 kHz, wildly apart
SCENES = [(0, 5), (5, 6), (6, 12)]  # the second of a single frame
CODECS = [(suffix, codec) for suffix, (_, codecs) in CONTAINERS.items() for codec in codecs if suffix != ".m4v"]


def chunks_of(folder, source, scenes=SCENES, **options):
    """Each scene of a source in a chunk of its own."""
    frames = list(source.frames())
    paths = []
    for begin, end in scenes:
        paths.append(folder / f"chunk{begin}")
        with VideoWriter(paths[-1], source, **options) as writer:
            for frame in frames[begin:end]:
                writer.write(frame.pixels, frame.time)
    return paths


def variable(path, **options):
    return open_video(write_clip(path, times=TICKS, time_base=Fraction(1, 90000), **options))


class TestPictures:
    @pytest.mark.parametrize(("suffix", "codec"), CODECS)
    def test_all_are_there_once_at_their_times(self, tmp_path, suffix, codec):
        source = variable(tmp_path / "source.mp4")
        target = tmp_path / f"target{suffix}"
        chunks = chunks_of(tmp_path, source, codec=codec, crf=10)
        join_chunks(chunks, source, target)
        joined = open_video(target)
        frames = list(joined.frames())
        single = [frame.pixels for chunk in chunks for frame in open_video(chunk).frames()]
        for frame, pixels in zip(frames, single, strict=True):
            np.testing.assert_array_equal(frame.pixels, pixels)
        assert [number_of(frame.pixels) for frame in frames] == list(range(12))
        allowed = 0 if suffix in (".mp4", ".mov") else Fraction(1, 1000)
        assert all(
            abs(frame.time - Fraction(tick, 90000)) <= allowed for frame, tick in zip(frames, TICKS, strict=True)
        )
        assert joined.start == 0
        (pictures,) = packets(target, "video")
        assert len(pictures) == 12

    @pytest.mark.parametrize("codec", ["libx264", "libx265"])
    def test_decoding_times_grow_and_come_before(self, tmp_path, codec):
        source = variable(tmp_path / "source.mp4")
        join_chunks(chunks_of(tmp_path, source, codec=codec), source, tmp_path / "target.mp4")
        with av.open(str(tmp_path / "target.mp4")) as container:
            times = [(packet.dts, packet.pts) for packet in container.demux(video=0) if packet.size]
        assert any(after[1] < before[1] for before, after in pairwise(times)), (
            "no frame is moved: the test tells nothing"
        )
        assert all(after[0] > before[0] for before, after in pairwise(times))
        assert all(dts <= pts for dts, pts in times)

    @pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
    def test_they_are_not_coded_anew(self, tmp_path, suffix):
        source = variable(tmp_path / "source.mp4")
        paths = chunks_of(tmp_path, source, codec="libvpx-vp9")
        join_chunks(paths, source, tmp_path / f"target{suffix}")
        (joined,) = packets(tmp_path / f"target{suffix}", "video")
        assert [data for data, _ in joined] == [data for path in paths for data, _ in packets(path, "video")[0]]

    def test_equal_chunks_give_equal_bytes(self, tmp_path):
        source = variable(tmp_path / "source.mp4", audio="aac")
        for suffix in (".mp4", ".mkv"):
            for name in "ab":
                join_chunks(chunks_of(tmp_path, source), source, tmp_path / f"{name}{suffix}")
            assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()

    @pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
    def test_ntsc_rates_and_late_beginnings(self, tmp_path, suffix):
        source = open_video(write_clip(tmp_path / "source.ts", 12, rate=Fraction(30000, 1001), start=3, audio="aac"))
        join_chunks(chunks_of(tmp_path, source), source, tmp_path / f"target{suffix}")
        joined = open_video(tmp_path / f"target{suffix}")
        before, after = ([frame.time for frame in one.frames()] for one in (source, joined))
        assert all(
            abs(a - b) <= (0 if suffix == ".mp4" else Fraction(1, 1000)) for a, b in zip(before, after, strict=True)
        )
        if suffix == ".mkv":
            assert abs(joined.average_rate - source.average_rate) < 0.1

    def test_the_last_frame_lasts_as_long(self, tmp_path):
        source = variable(tmp_path / "source.mp4")
        join_chunks(chunks_of(tmp_path, source), source, tmp_path / "target.mp4")
        assert open_video(tmp_path / "target.mp4").duration == source.duration

    def test_frames_are_upright_and_not_turned_again(self, tmp_path):
        source = open_video(write_clip(tmp_path / "source.mp4", 6, size=(32, 48), rotation=(90,)))
        join_chunks(chunks_of(tmp_path, source, [(0, 3), (3, 6)]), source, tmp_path / "target.mp4")
        joined = open_video(tmp_path / "target.mp4")
        assert (joined.height, joined.width, joined.orientation.transposed) == (48, 32, False)

    @pytest.mark.parametrize(("suffix", "codec"), CODECS)
    def test_colors_and_the_shape_of_pixels(self, tmp_path, suffix, codec):
        noted = {"colorspace": "1", "color_range": "2", "color_primaries": "9", "color_trc": "16"}
        source = open_video(write_clip(tmp_path / "source.mp4", 3, options=noted, shape=Fraction(4, 3)))
        join_chunks(chunks_of(tmp_path, source, [(0, 3)], codec=codec), source, tmp_path / f"target{suffix}")
        joined = open_video(tmp_path / f"target{suffix}")
        assert joined.colors == source.colors
        if suffix in (".mp4", ".mov") or codec in ("libx264", "libx265"):
            assert joined.sample_aspect_ratio == Fraction(4, 3)

    def test_the_index_comes_first(self, tmp_path):
        source = variable(tmp_path / "source.mp4")
        join_chunks(chunks_of(tmp_path, source), source, tmp_path / "target.mp4")
        data = (tmp_path / "target.mp4").read_bytes()
        assert data.index(b"moov") < data.index(b"mdat")


class TestParts:
    def test_times_begin_anew(self, tmp_path):
        source = variable(tmp_path / "source.mkv", audio="libmp3lame", chapters=[(0, 120, "one"), (120, 480, "two")])
        frames = list(source.frames())
        chunks = chunks_of(tmp_path, source, [(3, 5), (5, 9)])
        join_chunks(chunks, source, tmp_path / "target.mkv", frames[3].time, frames[9].time)
        joined = open_video(tmp_path / "target.mkv")
        assert [frame.time for frame in joined.frames()] == [frame.time - frames[3].time for frame in frames[3:9]]
        sounds = [
            (data, time - frames[3].time)
            for data, time in packets(source.path, "audio")[0]
            if frames[3].time <= time < frames[9].time
        ]
        assert len(sounds) > 5
        assert packets(tmp_path / "target.mkv", "audio") == [sounds]
        with av.open(str(tmp_path / "target.mkv")) as container:
            chapters = [
                (
                    chapter["metadata"]["title"],
                    chapter["start"] * chapter["time_base"],
                    chapter["end"] * chapter["time_base"],
                )
                for chapter in container.chapters()
            ]
        first, last = frames[3].time, frames[9].time
        assert chapters == [
            ("one", 0, Fraction(120, 1000) - first),
            ("two", Fraction(120, 1000) - first, last - first),
        ]


class TestTexts:
    @pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
    def test_chapters_and_metadata(self, tmp_path, suffix):
        noted = {"title": "A title", "artist": "Somebody"}
        source = variable(tmp_path / "source.mp4", chapters=[(0, 200, "one"), (200, 480, "two")], metadata=noted)
        join_chunks(chunks_of(tmp_path, source), source, tmp_path / f"target{suffix}")
        with av.open(str(tmp_path / f"target{suffix}")) as container:
            found = {key.lower(): value for key, value in container.metadata.items()}
            chapters = [
                (
                    chapter["metadata"]["title"],
                    float(chapter["start"] * chapter["time_base"]),
                    float(chapter["end"] * chapter["time_base"]),
                )
                for chapter in container.chapters()
            ]
        assert found["title"] == "A title" and found["artist"] == "Somebody"
        assert suffix == ".mp4" or "compatible_brands" not in found
        assert chapters == [("one", 0, 0.2), ("two", 0.2, 0.48)]


class TestWholeFiles:
    def test_a_full_disk_leaves_what_was_there(self, tmp_path):
        source = variable(tmp_path / "source.mp4")
        chunks = chunks_of(tmp_path, source, codec="ffv1")
        target = tmp_path / "out" / "target.mkv"
        target.parent.mkdir()
        target.write_bytes(b"before")
        with pytest.raises(OSError), full_disk(3000):
            join_chunks(chunks, source, target)
        assert list(target.parent.iterdir()) == [target] and target.read_bytes() == b"before"

    @pytest.mark.parametrize("length", [20, 500])
    def test_a_chunk_that_breaks(self, tmp_path, length):
        source = variable(tmp_path / "source.mp4")
        chunks = chunks_of(tmp_path, source)
        os.truncate(chunks[2], length)
        target = tmp_path / "out" / "target.mp4"
        with pytest.raises(
            (OSError, ValueError), match=r"`chunks` .*chunk6, which (cannot be read|is coded otherwise)"
        ):
            join_chunks(chunks, source, target)
        assert not target.parent.exists() or list(target.parent.iterdir()) == []

    def test_it_takes_the_place_of_another(self, tmp_path):
        source = variable(tmp_path / "source.mp4")
        target = tmp_path / "out" / "target.mp4"
        for _ in range(2):
            join_chunks(chunks_of(tmp_path, source), source, target)
        assert list(target.parent.iterdir()) == [target]
        assert len(list(open_video(target).frames())) == 12


class TestErrors:
    @pytest.fixture
    def source(self, tmp_path):
        return variable(tmp_path / "source.mp4")

    def test_no_chunks(self, tmp_path, source):
        with pytest.raises(ValueError, match="`chunks` is empty; at least one is needed"):
            join_chunks([], source, tmp_path / "target.mp4")

    def test_other_suffixes(self, tmp_path, source):
        with pytest.raises(ValueError, match=r"`target` is .*target\.avi; accepted suffixes are"):
            join_chunks(chunks_of(tmp_path, source), source, tmp_path / "target.avi")

    @pytest.mark.parametrize("options", [{"codec": "libx265"}, {"size": (96, 128)}])
    def test_chunks_of_different_kinds(self, tmp_path, source, options):
        first, second, _ = chunks_of(tmp_path, source)
        with VideoWriter(second, source, **options) as writer:
            writer.write(picture(0, options.get("size", (48, 64))), Fraction(12012, 90000))
        with pytest.raises(ValueError, match=r"`chunks` holds .*chunk5, which is coded otherwise than .*chunk0"):
            join_chunks([first, second], source, tmp_path / "target.mp4")

    def test_chunks_from_before_the_start(self, tmp_path, source):
        with pytest.raises(ValueError, match=r"`start` is 0\.2, but .*chunk0 begins at 0\.0 s"):
            join_chunks(chunks_of(tmp_path, source), source, tmp_path / "target.mp4", start=0.2)

    def test_chunks_in_another_order(self, tmp_path, source):
        first, second, third = chunks_of(tmp_path, source)
        with pytest.raises(ValueError, match=r"`chunks` holds .*chunk5, which begins before .*chunk6 ends"):
            join_chunks([first, third, second], source, tmp_path / "target.mp4")


def test_nothing_changes_where_nothing_was_changed(tmp_path):
    """A copy without loss of a copy without loss."""
    noise = [np.random.default_rng(number).integers(60, 190, (48, 64, 3), dtype=np.uint8) for number in range(4)]
    source = open_video(write_clip(tmp_path / "source.mkv", 4, codec="ffv1", pictures=noise))
    join_chunks(chunks_of(tmp_path, source, [(0, 2), (2, 4)], codec="ffv1"), source, tmp_path / "target.mkv")
    for before, after in zip(source.frames(), open_video(tmp_path / "target.mkv").frames(), strict=True):
        assert np.abs(before.pixels.astype(int) - after.pixels).max() <= 4
        assert np.abs(before.pixels.astype(int) - after.pixels).mean() < 0.5
