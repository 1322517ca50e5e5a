from fractions import Fraction

import pytest

from difface_diffusers.video.frames import select_frames
from difface_diffusers.video.reading import open_video

from .clips import number_of, write_clip


TICKS = [0, 40, 80, 200, 240, 280, 400, 440]  # milliseconds


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.mkv"
    return open_video(write_clip(path, times=TICKS, time_base=Fraction(1, 1000)))


def shown(source, start=None, stop=None, fps=None):
    selected = select_frames(source, start, stop, fps)
    return [(float(time), number_of(pixels)) for time, _, pixels in selected]


def test_all_with_their_own_times(source):
    assert shown(source) == [(tick / 1000, number) for number, tick in enumerate(TICKS)]


def test_a_part(source):
    assert [number for _, number in shown(source, start=0.1, stop=0.3)] == [3, 4, 5]


def test_at_another_rate_some_are_shown_again_and_some_left_out(source):
    assert [number for _, number in shown(source, fps=10)][:5] == [0, 2, 3, 5, 6]
    fast = shown(source, fps=50)
    assert [time for time, _ in fast] == pytest.approx([tick / 50 for tick in range(len(fast))])
    assert [number for _, number in fast][:11] == [0, 0, 1, 1, 2, 2, 2, 2, 2, 2, 3]
    assert 0.44 <= fast[-1][0] < 0.52


@pytest.mark.parametrize("fps", [None, 10, 60])
def test_frames_are_found_again(source, fps):
    selected = select_frames(source, 0.05, None, fps)
    first = [(source_time, number_of(pixels)) for _, source_time, pixels in selected]
    times = [time for time, _ in first]
    for begin, end in [(0, len(first)), (2, 5), (len(first) - 1, len(first)), (3, 3)]:
        again = [(number, number_of(pixels)) for number, pixels in selected.again(begin, end, times)]
        assert again == [(number, first[number][1]) for number in range(begin, end)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"start": 9}, r"`start` is 9; .*clip.mkv has 0\.\d+ seconds"),
        ({"start": 0.2, "stop": 0.2}, "`stop` is 0.2; it must be above `start`, 0.2"),
        ({"start": -1}, "`start` is -1"),
        ({"fps": 0}, "`fps` is 0"),
        ({"fps": float("nan")}, "`fps` is nan"),
    ],
)
def test_bad_input(source, arguments, message):
    with pytest.raises(ValueError, match=message):
        select_frames(source, **({"start": None, "stop": None, "fps": None} | arguments))
