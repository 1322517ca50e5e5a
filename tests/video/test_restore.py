from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from difface_diffusers.imaging.files import read_photo
from difface_diffusers.video import job as job_module
from difface_diffusers.video import restore as restore_module
from difface_diffusers.video import sinks
from difface_diffusers.video.reading import open_video

from .clips import MILLISECOND, packets, write_clip
from .scenes import HEIGHT, WIDTH, TemplateDetector, film, place


PAN = [place(100 + 3 * step, 90, 0.7) for step in range(9)]
STAY = [place(200, 95, 0.7)] * 6
LOSSLESS = {"codec": "ffv1"}
restore_video = partial(restore_module.restore_video, detector=TemplateDetector(), min_face_size=5)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Two scenes with a face each, in noise, with sound."""
    frames, _ = film((PAN, 0), (STAY, 3), noise=6)
    path = tmp_path_factory.mktemp("clip") / "clip.mkv"
    options = {"qp": "0"}
    return write_clip(path, 15, size=(HEIGHT, WIDTH), pictures=frames, options=options, audio="aac")


def frames_of(path):
    with open_video(path) as video:
        return [frame.pixels for frame in video.frames()]


@pytest.fixture(scope="module")
def restored(clip, pipe, tmp_path_factory):
    target = tmp_path_factory.mktemp("out") / "out.mkv"
    told = []
    answer = restore_video(pipe, clip, target, detect_every=4, on_frame=lambda *args: told.append(args), **LOSSLESS)
    assert [entry[:2] for entry in told[:15]] == [("survey", number) for number in range(1, 16)]
    assert all(15 <= total <= 17 for _, _, total in told[:15])  # the sound may end after the picture
    assert told[15:] == [("restore", number, 15) for number in range(1, 16)]
    assert (answer.target, answer.frames, answer.restored_frames) == (target, 15, 15)
    assert (answer.scenes, answer.faces) == (2, 2)
    return target


def test_faces_change_and_the_rest_stays(clip, restored):
    before, after = frames_of(clip), frames_of(restored)
    for number, (one, other) in enumerate(zip(before, after, strict=True)):
        changed = np.abs(one.astype(int) - other).max(axis=-1)
        left = 60 + 3 * number if number < 9 else 160
        assert changed[20:160, left : left + 80].mean() > 5
        changed[:, left - 20 : left + 100] = 0
        assert changed.mean() < 0.5 and np.percentile(changed, 99.9) <= 2


def test_sound_is_copied_and_nothing_else_is_left(clip, restored):
    (sound,), (original,) = packets(restored, "audio"), packets(clip, "audio")
    assert [data for data, _ in sound] == [data for data, _ in original]
    assert [path.name for path in restored.parent.iterdir()] == ["out.mkv"]


def test_the_noise_of_a_face_lies_still(clip, pipe, tmp_path):
    """Of a face that stays where it is, the restored frames differ by far less than the input's."""
    flicker = {}
    for steadiness in (0, 1):
        target = tmp_path / f"{steadiness}.mkv"
        restore_video(pipe, clip, target, start=0.36, steadiness=steadiness, keep_clean=False, **LOSSLESS)
        faces = np.stack(frames_of(target)).astype(float)[:, 60:140, 175:225]
        flicker[steadiness] = np.abs(np.diff(faces, axis=0)).mean()
    assert len(faces) == 6 and flicker[1] < 0.3 * flicker[0]


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(sinks, "CHUNK_FRAMES", 4)


class Stop:
    """Stops a run after some frames."""

    def __init__(self, after, error=KeyboardInterrupt):
        self.after, self.error = after, error

    def __call__(self, doing, done, total):
        if doing == "restore" and done == self.after:
            raise self.error


