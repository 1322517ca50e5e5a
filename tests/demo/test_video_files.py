from fractions import Fraction

import gradio as gr
import numpy as np
import pytest

from difface_diffusers.demo import video_files
from difface_diffusers.demo.video_files import MAX_MEGAPIXELS, PLAYABLE, Upload, check_video, make_playable
from difface_diffusers.video.reading import open_video
from tests.video.clips import number_of, packets, picture, write_clip


def test_what_is_found(tmp_path):
    assert check_video(str(write_clip(tmp_path / "clip.mp4", 10))) == Upload(10, 0.4, 0.0, False)
    sounding = write_clip(tmp_path / "sound.mkv", 5, audio="aac", start=3)
    assert check_video(str(sounding)) == Upload(5, pytest.approx(0.2, abs=0.03), 0.0, True)


def test_the_length_is_counted_where_the_file_does_not_tell_it(tmp_path):
    for name, options in (("clip.avi", {"codec": "mpeg4"}), ("clip.h264", {}), ("clip.gif", {"codec": "gif"})):
        pixel_format = "rgb8" if name == "clip.gif" else "yuv420p"
        path = write_clip(tmp_path / name, 10, pixel_format=pixel_format, **options)
        assert check_video(str(path)) == Upload(10, pytest.approx(0.4, abs=0.05), 0.0, False)


def text(path):
    path.write_text("no video" * 100)


def empty(path):
    path.write_bytes(b"")


def sound(path):
    whole = write_clip(path.with_name("whole.mkv"), 5, audio="aac")
    with video_files.open_container(whole) as source:
        import av

        with av.open(str(path), "w", format="mp4") as target:
            stream = target.add_stream_from_template(source.streams.audio[0])
            for packet in source.demux(audio=0):
                if packet.size:
                    packet.stream = stream
                    target.mux(packet)


def cut(path):
    whole = write_clip(path.with_name("whole.mp4"), 20).read_bytes()
    path.write_bytes(whole[: whole.index(b"moov")])  # the index, behind the frames, is lost


def frameless(path):
    """Frames are told of, and none can be decoded."""
    whole = write_clip(path.with_name("whole.mp4"), 5).read_bytes()
    start = whole.index(b"mdat") + 4
    path.write_bytes(whole[:start] + bytes(whole.index(b"moov") - 4 - start) + whole[whole.index(b"moov") - 4 :])


def long(path):
    write_clip(path, 22, rate=1)


def many(path):
    write_clip(path, 601, rate=100, pictures=[picture(0)] * 601)


def large(path):
    write_clip(path, 1, size=(1200, 1920))


def tiny(path):
    write_clip(path, 2, size=(8, 64))


UNREADABLE = r"cannot be read as a video, or it is damaged or cut short; accepted are MP4"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (text, UNREADABLE),
        (empty, UNREADABLE),
        (cut, UNREADABLE),
        (frameless, UNREADABLE),
        (sound, "This file holds sound, but no video; accepted are"),
        (long, r"This video lasts 22 seconds; accepted are 20\."),
        (many, r"This video has 601 frames; accepted are 600\."),
        (large, r"have 2\.3 megapixels \(1920 x 1200\); accepted are 2\.1"),
        (tiny, "64 x 8 pixels; that is too small"),
    ],
)
def test_what_may_not_be_uploaded(tmp_path, make, message):
    make(tmp_path / "video.mp4")
    with pytest.raises(gr.Error, match=message) as error:
        check_video(str(tmp_path / "video.mp4"))
    assert not error.value.print_exception


def test_nothing_uploaded():
    with pytest.raises(gr.Error, match="Choose a video first"):
        check_video(None)


def test_what_would_be_too_large_once_enlarged(tmp_path):
    path = str(write_clip(tmp_path / "clip.mp4", 1, size=(720, 1280)))
    assert check_video(path, 1.5).frames == 1
    with pytest.raises(gr.Error, match=r"Enlarged 2 times .* have 3\.7 megapixels; at most 2\.1 can be made here"):
        check_video(path, 2)
    assert MAX_MEGAPIXELS >= 1920 * 1088 / 1e6


def test_a_video_of_any_size_is_refused_before_a_frame_is_decoded(tmp_path, monkeypatch):
    def decode(path):
        raise AssertionError

    monkeypatch.setattr(video_files, "open_video", decode)
    with pytest.raises(gr.Error, match="megapixels"):
        check_video(str(write_clip(tmp_path / "clip.mp4", 1, size=(2160, 3840))))


def test_a_video_that_is_cut_short_may_be_restored_and_is_told_of(tmp_path):
    whole = write_clip(tmp_path / "whole.mkv", 25, codec="ffv1", pixel_format="bgr0")
    (tmp_path / "cut.mkv").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    upload = check_video(str(tmp_path / "cut.mkv"))
    assert 5 < upload.frames < 12 and upload.missing == pytest.approx(1 - upload.frames / 25, abs=0.01)


@pytest.mark.parametrize(
    ("size", "pixel_format", "expected"),
    [((48, 64), "yuv420p10le", (48, 64)), ((48, 64), "yuv444p", (48, 64)), ((47, 65), "yuv444p", (46, 64))],
)
def test_what_browsers_cannot_play_is_written_anew(tmp_path, size, pixel_format, expected):
    path = write_clip(tmp_path / "clip.mp4", 6, size=size, pixel_format=pixel_format, audio="aac", rate=Fraction(10))
    sound = packets(path, "audio")
    told = []
    video = make_playable(path, lambda *arguments: told.append(arguments))
    assert video.pixel_format in PLAYABLE and (video.height, video.width) == expected and video.has_audio
    assert told == [("finish", number, 6) for number in range(1, 7)]
    with open_video(path) as video:
        frames = list(video.frames())
    assert [number_of(frame.pixels) for frame in frames] == list(range(6))
    assert [frame.time for frame in frames] == [Fraction(number, 10) for number in range(6)]
    assert [data for data, _ in packets(path, "audio")[0]] == [data for data, _ in sound[0]]
    assert [one.name for one in tmp_path.iterdir()] == ["clip.mp4"]
    assert np.abs(frames[0].pixels[4, 4].astype(int) - (200, 20, 20)).max() < 12


def test_what_browsers_play_stays(tmp_path):
    path = write_clip(tmp_path / "clip.mp4", 3)
    before = path.read_bytes()
    make_playable(path, lambda *arguments: None)
    assert path.read_bytes() == before
