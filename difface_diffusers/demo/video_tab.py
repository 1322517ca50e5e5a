"""The tab that restores videos."""

import shutil
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component
from PIL import Image

from ..imaging.files import read_photo
from ..video.restore import VideoRestoration, restore_video
from ..video.writing import frame_path
from .controls import Settings, add_change_controls, add_controls, settings_of
from .files import errors_for_people, folder_in_cache
from .live import FrameDone, Preview, follow_frames
from .result import view
from .run_panel import RunPanel, progress_bar
from .tab import Tab
from .video_files import LIMITS, Upload, check_video, make_playable
from .video_progress import watch_frames


LOOKED_AT = 5  # every so many-th frame is shown as soon as it is done
VIEW_SIDE = 640  # longest side of those, pixels
DRAWN_TOGETHER = {
    "cpu": 2
}  # faces, by device: one stops no sooner than at the end of a step, and a CPU gains little by more
DRAWN_TOGETHER_ELSEWHERE = 8


class VideoTab(Tab):
    """Lays the tab out and connects it."""

    scales = (2, 3)
    gpu_seconds = 120

    def _add_inputs(self) -> None:
        self.video = gr.Video(label="Video", sources=["upload"], height=300)
        gr.HTML(LIMITS, elem_classes="limits")
        self.panel = RunPanel("Restore the video")
        self.steadiness = gr.Slider(
            0,
            1,
            1,
            step=0.05,
            label="Steadiness",
            info="At 1 faces are held still over time. At 0 every frame is restored on its own, and faces may flicker.",
        )
        self.upscale = gr.Slider(1, 4, 1, step=0.5, label="Enlarge the video", info="Times its width and height.")
        self.blend = gr.Slider(0, 1, 1, step=0.05, label="Strength", info="How much of the change is put back.")
        with gr.Accordion("Finer settings", open=False):
            self.background, self.keep_gray, self.keep_clean = add_change_controls(self.pipe)
            self.controls = add_controls(self.pipe)

    def _add_outputs(self) -> None:
        self.panel.add_preview(style="run-frames")
        with gr.Column(visible=False) as self.results:
            self.answer = gr.Video(label="Restored", interactive=False, buttons=[], elem_classes="answer")
            self.download = gr.DownloadButton("Download (MP4)", variant="primary")

    def _connect(self) -> None:
        chosen = [
            self.video,
            self.upscale,
            self.steadiness,
            self.background,
            self.keep_gray,
            self.blend,
            self.keep_clean,
        ]
        settings = self.controls.settings
        self.panel.connect(
            {self.panel.start_button: [*chosen, self.controls.randomize, *settings]},
            self.restore_upload,
            [self.results, self.answer, self.download, self.controls.seed],
        )
        # What cannot be used is said at once.
        self.video.upload(self.look_at, self.video, api_visibility="private", show_progress="hidden")
        self._add_endpoint("restore_video", self.restore_file, [*chosen, *settings])

    def look_at(self, path: str | None) -> None:
        """Raise a `gr.Error` if an upload cannot be used."""
        check_video(path)

    def restore_upload(
        self,
        path: str | None,
        upscale: float,
        steadiness: float,
        background: str,
        keep_gray: str,
        blend: float,
        keep_clean: bool,
        randomize: bool,
        *sampling: Any,
    ) -> Iterator[dict[Component, Any]]:
        """Restore an upload; see `restore_video` and `Settings`."""
        started = time.monotonic()
        settings = settings_of(sampling, randomize)
        options = {
            "upscale": upscale,
            "steadiness": steadiness,
            "background": background,
            "keep_gray": keep_gray,
            "blend": blend,
            "keep_clean": keep_clean,
        }
        with errors_for_people():
            upload = check_video(path, upscale)
            yield {
                self.panel.progress: progress_bar("Looking for faces"),
                self.results: gr.update(visible=False),
                self.answer: None,  # or it would be heard on
            }
            restoration, has_audio = yield from watch_frames(self.panel, self.run(str(path), options, settings))
            target = str(restoration.target)
            yield {
                self.results: gr.update(visible=True),
                self.answer: target,
                self.download: target,
                self.controls.seed: settings.seed,
                self.panel.status: summary(upload, restoration, has_audio, time.monotonic() - started),
            }

    def restore_file(
        self,
        video: str | None,
        upscale: float,
        steadiness: float,
        background: str,
        keep_gray: str,
        blend: float,
        keep_clean: bool,
        start: int,
        eta: float,
        s_noise: float,
        steps: int,
        scheduler: str,
        seed: int,
    ) -> str:
        """Restore the faces of a video; returns an MP4 file, with H.264 and the sound of the video.

        Args:
            video: the video, of at most 20 seconds and 600 frames of 2.1 megapixels, enlarged ones too.
            upscale: by how much it is enlarged, 1 .. 4.
            steadiness: 0, which restores frame by frame, .. 1, which is steadiest.
            background: how it is enlarged; "bundled", "lanczos", "realesr-general-x4v3" or "none".
            keep_gray: whether gray and sepia faces stay so; "auto", "on" or "off".
            blend: how much of the change to each face is put back, 0 .. 1.
            keep_clean: leave clean faces as they are and change the others only as far as they are damaged.
            start: start timestep, 1 .. 1000; higher invents more. 0 finds one for each face by its damage.
            eta: share of fresh noise in each step, 0 .. 1; for DDIM.
            s_noise: factor on the first noise; above 1 draws more detail.
            steps: network calls per face.
            scheduler: name of a scheduler; the model's own if empty.
            seed: of the noise.
        """
        chosen = upscale, steadiness, background, keep_gray, blend, keep_clean
        *_, end = self.restore_upload(video, *chosen, False, start, eta, s_noise, steps, scheduler, seed)
        return end[self.download]

    def _run(
        self, path: str, options: dict[str, Any], settings: Settings
    ) -> Generator[Preview | FrameDone | tuple[VideoRestoration, bool], None, None]:
        """Restore a video, see `follow_frames`; answers also whether it has sound. What is stopped leaves nothing behind."""
        folder = folder_in_cache()
        target = folder / f"{Path(path).stem}_restored.mp4"
        pictures = target.with_name(f"{target.stem}_preview")

        def restore(**calls: Any) -> tuple[VideoRestoration, bool]:
            with ExitStack() as stack:
                stack.callback(shutil.rmtree, folder)
                restoration = restore_video(
                    self.pipe,
                    path,
                    target,
                    preview=LOOKED_AT,
                    batch_size=DRAWN_TOGETHER.get(self.pipe.device.type, DRAWN_TOGETHER_ELSEWHERE),
                    seed=int(settings.seed),
                    **options,
                    **settings.sampling,
                    **calls,
                )
                playable = make_playable(target, calls["on_frame"])
                shutil.rmtree(pictures)
                stack.pop_all()
            return restoration, playable.has_audio

        yield from follow_frames(restore, partial(picture_of, pictures))


def picture_of(folder: Path, number: int) -> Image.Image | None:
    """Return the frame of a number as it is shown meanwhile, if it lies in a folder."""
    path = frame_path(folder, number)
    return view(read_photo(path).pixels, VIEW_SIDE) if path.exists() else None


def summary(upload: Upload, restoration: VideoRestoration, has_audio: bool, seconds: float) -> str:
    """Return what was done, for the status."""
    frames, faces = restoration.frames, restoration.faces
    said = [
        f"{_count(frames, 'frame')} in {seconds:.1f} s, {seconds / frames:.2f} s each;"
        f" {_count(faces, 'face') if faces else 'no face'} found."
    ]
    if not faces:
        said.append("So it was only written anew, and enlarged where that was wanted.")
    if upload.missing:
        said.append(f"The file ends {upload.missing:.1f} s before its time; it may be cut short.")
    if upload.has_audio and not has_audio:
        said.append("Its sound could not be kept.")
    return " ".join(said)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