@pytest.mark.parametrize("after", [3, 6, 12])
def test_what_was_stopped_can_be_played_and_goes_on(clip, pipe, restored, tmp_path, after, small_chunks):
    target = tmp_path / "out.mkv"
    options = {"detect_every": 4, **LOSSLESS}
    with pytest.raises(KeyboardInterrupt):
        restore_video(pipe, clip, target, on_frame=Stop(after), **options)
    whole = frames_of(restored)
    for one, other in zip(frames_of(target), whole, strict=False):
        np.testing.assert_array_equal(one, other)
    assert len(frames_of(target)) == after
    answer = restore_video(pipe, clip, target, resume=True, **options)
    assert (answer.frames, answer.restored_frames) == (15, 15 - after)
    assert np.abs(np.array(frames_of(target)).astype(int) - np.array(whole)).max() <= 2
    assert [path.name for path in tmp_path.iterdir()] == ["out.mkv"]


def test_stopped_before_the_first_frame_nothing_is_written(clip, pipe, tmp_path, monkeypatch):
    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(job_module, "restore_scene", stop)
    with pytest.raises(KeyboardInterrupt):
        restore_video(pipe, clip, tmp_path / "out.mkv", **LOSSLESS)
    assert not (tmp_path / "out.mkv").exists()
    monkeypatch.undo()
    assert restore_video(pipe, clip, tmp_path / "out.mkv", resume=True, **LOSSLESS).restored_frames == 15


def test_a_callback_sees_the_faces_of_every_step_and_can_stop_it(clip, pipe, restored, tmp_path):
    def look(running, step, timestep, tensors):
        clean = tensors["pred_original_sample"]
        seen.append((step, running.num_timesteps, clean.shape))
        running._interrupt = len(seen) == 3
        return {}

    seen = []
    target = tmp_path / "out.mkv"
    options = {"detect_every": 4, **LOSSLESS}
    with pytest.raises(KeyboardInterrupt):
        restore_video(
            pipe,
            clip,
            target,
            callback_on_step_end=look,
            callback_on_step_end_tensor_inputs=["pred_original_sample"],
            **options,
        )
    assert seen == [(step, 2, (8, 3, 32, 32)) for step in (0, 1)] + [(0, 2, (1, 3, 32, 32))]
    restore_video(pipe, clip, target, resume=True, **options)
    assert np.abs(np.array(frames_of(target)).astype(int) - np.array(frames_of(restored))).max() <= 2


def test_a_photograph_that_was_interrupted_before_does_not_matter(clip, pipe, restored, tmp_path):
    def interrupt(running, step, timestep, tensors):
        running._interrupt = True
        return {}

    pipe(frames_of(clip)[0], callback_on_step_end=interrupt)
    restore_video(pipe, clip, tmp_path / "out.mkv", detect_every=4, **LOSSLESS)
    np.testing.assert_array_equal(frames_of(tmp_path / "out.mkv"), frames_of(restored))


def test_killed_it_goes_on_at_the_last_chunk(clip, pipe, restored, tmp_path, small_chunks):
    target = tmp_path / "out.mkv"
    with pytest.raises(MemoryError):
        restore_video(pipe, clip, target, detect_every=4, on_frame=Stop(7, MemoryError), **LOSSLESS)
    assert not target.exists()
    answer = restore_video(pipe, clip, target, detect_every=4, resume=True, **LOSSLESS)
    assert answer.restored_frames == 11
    assert np.abs(np.array(frames_of(target)).astype(int) - np.array(frames_of(restored))).max() <= 2


def test_to_go_on_the_settings_must_be_the_same(clip, pipe, tmp_path):
    target = tmp_path / "out.mkv"
    with pytest.raises(ValueError, match="`resume` is True, but no run was stopped that wrote to"):
        restore_video(pipe, clip, target, resume=True)
    with pytest.raises(KeyboardInterrupt):
        restore_video(pipe, clip, target, on_frame=Stop(2), **LOSSLESS)
    with pytest.raises(ValueError, match="`resume` is True, but steadiness, seed differ"):
        restore_video(pipe, clip, target, resume=True, steadiness=0.5, seed=1, **LOSSLESS)


