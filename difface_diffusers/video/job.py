"""One run of `restore_video`: what it leaves on the disk while it runs, and how it goes on after it was stopped."""

import json
import shutil
from collections.abc import Callable, Generator
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..faces import YuNetDetector
from ..photos.upscale import as_upscaler
from ..pipelines.pipeline_difface import DifFacePipeline
from ..utils.warning import warn_user
from .codecs import check_target
from .face_restorer import judge_face
from .frames import Selected
from .plan import Scene, Survey
from .scene_restorer import restore_scene
from .settings import VideoSettings
from .sinks import ChunkSink, FolderSink, Sink
from .survey import Surveyor
from .writing import write_frame


if TYPE_CHECKING:
    from accelerate import PartialState

# Settings that may be others when it goes on.
FREE = ("detector", "callback_on_step_end", "callback_on_step_end_tensor_inputs")
LEAD = 32  # frames before those that are missing, from which a scene is taken up again
MAX_PIXELS = 40 * 10**6  # of a frame; 8K has 33 million
SURVEY, RESTORE = "survey", "restore"  # what is done with frames
OnFrame = Callable[[str, int, int | None], None]  # told what is done, frames so far, and of how many


class VideoJob:
    """The steps of `restore_video`.

    Besides the target there is a folder `.NAME.parts` while it runs, with the survey and all chunks that are done.

    Args:
        pipe: restores the aligned faces.
        selected: the frames.
        settings: of the call.
        target: see `restore_video`, as are the rest.
        on_frame: see there.
        processes: see there.
    """

    def __init__(
        self,
        pipe: DifFacePipeline,
        selected: Selected,
        settings: VideoSettings,
        target: Path,
        on_frame: OnFrame | None,
        processes: "PartialState | None",
    ) -> None:
        self.target = target
        self._pipe, self._selected, self._settings, self._processes = pipe, selected, settings, processes
        self._report = on_frame or (lambda doing, done, total: None)
        self._is_main = processes is None or processes.is_main_process
        self._upscaler = as_upscaler(settings.background, pipe.device)
        self._folder = target.with_name(f".{target.name}.parts")
        self._preview_folder = target.with_name(f"{target.stem}_preview")
        video = selected.source
        height, width = round(video.height * settings.upscale), round(video.width * settings.upscale)
        self._size = height, width * (2 if settings.compare else 1)
        self._sink: Sink = FolderSink(target)
        if target.suffix:
            self._sink = ChunkSink(target, self._folder, video, self._size, settings)
        self._written = 0

    def prepare(self, resume: bool) -> None:
        """Check the target, and make the folder, or find the one of a run that was stopped.

        Raises:
            ValueError: the target cannot be written, or there is nothing to go on with.
        """
        source, settings = self._selected.source, self._settings
        check_pixels("`source` has", (source.height, source.width))
        check_pixels("`upscale` and `compare` make", self._size)
        if self.target.suffix:
            check_target(self.target, source, self._size, settings.codec, settings.crf)
        if self._is_main:
            description = self._description()
            file = self._folder / "settings.json"
            if resume:
                if not file.exists():
                    raise ValueError(f"`resume` is True, but no run was stopped that wrote to {self.target}.")
                before = json.loads(file.read_text(encoding="utf-8"))
                changed = [name for name, value in description.items() if before.get(name) != value]
                if changed:
                    raise ValueError(
                        f"`resume` is True, but {', '.join(changed)} differ from those of the run that was stopped."
                    )
            else:
                shutil.rmtree(self._folder, ignore_errors=True)
                try:
                    self._folder.mkdir(parents=True)
                    if not self.target.suffix:
                        self.target.mkdir(parents=True, exist_ok=True)
                except OSError as error:
                    raise OSError(f"`target` is {self.target}, which cannot be written: {error.strerror}.") from error
                file.write_text(json.dumps(description), encoding="utf-8")
        self._wait()

    def _description(self) -> dict[str, str]:
        """Return what a run that goes on must have in common with the one that was stopped."""
        selected, status = self._selected, self._selected.source.path.stat()
        settings = {name: str(value) for name, value in vars(self._settings).items() if name not in FREE}
        if callable(self._settings.background):
            settings["background"] = type(self._settings.background).__name__
        return settings | {
            "source": f"{selected.source.path.resolve()} {status.st_size} {status.st_mtime_ns}",
            "start": str(selected.start),
            "stop": str(selected.stop),
            "fps": str(selected.rate),
            "model": str(self._pipe.config.get("_name_or_path")),
        }

    def survey(self) -> Survey:
        """Return the survey, which the main process makes unless it is there already."""
        file = self._folder / "survey.json"
        if self._is_main and not file.exists():
            survey = self._survey()
            survey.save(file)
            if not any(scene.faces for scene in survey.scenes):
                warn_user(f"no face in {self._selected.source.path}: it is only enlarged")
        self._wait()
        return Survey.load(file)

    def _survey(self) -> Survey:
        settings, source = self._settings, self._selected.source
        surveyor = Surveyor(
            YuNetDetector() if settings.detector is None else settings.detector,
            partial(judge_face, self._pipe, settings=settings) if settings.steadiness else None,
            self._pipe.model_size[0],
            settings.detect_every if settings.steadiness else 1,
            float(self._selected.rate or source.average_rate),
            settings.faces,
            settings.min_face_size,
            settings.keep_gray,
            settings.steadiness,
        )
        expected = self._selected.expected_count
        return surveyor.watch(self._selected, lambda done: self._report(SURVEY, done, expected))

    def restore(self, survey: Survey) -> int:
        """Restore and write the frames of this process that are missing; return how many."""
        scenes = share_scenes(survey.scenes, self._processes)
        missing = sum(scene.stop - self._sink.done_until(scene.first, scene.stop) for scene in scenes)
        for scene in scenes:
            first = self._sink.done_until(scene.first, scene.stop)
            if first < scene.stop:
                self._sink.write(self._restored(survey, scene, first, missing))
        return self._written

    def _restored(
        self, survey: Survey, scene: Scene, first: int, missing: int
    ) -> Generator[tuple[int, Fraction, np.ndarray], None, None]:
        """Yield the frames of a scene from `first` on: number, time and pixels as they are written."""
        settings = self._settings
        frames = self._selected.again(max(scene.first, first - LEAD), scene.stop, survey.source_times)
        for frame in restore_scene(self._pipe, scene, frames, settings, self._upscaler):
            if frame.number < first:
                continue
            pixels = np.concatenate([frame.before, frame.after], axis=1) if settings.compare else frame.after
            yield frame.number, survey.times[frame.number], pixels
            if settings.preview is not None and frame.number % settings.preview == 0:
                write_frame(self._preview_folder, frame.number + 1, pixels)
            self._written += 1
            self._report(RESTORE, self._written, missing)

    def rescue(self) -> None:
        """Make a video that can be played of what is done; `prepare` with `resume` goes on all the same."""
        if self._processes is None and self._written:
            self._sink.finish(self._selected.start, self._selected.stop)

    def finish(self) -> None:
        """Put all together, when every process has done its part, and take the folder away."""
        self._wait()
        if self._is_main:
            self._sink.finish(self._selected.start, self._selected.stop)
            shutil.rmtree(self._folder)

    def _wait(self) -> None:
        if self._processes is not None:
            self._processes.wait_for_everyone()


def check_pixels(who_makes: str, size: tuple[int, int]) -> None:
    """Raise a `ValueError` for frames that are too large, height and width in pixels; `who_makes` begins it."""
    height, width = size
    if height * width > MAX_PIXELS:
        raise ValueError(
            f"{who_makes} frames of {width} x {height} pixels; accepted are up to {MAX_PIXELS // 10**6} million pixels."
        )


def share_scenes(scenes: list[Scene], processes: "PartialState | None") -> list[Scene]:
    """Return the scenes of this process, in order: the longest ones are given out first, each to who has least to do."""
    if processes is None:
        return scenes
    shares: list[list[Scene]] = [[] for _ in range(processes.num_processes)]
    for scene in sorted(scenes, key=lambda scene: scene.first - scene.stop):
        min(shares, key=lambda share: sum(own.stop - own.first for own in share)).append(scene)
    return sorted(shares[processes.process_index], key=lambda scene: scene.first)
