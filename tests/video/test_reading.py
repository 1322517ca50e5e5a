import sys
from fractions import Fraction

import av
import numpy as np
import pytest

from difface_diffusers.video.colors import Colors
from difface_diffusers.video.reading import open_video

from ..conftest import warned_at
from .clips import SIZE, number_of, picture, planes, write_clip


GROUPS = {"x264-params": "keyint=8:bframes=3:scenecut=0"}  # of frames that depend on each other
OPEN_GROUPS = {"x264-params": "keyint=8:bframes=3:scenecut=0:open-gop=1"}


def numbers_and_times(source):
    frames = list(source.frames())
    assert [frame.index for frame in frames] == list(range(len(frames)))
    assert all(frame.pixels.shape == (source.height, source.width, 3) for frame in frames)
    return [number_of(frame.pixels) for frame in frames], [frame.time for frame in frames]


class TestContainers:
    @pytest.mark.parametrize(
        ("name", "options"),
        [
            ("a.mp4", {"audio": "aac"}),
            ("a.mov", {"codec": "mpeg4"}),
            ("a.mkv", {"audio": "libmp3lame", "codec": "ffv1"}),
            ("a.webm", {"codec": "libvpx-vp9", "audio": "libopus"}),
            ("a.avi", {"codec": "mjpeg", "pixel_format": "yuvj420p", "audio": "pcm_s16le"}),
            ("b.avi", {"codec": "mpeg4", "options": {"bf": "2", "b": "2M"}}),
            ("c.avi", {"options": GROUPS}),
            ("a.gif", {"codec": "gif", "pixel_format": "rgb8"}),
            ("a.h264", {"container": "h264"}),
        ],
    )
    def test_frames_and_times(self, tmp_path, name, options):
        source = open_video(write_clip(tmp_path / name, 12, **options))
        numbers, times = numbers_and_times(source)
        assert numbers == list(range(12))
        assert times == [Fraction(number, 25) for number in range(12)]
        assert source.average_rate == 25
        assert source.has_audio == ("audio" in options)
        assert source.frame_count in (12, None)

    def test_variable_rate(self, tmp_path):
        times = [0, 1000, 1500, 4000, 9000, 9100, 12000]
        path = write_clip(tmp_path / "a.mp4", times=times, time_base=Fraction(1, 12800), options=GROUPS)
        source = open_video(path)
        assert source.time_base == Fraction(1, 12800)
        frames = list(source.frames())
        assert [number_of(frame.pixels) for frame in frames] == list(range(7))
        assert [frame.pts for frame in frames] == times
        assert [frame.time for frame in frames] == [Fraction(time, 12800) for time in times]

    def test_broadcasts_that_begin_late(self, tmp_path):
        """Times count from the first picture or sound, here a sound."""
        source = open_video(write_clip(tmp_path / "a.ts", 12, audio="aac", start=3, options=GROUPS))
        assert 2 < source.start < 4
        numbers, times = numbers_and_times(source)
        assert numbers == list(range(12))
        assert 0 <= times[0] < Fraction(1, 10)
        assert [time - times[0] for time in times] == [Fraction(number, 25) for number in range(12)]

    def test_facts(self, tmp_path):
        path = write_clip(
            tmp_path / "a.mp4",
            10,
            size=(36, 64),
            rate=Fraction(30000, 1001),
            shape=Fraction(4, 3),
            audio="aac",
            subtitles=("mov_text", (0, 200, "Hello")),
            chapters=[(0, 200, "one")],
            metadata={"title": "A title"},
        )
        source = open_video(str(path))
        assert (source.height, source.width, source.frame_count) == (36, 64, 10)
        assert (source.average_rate, source.sample_aspect_ratio) == (Fraction(30000, 1001), Fraction(4, 3))
        assert (source.start, source.duration) == (0, Fraction(10010, 30000))
        assert (source.bit_depth, source.pixel_format, source.interlaced) == (8, "yuv420p", False)
        assert source.colors == Colors(6, False, 2, 2)
        assert source.has_audio and source.has_subtitles and source.has_chapters
        assert source.metadata["title"] == "A title"
        assert source.path == path

    def test_nothing_besides_pictures(self, tmp_path):
        source = open_video(write_clip(tmp_path / "a.mkv", 2))
        assert not (source.has_audio or source.has_subtitles or source.has_chapters)

    def test_ten_bits(self, tmp_path):
        source = open_video(write_clip(tmp_path / "a.mp4", 3, pixel_format="yuv420p10le"))
        assert source.bit_depth == 10
        frames = list(source.frames())
        assert all(frame.pixels.dtype == np.uint16 for frame in frames)
        assert [number_of(frame.pixels) for frame in frames] == [0, 1, 2]

    @pytest.mark.parametrize("size", [(47, 63), (1, 2)])
    def test_odd_sizes(self, tmp_path, size):
        source = open_video(write_clip(tmp_path / "a.mkv", 2, size=size, codec="ffv1"))
        assert (source.height, source.width) == size
        assert next(source.frames()).pixels.shape == (*size, 3)

    @pytest.mark.parametrize(
        ("matrix", "color_range", "red"),
        [(5, 1, (81, 90, 240)), (1, 1, (63, 102, 240)), (1, 2, (54, 99, 255)), (5, 2, (76, 85, 255))],
    )
    def test_colors_that_are_noted_in_the_file(self, tmp_path, matrix, color_range, red):
        frame = planes(red, "yuv420p", colorspace=matrix, color_range=color_range)
        path = write_clip(
            tmp_path / "a.mp4", pictures=[frame] * 2, count=2,
            options={"qp": "0", "colorspace": str(matrix), "color_range": str(color_range)},
        )  # fmt: skip
        source = open_video(path)
        assert source.colors == Colors(matrix, color_range == 2, 2, 2)
        assert np.abs(next(source.frames()).pixels - np.array([255.0, 0, 0])).max() <= 3

    def test_a_cover_is_no_video(self, tmp_path):
        path = tmp_path / "a.mp3"
        with av.open(str(path), "w") as output:
            sound = output.add_stream("libmp3lame", rate=48000)
            cover = output.add_stream("png", rate=25)
            cover.height, cover.width, cover.pix_fmt = 16, 16, "rgb24"
            cover.disposition = av.stream.Disposition.attached_pic
            frame = av.VideoFrame.from_ndarray(picture(0, (16, 16)), format="rgb24")
            output.mux([*cover.encode(frame), *cover.encode(None)])
            silence = av.AudioFrame.from_ndarray(np.zeros((2, 1152), np.float32), format="fltp", layout="stereo")
            silence.sample_rate = 48000
            output.mux([*sound.encode(silence), *sound.encode(None)])
        with av.open(str(path)) as container:
            assert container.streams.video, "else the test tells nothing"
        with pytest.raises(OSError, match="holds no video"):
            open_video(path)


