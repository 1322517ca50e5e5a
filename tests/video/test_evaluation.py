import numpy as np
import pytest

from difface_diffusers.video.evaluation import evaluate_video

from .clips import write_clip
from .scenes import HEIGHT, WIDTH, TemplateDetector, film, place


LOSSLESS = {"codec": "ffv1", "pixel_format": "yuv444p", "size": (HEIGHT, WIDTH)}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A face that moves: clean, as it is, and flickering."""
    frames, _ = film(([place(120 + 2 * step, 95, 0.7) for step in range(7)], 0))
    shaken = [np.clip(frame + 8.0 * (-1) ** number, 0, 255).astype(np.uint8) for number, frame in enumerate(frames)]
    folder = tmp_path_factory.mktemp("clips")
    paths = folder / "clean.mkv", folder / "shaken.mkv", folder / "short.mkv"
    for path, pictures in zip(paths, (frames, shaken, frames[:4]), strict=True):
        write_clip(path, len(pictures), pictures=pictures, **LOSSLESS)
    return paths


def test_flicker_is_told_from_motion(clips):
    clean, shaken, _ = clips
    detector = TemplateDetector()
    steady, flickering = (evaluate_video(path, clean, detector) for path in (clean, shaken))
    assert steady["psnr"] > 60 and steady["warping_error"] < 0.02
    assert 28 < flickering["psnr"] < 31 and flickering["warping_error"] > steady["warping_error"] + 0.04
    assert flickering["change"] > steady["change"] + 0.03
    assert flickering["identity_distance"] > steady["identity_distance"] and steady["landmark_jitter"] < 0.03


def test_without_faces(clips):
    figures = evaluate_video(clips[0], clips[0], TemplateDetector(score=1.1))
    assert set(figures) == {"psnr", "warping_error", "change"}


@pytest.mark.parametrize(("restored", "reference", "message"), [(0, 2, "fewer frames"), (2, 0, "has 4 frames")])
def test_the_frames_must_be_as_many(clips, restored, reference, message):
    with pytest.raises(ValueError, match=message):
        evaluate_video(clips[restored], clips[reference], TemplateDetector())
