import resource
from contextlib import contextmanager
from fractions import Fraction

import av
import numpy as np
import pytest

from difface_diffusers.imaging.files import read_photo
from difface_diffusers.video.codecs import CODECS
from difface_diffusers.video.colors import Colors
from difface_diffusers.video.reading import open_video
from difface_diffusers.video.writing import VideoWriter, frame_path, write_frame

from .clips import SIZE, number_of, picture, planes, write_clip
from .test_colors import levels, smooth


@contextmanager
def full_disk(room):
    """Let files grow to `room` bytes only."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def write(path, like, pictures, **options):
    """Write pictures at the source's rate."""
    with VideoWriter(path, like, **options) as writer:
        for number, pixels in enumerate(pictures):
            writer.write(pixels, number / like.average_rate)
    return path


@pytest.fixture
def source(tmp_path):
    return open_video(write_clip(tmp_path / "source.mp4", 12))


class TestFrames:
    @pytest.mark.parametrize("codec", CODECS)
    def test_come_back_at_their_times(self, tmp_path, source, codec):
        pictures = [picture(number) for number in range(12)]
        written = open_video(write(tmp_path / "chunk", source, pictures, codec=codec))
        assert (source.time_base / written.time_base).denominator == 1
        frames = list(written.frames())
        assert [number_of(frame.pixels) for frame in frames] == list(range(12))
        assert [frame.time for frame in frames] == [Fraction(number, 25) for number in range(12)]

    @pytest.mark.parametrize("codec", ["libx264", "libx265", "libsvtav1", "libvpx-vp9"])
    def test_crf_decides_on_quality(self, tmp_path, source, codec):
        noise = np.random.default_rng(0).integers(60, 200, (*SIZE, 3), dtype=np.uint8)
        sizes = [
            write(tmp_path / f"{crf}", source, [noise] * 3, codec=codec, crf=crf).stat().st_size for crf in (5, 50)
        ]
        assert sizes[0] > 2 * sizes[1]

    @pytest.mark.parametrize("codec", ["libx264", "libx265", "libvpx-vp9"])
    def test_equal_frames_give_equal_bytes(self, tmp_path, source, codec):
        pictures = [picture(number) for number in range(8)]
        chunks, sizes = set(), np.random.default_rng(0).integers(1000, 100_000, (12, 10))
        for row in sizes:
            litter = [np.full(size, size % 251, np.uint8) for size in row]
            del litter  # what was in memory before is not to matter
            chunks.add(write(tmp_path / "chunk", source, pictures, codec=codec).read_bytes())
        assert len(chunks) == 1

    def test_variable_rate_at_any_place(self, tmp_path):
        ticks = [100_000, 103_003, 103_500, 120_001]
        like = open_video(write_clip(tmp_path / "a.mp4", times=ticks, time_base=Fraction(1, 90000)))
        with VideoWriter(tmp_path / "chunk", like) as writer:
            for number, tick in enumerate(ticks):
                writer.write(picture(number), Fraction(tick, 90000))
        with av.open(str(tmp_path / "chunk")) as container:
            unit = container.streams.video[0].time_base * 90000
            assert sorted(packet.pts * unit for packet in container.demux(video=0) if packet.size) == ticks

    def test_a_chunk_begins_anew(self, tmp_path, source):
        with av.open(str(write(tmp_path / "chunk", source, [picture(0)] * 3))) as container:
            assert next(container.demux(video=0)).is_keyframe

    def test_another_size(self, tmp_path, source):
        written = open_video(write(tmp_path / "chunk", source, [picture(5, (96, 128))], size=(96, 128)))
        assert (written.height, written.width) == (96, 128)
        assert number_of(next(written.frames()).pixels) == 5


