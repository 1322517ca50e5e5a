import numpy as np
import pytest

from difface_diffusers.faces.alignment import transform
from difface_diffusers.video.face_tracks import FaceTracker

from .scenes import background, draw, gray, noisy, place


EVERY = 5


class Film:
    """A scene, whose faces are given per frame as matrices, or `None`; later ones are drawn over earlier ones."""

    def __init__(self, *paths, blind=(), jitter=0.0):
        self.frames, self.truth, rng = [], [], np.random.default_rng(0)
        self.found = []
        for number, places in enumerate(zip(*paths, strict=True)):
            frame, landmarks = background(), []
            for person, matrix in enumerate(places):
                there = None
                if matrix is not None:
                    frame, there = draw(frame, matrix, mirrored=person == 1)
                landmarks.append(there)
            self.frames.append(gray(noisy(frame, 3, number)))
            self.truth.append(landmarks)
            self.found.append([there + rng.normal(0, jitter, (5, 2)) for there in landmarks if there is not None])
        for number, person in blind:
            self.found[number] = [there for index, there in enumerate(self.truth[number]) if index != person]

    def tracks(self, rate=10):
        tracker = FaceTracker(rate, first_number=1)
        last = 0
        for number in sorted({*range(0, len(self.frames), EVERY), len(self.frames) - 1}):
            tracker.advance(self.frames[last : number + 1], number, self.found[number])
            last = number
        return tracker.tracks

    def error(self, track, person):
        """Largest error of the landmarks where the face is seen, pixels."""
        there = [(track.landmarks[n - track.first], self.truth[n][person]) for n in range(track.first, track.stop)]
        return max(np.abs(found - true).max() for (found, true), seen in zip(there, track.seen, strict=True) if seen)


def path(count, start=(90, 90), step=(5, 0)):
    return [place(start[0] + number * step[0], start[1] + number * step[1]) for number in range(count)]


@pytest.mark.parametrize("count", [1, 2, 6, 23])
def test_one_face_is_one_track(count):
    film = Film(path(count))
    (track,) = film.tracks()
    assert (track.number, track.first, track.stop) == (1, 0, count) and all(track.seen)
    assert film.error(track, 0) < 1


def test_between_two_finds_nothing_jumps():
    """The detector errs by a pixel or two; the path from find to find stays smooth."""
    film = Film(path(21, step=(3, 1)), jitter=1.5)
    (track,) = film.tracks()
    steps = np.linalg.norm(np.diff([points.mean(axis=0) for points in track.landmarks], axis=0), axis=1)
    assert np.abs(steps - np.hypot(3, 1)).max() < 1.5
    assert track.motions[0] is None and len(track.motions) == 21
    for motion, points in zip(
        track.motions[1:], track.landmarks[1:], strict=True
    ):  # flow alone knows nothing of finds
        np.testing.assert_allclose(transform(points, motion) - points, [[3, 1]] * 5, atol=0.35)


def test_a_face_that_comes_later_is_followed_back_to_where_it_appears():
    film = Film([None] * 7 + path(13))
    (track,) = film.tracks()
    assert track.first in (7, 8) and track.stop == 20 and film.error(track, 0) < 2


def test_a_face_that_leaves_ends():
    film = Film(path(8) + [None] * 12)
    (track,) = film.tracks()
    assert track.stop in (7, 8) and all(track.seen)


def test_a_face_that_is_not_found_is_followed_all_the_same():
    film = Film(path(20, step=(4, 0)), blind=[(5, 0), (10, 0)])
    (track,) = film.tracks(rate=20)
    assert track.stop == 20 and all(track.seen) and film.error(track, 0) < 2


def test_two_faces_that_pass_each_other_keep_their_numbers():
    """The second hides the first for a while."""
    left, right = path(30, (70, 90), (6, 0)), path(30, (250, 92), (-6, 0))
    film = Film(left, right)
    hidden = [
        number for number in range(30) if np.abs(film.truth[number][0] - film.truth[number][1]).mean(axis=0)[0] < 45
    ]
    for number in hidden:
        film.found[number] = [film.truth[number][1]]
    tracks = film.tracks()
    assert len(tracks) == 2
    for track in tracks:
        ends = [
            min((0, 1), key=lambda person, at=at: np.abs(track.landmarks[at] - film.truth[frame][person]).max())
            for at, frame in ((0, track.first), (-1, track.stop - 1))
        ]
        assert ends[0] == ends[1]
        assert track.stop == 30
    first = next(track for track in tracks if np.abs(track.landmarks[0] - film.truth[0][0]).max() < 2)
    assert not all(first.seen) and film.error(first, 0) < 4


def test_out_of_sight_for_less_than_a_second_it_is_the_same_face():
    film = Film([*path(8), *[None] * 7, *path(10, (165, 90))])
    (track,) = film.tracks(rate=10)
    assert track.stop == 25 and not any(track.seen[9:14]) and all(track.seen[:7]) and all(track.seen[16:])


def test_out_of_sight_for_longer_it_is_another():
    film = Film([*path(6), *[None] * 20, *path(9, (90, 90))])
    tracks = film.tracks(rate=10)
    assert [track.number for track in tracks] == [1, 2] and tracks[0].stop <= 7 and tracks[1].first >= 25


def test_a_scene_without_faces():
    assert Film([None] * 12).tracks() == []