class TestOrientation:
    @pytest.mark.parametrize(
        ("rotation", "turn"),
        [
            ((0,), lambda pixels: pixels),
            ((90,), lambda pixels: np.rot90(pixels)),
            ((180,), lambda pixels: np.rot90(pixels, 2)),
            ((-90,), lambda pixels: np.rot90(pixels, -1)),
            ((0, True), lambda pixels: pixels[:, ::-1]),
            ((0, False, True), lambda pixels: pixels[::-1]),
            ((90, True), lambda pixels: np.rot90(pixels)[:, ::-1]),
            ((-90, True), lambda pixels: np.rot90(pixels, -1)[:, ::-1]),
        ],
    )
    def test_frames_are_upright(self, tmp_path, rotation, turn):
        source = open_video(write_clip(tmp_path / "a.mp4", 2, size=(32, 48), rotation=rotation, shape=Fraction(2, 1)))
        lying = open_video(write_clip(tmp_path / "b.mp4", 2, size=(32, 48), shape=Fraction(2, 1)))
        expected = turn(next(lying.frames()).pixels)
        assert (source.height, source.width) == expected.shape[:2]
        assert source.sample_aspect_ratio == (2 if expected.shape[:2] == (32, 48) else Fraction(1, 2))
        frame = next(source.frames())
        np.testing.assert_array_equal(frame.pixels, expected)
        assert frame.pixels.flags.c_contiguous