class TestProperties:
    @pytest.mark.parametrize("matrix", [1, 5, 9])
    @pytest.mark.parametrize("full", [False, True])
    @pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv420p10le"])
    @pytest.mark.parametrize("crf", [0, 5, 10])
    def test_colors_come_back(self, tmp_path, crf, pixel_format, full, matrix):
        """Smooth ones, within two levels of 8 bits, whatever the matrix and range; and so do their names."""
        frame = planes((500, 500, 500) if "10" in pixel_format else (126, 128, 128), pixel_format)
        noted = {
            "qp": "0",
            "colorspace": str(matrix),
            "color_range": str(1 + full),
            "color_primaries": "9",
            "color_trc": "16",
        }
        like = open_video(
            write_clip(tmp_path / "a.mp4", 1, pictures=[frame], pixel_format=pixel_format, options=noted)
        )
        assert like.colors == Colors(matrix, full, 9, 16)
        pixels = smooth(np.uint16 if like.bit_depth > 8 else np.uint8)
        written = open_video(write(tmp_path / "chunk", like, [pixels] * 2, crf=crf))
        assert like.pixel_format.replace("yuvj", "yuv") == pixel_format
        assert (written.pixel_format, written.bit_depth) == (like.pixel_format, like.bit_depth)
        assert written.colors == like.colors
        for frame in written.frames():
            assert frame.pixels.dtype == pixels.dtype
            difference = np.abs(levels(frame.pixels) - levels(pixels))[2:-2, 2:-2]
            assert difference.max() <= (2 if crf == 0 else 4)
            assert (difference > 2).mean() < 0.005 and difference.mean() < 0.6

    @pytest.mark.parametrize(
        ("pixel_format", "codec", "written_format"),
        [
            ("yuv422p", "libx264", "yuv422p"),
            ("yuv444p", "libx264", "yuv444p"),
            ("yuv422p10le", "libx265", "yuv422p10le"),
            ("yuv411p", "libx264", "yuv422p"),
            ("yuv440p", "libx264", "yuv444p"),
            ("yuv440p", "libvpx-vp9", "yuv440p"),
            ("yuv444p12le", "libx264", "yuv444p10le"),
            ("yuv444p12le", "libx265", "yuv444p12le"),
            ("yuv422p", "libsvtav1", "yuv420p"),
            ("yuv420p10le", "libvpx-vp9", "yuv420p"),
            ("gray", "libx264", "yuvj420p"),  # its name in full range
            ("gray10le", "libx264", "yuv420p10le"),
            ("bgr0", "libx264", "yuv420p"),
            ("yuv420p9le", "libx264", "yuv420p10le"),
        ],
    )
    def test_depth_and_subsampling(self, tmp_path, pixel_format, codec, written_format):
        pictures = [av.VideoFrame(64, 48, pixel_format)]
        like = open_video(
            write_clip(tmp_path / "a.mkv", 1, pictures=pictures, pixel_format=pixel_format, codec="ffv1")
        )
        assert like.pixel_format == pixel_format
        written = open_video(write(tmp_path / "chunk", like, [picture(3)], codec=codec))
        assert written.pixel_format == written_format
        assert number_of(next(written.frames()).pixels) == 3

    @pytest.mark.parametrize(
        ("size", "codec", "written_format"),
        [
            ((47, 63), "libx264", "yuv444p"),
            ((48, 63), "libx265", "yuv444p"),
            ((47, 64), "libx264", "yuv422p"),
            ((47, 63), "libvpx-vp9", "yuv420p"),
            ((47, 63), "libsvtav1", "yuv420p"),
            ((47, 63), "ffv1", "yuv420p"),
        ],
    )
    def test_no_pixel_of_odd_sizes_is_added_or_lost(self, tmp_path, size, codec, written_format):
        like = open_video(write_clip(tmp_path / "a.mkv", 1, size=size, codec="ffv1"))
        written = open_video(write(tmp_path / "chunk", like, [picture(7, size)], codec=codec))
        assert written.pixel_format == written_format
        frame = next(written.frames())
        assert frame.pixels.shape == (*size, 3) and number_of(frame.pixels) == 7

    def test_shape_of_pixels(self, tmp_path):
        like = open_video(write_clip(tmp_path / "a.mp4", 1, shape=Fraction(16, 15)))
        assert open_video(write(tmp_path / "chunk", like, [picture(0)])).sample_aspect_ratio == Fraction(16, 15)

    def test_rgb_sources_become_what_players_expect_of_the_new_size(self, tmp_path):
        like = open_video(write_clip(tmp_path / "a.gif", 1, codec="gif", pixel_format="rgb8"))
        for size, matrix in ((SIZE, 6), ((720, 16), 1)):
            written = open_video(write(tmp_path / "chunk", like, [picture(0, size)], size=size))
            assert (written.colors.matrix, written.colors.full_range) == (matrix, False)


class TestWholeFiles:
    @pytest.mark.parametrize("problem", [ValueError, KeyboardInterrupt])
    def test_nothing_is_left_of_an_unfinished_one(self, tmp_path, source, problem):
        path = tmp_path / "chunks" / "chunk"
        with pytest.raises(problem), VideoWriter(path, source) as writer:
            writer.write(picture(0), Fraction(0))
            raise problem
        assert list(path.parent.iterdir()) == []

    def test_it_is_there_only_when_it_is_whole(self, tmp_path, source):
        path = tmp_path / "chunks" / "chunk"
        with VideoWriter(path, source) as writer:
            writer.write(picture(0), Fraction(0))
            assert not path.exists()
        assert [*path.parent.iterdir()] == [path]

    def test_a_full_disk(self, tmp_path, source):
        noise = np.random.default_rng(0).integers(0, 256, (20, *SIZE, 3), dtype=np.uint8)
        path = tmp_path / "chunks" / "chunk"
        with pytest.raises(OSError), full_disk(20_000):
            write(path, source, noise, codec="ffv1")
        assert list(path.parent.iterdir()) == []


class TestErrors:
    def test_no_frames(self, tmp_path, source):
        with pytest.raises(ValueError, match="No frame was written"), VideoWriter(tmp_path / "chunk", source):
            pass
        assert not (tmp_path / "chunk").exists()

    @pytest.mark.parametrize(
        "pixels", [np.zeros((48, 64, 3)), np.zeros((48, 64), np.uint8), np.zeros((64, 48, 3), np.uint8)]
    )
    def test_other_pixels(self, tmp_path, source, pixels):
        with pytest.raises(ValueError, match=r"`pixels` is .*; accepted is uint8 or uint16 \[48, 64, 3\]"):
            write(tmp_path / "chunk", source, [pixels])

    def test_times_that_do_not_grow(self, tmp_path, source):
        with (
            pytest.raises(ValueError, match="`time` is 0 s; it must be later"),
            VideoWriter(tmp_path / "c", source) as writer,
        ):
            writer.write(picture(0), Fraction(0))
            writer.write(picture(0), Fraction(0))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_frames_as_pictures(tmp_path, dtype):
    path = write_frame(tmp_path, 12, smooth(dtype))
    assert path == frame_path(tmp_path, 12) == tmp_path / "00000012.png"
    pixels = read_photo(path).pixels
    assert pixels.dtype == dtype
    np.testing.assert_array_equal(pixels, smooth(dtype))