def test_a_folder_of_frames(clip, pipe, restored, tmp_path):
    target = tmp_path / "frames"
    with pytest.raises(KeyboardInterrupt):
        restore_video(pipe, clip, target, detect_every=4, on_frame=Stop(10))
    assert restore_video(pipe, clip, target, detect_every=4, resume=True).restored_frames == 5
    names = sorted(path.name for path in target.iterdir())
    assert names == [f"{number:08d}.png" for number in range(1, 16)]
    expected = frames_of(restored)[14].astype(int)
    assert np.abs(read_photo(target / names[-1]).pixels - expected).mean() < 1.5


def test_enlarged_beside_the_input_with_pictures_to_look_at(clip, pipe, tmp_path):
    options = {"upscale": 1.5, "compare": True, "preview": 4, "stop": 0.24, "background": "none"}
    restore_video(pipe, clip, tmp_path / "out.mp4", **options)
    frames = frames_of(tmp_path / "out.mp4")
    assert len(frames) == 6 and frames[0].shape == (round(1.5 * HEIGHT), 2 * round(1.5 * WIDTH), 3)
    previews = sorted(path.name for path in (tmp_path / "out_preview").iterdir())
    assert previews == ["00000001.png", "00000005.png"]


def test_without_faces_it_is_only_enlarged(pipe, tmp_path):
    frames, _ = film(([None] * 3, 0))
    source = write_clip(tmp_path / "in.mkv", 3, size=(HEIGHT, WIDTH), pictures=frames)
    with pytest.warns(UserWarning, match=r"no face in .*in\.mkv: it is only enlarged"):
        answer = restore_video(pipe, source, tmp_path / "out.mkv", **LOSSLESS)
    assert answer.faces == 0
    for one, other in zip(frames_of(source), frames_of(tmp_path / "out.mkv"), strict=True):
        assert np.percentile(np.abs(one.astype(int) - other), 99.9) <= 2


def test_a_phone_clip_comes_out_upright_with_its_depth_and_its_times(pipe, tmp_path):
    """Lying on its side in 10 bits, with frames at times of their own."""
    frames, _ = film(([place(150, 95, 0.7)] * 5, 0))
    lying = [np.rot90(frame).astype(np.uint16) * 257 for frame in frames]  # counterclockwise, as it is stored
    times = [0, 40, 73, 140, 150]
    source = write_clip(
        tmp_path / "in.mp4",
        codec="libx265",
        pixel_format="yuv420p10le",
        options={"x265-params": "lossless=1:log-level=none"},
        size=(WIDTH, HEIGHT),
        times=times,
        time_base=MILLISECOND,
        pictures=lying,
        rotation=(-90,),
    )
    restore_video(pipe, source, tmp_path / "out.mp4", codec="libx265", crf=0)
    with open_video(source) as before, open_video(tmp_path / "out.mp4") as after:
        assert (after.height, after.width, after.bit_depth) == (HEIGHT, WIDTH, 10)
        pairs = list(zip(before.frames(), after.frames(), strict=True))
    assert [float(1000 * pair[1].time) for pair in pairs] == pytest.approx(times, abs=1)
    for one, other in pairs:
        changed = np.abs(one.pixels.astype(int) - other.pixels).max(axis=-1) / 257
        assert changed[60:130, 120:180].mean() > 4  # the face is where it is seen upright
        changed[20:, 80:220] = 0
        assert np.percentile(changed, 99) <= 2


@pytest.mark.parametrize("size", [(2, 2), (47, 63), (1, 90)])
def test_frames_of_any_size(pipe, tmp_path, size):
    source = write_clip(tmp_path / "in.mkv", 3, size=size, codec="ffv1", pixel_format="yuv444p")
    nothing = SimpleNamespace(detect=lambda frame: [])
    with pytest.warns(UserWarning, match="no face"):
        restore_video(pipe, source, tmp_path / "out.mkv", detector=nothing, **LOSSLESS)
    for one, other in zip(frames_of(source), frames_of(tmp_path / "out.mkv"), strict=True):
        assert one.shape == other.shape == (*size, 3) and np.abs(one.astype(int) - other).max() <= 1