class TestParts:
    @pytest.mark.parametrize(
        ("name", "options"),
        [
            ("a.mp4", {"options": GROUPS}),
            ("a.mkv", {"options": OPEN_GROUPS}),
            ("b.mp4", {"options": OPEN_GROUPS}),
            ("a.ts", {"options": OPEN_GROUPS, "audio": "aac", "start": 3}),
            ("a.flv", {"options": GROUPS}),
            ("a.avi", {"codec": "mpeg4", "options": {"bf": "2", "g": "8"}}),
            ("b.avi", {"codec": "mjpeg", "pixel_format": "yuvj420p"}),
            ("a.h264", {"container": "h264", "options": GROUPS}),
        ],
    )
    def test_each_frame_is_found_again(self, tmp_path, name, options):
        pictures = [picture(number % 25) for number in range(64)]
        source = open_video(write_clip(tmp_path / name, 64, pictures=pictures, **options))
        whole = list(source.frames())
        assert len(whole) == 64
        for place in (0, 1, 7, 8, 9, 31, 32, 33, 40, 47, 48, 62, 63):
            part = list(source.frames(whole[place].time, whole[min(place + 3, 63)].time))
            assert [frame.index for frame in part] == list(range(min(3, 63 - place)))
            for frame, before in zip(part, whole[place:], strict=False):
                assert (frame.pts, frame.time) == (before.pts, before.time)
                np.testing.assert_array_equal(frame.pixels, before.pixels)

    @pytest.mark.parametrize("name", ["a.mp4", "a.ts"])
    def test_jumps_that_end_too_late_are_made_anew(self, tmp_path, monkeypatch, name):
        """Frames that are stored behind a key and shown before it are lost to a decoder that begins with it."""
        monkeypatch.setattr("difface_diffusers.video.reading.REORDERED", 0)
        pictures = [picture(number % 25) for number in range(64)]
        source = open_video(write_clip(tmp_path / name, 64, pictures=pictures, options=OPEN_GROUPS))
        for frame in list(source.frames()):
            assert next(source.frames(start=frame.time)).pts == frame.pts

    def test_jumps_do_not_decode_all(self, tmp_path, monkeypatch):
        pictures = [picture(number % 25) for number in range(100)]
        source = open_video(write_clip(tmp_path / "a.mp4", 100, pictures=pictures, options=GROUPS))
        decoded = []
        converted = sys.modules["difface_diffusers.video.reading"].decode
        monkeypatch.setattr(
            "difface_diffusers.video.reading.decode",
            lambda *arguments: (decoded.append(frame) or frame for frame in converted(*arguments)),
        )
        assert len(list(source.frames(start=Fraction(98, 25)))) == 2
        assert len(decoded) < 30

    def test_times_between_frames(self, tmp_path):
        source = open_video(write_clip(tmp_path / "a.mp4", 10))
        assert [number_of(frame.pixels) for frame in source.frames(0.11, 0.29)] == [3, 4, 5, 6, 7]

    def test_floats_that_mean_a_frame(self, tmp_path):
        source = open_video(write_clip(tmp_path / "a.mp4", 12, rate=30))
        assert [number_of(frame.pixels) for frame in source.frames(7 / 30, 0.3)] == [7, 8]

    def test_beyond_the_end(self, tmp_path):
        source = open_video(write_clip(tmp_path / "a.mp4", 10))
        assert list(source.frames(start=5)) == [] and list(source.frames(stop=0)) == []

    def test_several_at_once(self, tmp_path):
        source = open_video(write_clip(tmp_path / "a.mp4", 6))
        pairs = zip(source.frames(), source.frames(start=Fraction(2, 25)), strict=False)
        assert [(number_of(a.pixels), number_of(b.pixels)) for a, b in pairs] == [(0, 2), (1, 3), (2, 4), (3, 5)]

    def test_leaving_the_block_ends_them(self, tmp_path):
        with open_video(write_clip(tmp_path / "a.mp4", 6)) as source:
            frames = source.frames()
            next(frames)
        assert list(frames) == []


