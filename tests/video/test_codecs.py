import os
from fractions import Fraction

import av
import pytest

from difface_diffusers.video.codecs import CODECS, CONTAINERS, available_codecs, check_target
from difface_diffusers.video.reading import open_video

from ..conftest import warned_at
from .clips import write_clip


@pytest.fixture
def source(tmp_path):
    return open_video(write_clip(tmp_path / "source.mp4", 2))


def test_this_wheel_has_all_codecs():
    assert available_codecs() == list(CODECS)


@pytest.mark.parametrize(
    ("suffix", "codec"), [(suffix, codec) for suffix in CONTAINERS for codec in CONTAINERS[suffix][1]]
)
def test_what_is_accepted(tmp_path, source, suffix, codec, recwarn):
    """That it can be written too is told by the tests of joining."""
    before = set(tmp_path.iterdir())
    check_target(tmp_path / f"a{suffix.upper()}", source, codec=codec)
    assert not recwarn.list
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("name", ["a.avi", "a", "a.txt", "a.png"])
def test_suffixes_that_cannot_be_written(tmp_path, source, name):
    with pytest.raises(ValueError, match=rf"`target` is .*{name}; accepted suffixes are .mp4 .m4v .mov .mkv .webm"):
        check_target(tmp_path / name, source)


def test_a_folder(tmp_path, source):
    (tmp_path / "a.mp4").mkdir()
    with pytest.raises(ValueError, match=r"a\.mp4, which is a folder; it must be a file"):
        check_target(tmp_path / "a.mp4", source)


def test_the_source_itself(tmp_path, source):
    os.link(source.path, tmp_path / "b.mp4")
    with pytest.raises(ValueError, match=r"b\.mp4, which is the source"):
        check_target(tmp_path / "b.mp4", source)


@pytest.mark.parametrize(
    ("suffix", "codec", "accepted"),
    [
        (".mp4", "h265", "libx264, libx265, libsvtav1, libvpx-vp9"),
        (".mp4", "ffv1", "libx264, libx265, libsvtav1, libvpx-vp9"),
        (".webm", "libx264", "libsvtav1, libvpx-vp9"),
        (".mov", "libvpx-vp9", "libx264, libx265"),
        (".mkv", None, ", ".join(CODECS)),
    ],
)
def test_codecs_that_do_not_fit(tmp_path, source, suffix, codec, accepted):
    with pytest.raises(ValueError, match=f"`codec` is {codec!r}; accepted for {suffix} are {accepted}."):
        check_target(tmp_path / f"a{suffix}", source, codec=codec)


def test_codecs_that_are_not_there(tmp_path, source, monkeypatch):
    monkeypatch.setattr(av, "codecs_available", {"libx264", "ffv1"})
    with pytest.raises(ValueError, match=r"`codec` is 'libx265'; accepted for \.mkv are libx264, ffv1\."):
        check_target(tmp_path / "a.mkv", source, codec="libx265")


@pytest.mark.parametrize(
    ("codec", "crf", "highest"),
    [("libx264", 52, 51), ("libsvtav1", 64, 63), ("libx264", -1, 51), ("libx264", "a", 51)],
)
def test_crf_out_of_range(tmp_path, source, codec, crf, highest):
    with pytest.raises(ValueError, match=f"`crf` is {crf!r}; it must be a number within 0 .. {highest}"):
        check_target(tmp_path / "a.mp4", source, codec=codec, crf=crf)


def test_sizes_that_a_codec_refuses(tmp_path, source):
    with pytest.raises(ValueError, match="`codec` is 'libx265', which refuses 10 x 8 pixels"):
        check_target(tmp_path / "a.mp4", source, size=(8, 10), codec="libx265")


class TestLosses:
    def check(self, tmp_path, codec, match, **options):
        source = open_video(write_clip(tmp_path / "source.mkv", 1, codec="ffv1", **options))
        with warned_at(__file__, match):
            check_target(tmp_path / "a.mp4", source, codec=codec)

    def test_of_depth(self, tmp_path):
        self.check(tmp_path, "libvpx-vp9", "keeps 8 of the source's 10 bits", pixel_format="yuv420p10le")

    def test_of_chroma(self, tmp_path):
        self.check(
            tmp_path,
            "libsvtav1",
            r"color in less detail \(yuv420p\) than the source \(yuv422p\)",
            pixel_format="yuv422p",
        )

    def test_of_players(self, tmp_path):
        self.check(tmp_path, "libx264", "odd sides as yuv444p, which some players cannot show", size=(47, 63))

    def test_of_the_shape_of_pixels(self, tmp_path):
        source = open_video(write_clip(tmp_path / "source.mp4", 1, shape=Fraction(4, 3)))
        with warned_at(__file__, r"\.mkv cannot keep that pixels are 4/3 as wide"):
            check_target(tmp_path / "a.mkv", source, codec="libvpx-vp9")
        check_target(tmp_path / "a.mp4", source, codec="libvpx-vp9")
