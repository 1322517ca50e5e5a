"""Whole videos: survey them, restore them scene by scene, and put them together again with their sound."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..faces import FaceDetector
from ..photos.upscale import Upscaler
from ..pipelines.pipeline_difface import DifFacePipeline
from ..pipelines.sampling import Callback
from ..utils.choices import MIN_FACE_SIZE
from ..utils.records import take
from .frames import select_frames
from .job import OnFrame, VideoJob
from .reading import open_video
from .settings import VideoSettings


if TYPE_CHECKING:
    from accelerate import PartialState


@dataclass(frozen=True)
class VideoRestoration:
    """What became of a video.

    Attributes:
        target: what was written.
        frames: how many, in all.
        restored_frames: how many of them were restored in this run; fewer where it was resumed or shared.
        scenes: how many were found.
        faces: how many were followed, over all scenes.
    """

    target: Path
    frames: int
    restored_frames: int
    scenes: int
    faces: int


def restore_video(
    pipe: DifFacePipeline,
    source: str | Path,
    target: str | Path,
    detector: FaceDetector | None = None,
    upscale: float = 1,
    background: str | Upscaler = "bundled",
    background_blend: float | None = None,
    faces: str = "all",
    min_face_size: float = MIN_FACE_SIZE,
    detect_every: int = 5,
    steadiness: float = 1.0,
    keep_gray: str = "auto",
    blend: float = 1.0,
    keep_clean: bool = True,
    match_grain: str = "off",
    batch_size: int = 8,
    seed: int = 0,
    start: float | Fraction | None = None,
    stop: float | Fraction | None = None,
    fps: float | Fraction | None = None,
    codec: str = "libx264",
    crf: float = 18,
    compare: bool = False,
    preview: int | None = None,
    resume: bool = False,
    preset: str | None = None,
    num_inference_steps: int | None = None,
    start_timestep: int | str | None = None,
    eta: float | None = None,
    s_noise: float | None = None,
    scheduler: str | None = None,
    callback_on_step_end: Callback | None = None,
    callback_on_step_end_tensor_inputs: list[str] | None = None,
    on_frame: OnFrame | None = None,
    processes: "PartialState | None" = None,
) -> VideoRestoration:
    """Restore the faces of a video.

    It is read twice. First cuts are found, and faces, which are followed through their scene. Then each face is restored in
    all of its frames: with one start and one noise, which lie still, and averaged over time where it shows the same.

    Args:
        pipe: restores the aligned faces.
        source: a video in any container and codec that FFmpeg reads.
        target: an .mp4, .m4v, .mov, .mkv or .webm, or without a suffix a folder, which gets a PNG of each frame.
        detector: finds the faces; `YuNetDetector()` unless given.
        upscale: by how much each frame is enlarged, 1 .. 8.
        background: see `restore_photo`, as is the next.
        background_blend: see there.
        faces: "all", or "largest" of each scene.
        min_face_size: found faces of a narrower box are left as they are, pixels.
        detect_every: how often faces are looked for, frames; in between they are followed.
        steadiness: 0, which restores frame by frame, .. 1, which is steadiest.
        keep_gray: see `restore_photo`, as are the next three.
        blend: see there.
        keep_clean: see there.
        match_grain: see there; "auto" gives every frame grain of its own.
        batch_size: frames of a face that go through the networks together.
        seed: of all noise.
        start: where to begin, seconds; `None` is the beginning.
        stop: where to end, seconds; `None` is the end.
        fps: frames a second of the result, by leaving some out or showing some again; `None` keeps every frame and its time.
        codec: of the result: libx264, libx265, libsvtav1, libvpx-vp9 or ffv1, as far as the container takes it.
        crf: loss that the codec may take, 0 for the least.
        compare: write each frame before beside it after.
        preview: also write every so many-th frame as a PNG to the folder TARGET_preview.
        resume: go on with what a run that was stopped has left behind.
        preset: see `DifFacePipeline.__call__`, as are the next seven.
        num_inference_steps: see there.
        start_timestep: see there.
        eta: see there.
        s_noise: see there.
        scheduler: see there.
        callback_on_step_end: see there. One that interrupts stops the video as Ctrl-C does.
        callback_on_step_end_tensor_inputs: see there.
        on_frame: told how far it is after every frame.
        processes: those that share the work, scene by scene, with the same result; the first of them joins what all have done.

    Returns:
        `VideoRestoration`. Where no face is found the video is only enlarged, and a `UserWarning` says so.

    Raises:
        ImportError: the extra `video` is missing.
        KeyboardInterrupt: it was stopped, or `pipe._interrupt` was set; what was done by then is at `target`, and `resume`
            goes on.
        OSError: the source is no video, or the target cannot be written.
        ValueError: an argument is out of range; the message names it.
    """
    # 1. Everything is checked before anything is done
    call: dict[str, Any] = {
        "preset": preset,
        "num_inference_steps": num_inference_steps,
        "start_timestep": start_timestep,
    }
    sampling = pipe.with_defaults(**call, eta=eta, s_noise=s_noise, scheduler=scheduler)
    inputs = callback_on_step_end_tensor_inputs or ()
    pipe.check_inputs(num_images=1, sampling=sampling, callback_on_step_end_tensor_inputs=inputs)
    settings = take(VideoSettings, locals() | vars(sampling))
    with open_video(source) as video:
        job = VideoJob(pipe, select_frames(video, start, stop, fps), settings, Path(target), on_frame, processes)
        job.prepare(resume)

        # 2. Scenes and faces, and how each is to be treated
        survey = job.survey()

        # 3. Scene after scene, those of this process, and all of it together
        try:
            written = job.restore(survey)
        except KeyboardInterrupt:
            job.rescue()
            raise
        job.finish()
    faces_found = sum(len(scene.faces) for scene in survey.scenes)
    return VideoRestoration(job.target, len(survey.times), written, len(survey.scenes), faces_found)