def spoil(path, packets):
    """Overwrite packets of the video with zeros."""
    with av.open(str(path)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    for number in packets:
        place, size = places[number]
        data[place : place + size] = bytes(size)
    path.write_bytes(data)


class TestDamage:
    def test_what_can_be_decoded_is_given(self, tmp_path):
        path = write_clip(tmp_path / "a.mp4", 12, codec="mjpeg", pixel_format="yuvj420p")
        spoil(path, [4, 5, 9])
        frames = open_video(path).frames()
        with warned_at(__file__, "3 damaged packets were left out"):
            found = {number_of(frame.pixels): frame.time for frame in frames}
        assert frames.skipped == 3
        assert found == {number: Fraction(number, 25) for number in range(12) if number not in (4, 5, 9)}

    def test_frames_of_avi_keep_their_times(self, tmp_path):
        path = write_clip(tmp_path / "a.avi", 12, codec="mjpeg", pixel_format="yuvj420p")
        spoil(path, [4])
        with pytest.warns(UserWarning, match="1 damaged packets"):
            found = {number_of(frame.pixels): frame.time for frame in open_video(path).frames()}
        assert found == {number: Fraction(number, 25) for number in range(12) if number != 4}

    def test_a_damaged_beginning(self, tmp_path):
        path = write_clip(tmp_path / "a.mp4", 6, codec="mjpeg", pixel_format="yuvj420p")
        spoil(path, [0])
        with pytest.warns(UserWarning, match="1 damaged packets"):
            assert [number_of(frame.pixels) for frame in open_video(path).frames()] == [1, 2, 3, 4, 5]

    @pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
    @pytest.mark.filterwarnings("ignore:.* 1 damaged packets")
    def test_a_truncated_file_gives_what_there_is(self, tmp_path, name):
        options = {"movflags": "+faststart"} if name == "a.mp4" else {}
        path = write_clip(tmp_path / name, 40, codec="mjpeg", pixel_format="yuvj420p", rate=10,
                          pictures=[picture(number % 25) for number in range(40)], container_options=options)  # fmt: skip
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.warns(UserWarning, match=r"ends .* before the 4\.0 s"):
            frames = list(open_video(path).frames())
        assert 10 <= len(frames) <= 21
        assert [number_of(frame.pixels) for frame in frames] == list(range(len(frames)))

    @pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
    def test_whole_files_do_not_warn(self, tmp_path, recwarn, name):
        """Not even if their sound is longer."""
        times = [*range(0, 240, 40)]
        source = open_video(write_clip(tmp_path / name, times=times, time_base=Fraction(1, 1000), rate=2, audio="aac"))
        assert [frame.time for frame in source.frames()] == [Fraction(time, 1000) for time in times]
        list(source.frames(stop=0.1))
        assert not recwarn.list


class TestErrors:
    def test_no_file(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"`source` is .*a\.mp4, which does not exist; accepted is"):
            open_video(tmp_path / "a.mp4")

    def test_a_folder(self, tmp_path):
        with pytest.raises(OSError, match="which is a folder; accepted is"):
            open_video(tmp_path)

    @pytest.mark.parametrize("name", ["a.txt", "a.mp4", "a.nfo"])
    def test_a_text(self, tmp_path, name):
        (tmp_path / name).write_text("No video at all.\n" * 50)
        with pytest.raises(
            OSError, match=rf"`source` is .*{name}, which (cannot be read|holds no video).*; accepted is"
        ):
            open_video(tmp_path / name)

    def test_sound_alone(self, tmp_path):
        path = tmp_path / "a.m4a"
        with av.open(str(path), "w") as output:
            stream = output.add_stream("aac", rate=48000)
            frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
            frame.sample_rate = 48000
            output.mux([*stream.encode(frame), *stream.encode(None)])
        with pytest.raises(OSError, match="holds no video; accepted is"):
            open_video(path)

    def test_a_damaged_header(self, tmp_path):
        path = write_clip(tmp_path / "a.mp4", 4)
        path.write_bytes(path.read_bytes().replace(b"moov", b"room"))
        with pytest.raises(OSError, match="cannot be read"):
            open_video(path)

    @pytest.mark.parametrize("content", [b"", b"\0" * 5000])
    def test_nothing(self, tmp_path, content):
        (tmp_path / "a.mp4").write_bytes(content)
        with pytest.raises(OSError, match=r"`source` is .* cannot be read"):
            open_video(tmp_path / "a.mp4")

    def test_no_frame_that_can_be_decoded(self, tmp_path):
        path = write_clip(tmp_path / "a.mp4", 4, codec="mjpeg", pixel_format="yuvj420p")
        spoil(path, range(4))
        with pytest.raises(OSError, match="of which no frame can be decoded"):
            open_video(path)

    def test_without_the_extra(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "av", None)
        with pytest.raises(ImportError, match=r"Videos need `av`.*difface-diffusers\[video\]"):
            open_video(tmp_path / "a.mp4")

    def test_names_with_colons_and_percents(self, tmp_path, monkeypatch):
        write_clip(tmp_path / "a.mp4", 2).rename(tmp_path / "http:a%03d.mp4")
        monkeypatch.chdir(tmp_path)
        assert len(list(open_video("http:a%03d.mp4").frames())) == 2


def test_the_size_of_the_first_frame_is_kept(tmp_path):
    """Streams may change their size on the way."""
    path = tmp_path / "a.mjpeg"
    parts = [write_clip(tmp_path / f"{height}.mjpeg", 2, size=(height, 64), codec="mjpeg", pixel_format="yuvj420p")
             for height in (48, 32)]  # fmt: skip
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    frames = list(open_video(path).frames())
    assert [frame.pixels.shape for frame in frames] == [(*SIZE, 3)] * 4
    assert [number_of(frame.pixels) for frame in frames] == [0, 1, 0, 1]