class Processes:
    """One of two, that do not wait for each other."""

    num_processes = 2

    def __init__(self, index):
        self.process_index, self.is_main_process = index, index == 0
        self.waits = 0

    def wait_for_everyone(self):
        self.waits += 1


def test_two_processes_share_the_scenes(clip, pipe, restored, tmp_path, monkeypatch):
    """Here one after the other: the first surveys and waits to join, until the second has done its part."""
    target, second = tmp_path / "out.mkv", Processes(1)
    written = []

    def others_turn(processes):
        processes.waits += 1
        if processes.waits == 3 and processes.is_main_process:  # before it joins
            monkeypatch.setattr(job_module.VideoJob, "finish", lambda job: None)
            written.append(restore_video(pipe, clip, target, detect_every=4, processes=second, **LOSSLESS))
            monkeypatch.undo()

    monkeypatch.setattr(Processes, "wait_for_everyone", others_turn)
    answer = restore_video(pipe, clip, target, detect_every=4, processes=Processes(0), **LOSSLESS)
    assert (answer.restored_frames, written[0].restored_frames) == (9, 6)
    np.testing.assert_array_equal(frames_of(target), frames_of(restored))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steadiness": 1.1}, "`steadiness` is 1.1; it must be a number within 0 .. 1"),
        ({"detect_every": 0}, "`detect_every` is 0"),
        ({"upscale": 0.5}, "`upscale` is 0.5"),
        ({"faces": "center"}, "`faces` is 'center'; it must be one of all, largest"),
        ({"preview": 0}, "`preview` is 0"),
        ({"seed": -1}, "`seed` is -1"),
        ({"background": 3}, "`background` is 3; it must be 'bundled', 'lanczos', "),
        ({"keep_clean": "no"}, "`keep_clean` is 'no'; it must be True or False"),
        ({"num_inference_steps": 0}, "`num_inference_steps` is 0"),
        (
            {"callback_on_step_end_tensor_inputs": ["image"]},
            "`callback_on_step_end_tensor_inputs` has ..image..; known",
        ),
        ({"start": 100}, "`start` is 100; .* has 0.6"),
        ({"codec": "h266"}, "`codec` is 'h266'; accepted for .mkv are"),
        ({"crf": 99}, "`crf` is 99"),
        ({"target": "out.gif"}, "`target` is out.gif; accepted suffixes are"),
    ],
)
def test_bad_input(clip, pipe, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        restore_video(pipe, **({"source": clip, "target": "out.mkv"} | options))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, f"`source` has frames of {WIDTH} x {HEIGHT} pixels; accepted are up to 0 million"),
        ({"upscale": 2}, f"`upscale` and `compare` make frames of {2 * WIDTH} x {2 * HEIGHT} pixels"),
        ({"compare": True}, f"`upscale` and `compare` make frames of {2 * WIDTH} x {HEIGHT} pixels"),
    ],
)
def test_frames_that_are_too_large(clip, pipe, tmp_path, monkeypatch, options, message):
    monkeypatch.setattr(job_module, "MAX_PIXELS", WIDTH * HEIGHT - (not options))
    with pytest.raises(ValueError, match=message):
        restore_video(pipe, clip, tmp_path / "out.mkv", **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("target", ["file/out.mkv", "file/folder"])
def test_a_target_that_cannot_be_written(clip, pipe, tmp_path, target):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OSError, match=rf"`target` is .*{target}, which cannot be written: "):
        restore_video(pipe, clip, tmp_path / target)


def test_a_file_that_is_no_video(pipe, tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(OSError, match=r"text\.mp4"):
        restore_video(pipe, tmp_path / "text.mp4", tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()
