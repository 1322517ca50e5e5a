"""The tab that restores photographs."""

import math
import time
from collections.abc import Generator, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from gradio.components import Component

from ..faces import Face, YuNetDetector
from ..faces.selection import select_faces
from ..imaging.opening import count_pages
from ..imaging.pixels import split_channels, to_uint8
from ..photos.enlarging import enlarge
from ..photos.restore import restore_photo
from ..photos.result import PhotoRestoration
from ..photos.tiles import OnTile
from ..photos.upscale import as_upscaler, share_of, with_progress
from ..utils.choices import MIN_FACE_SIZE
from ..utils.wording import counted
from .controls import MAX_SAMPLES, Settings, add_change_controls, add_controls, settings_of
from .files import checked, errors_for_people, read_upload, sentence, write_array, write_download
from .live import Preview, TileDone, follow, follow_tiles, pass_on
from .result import Restored, draw_uncertainty, face_sheets, paste, view
from .run_panel import RunPanel, progress_bar
from .tab import EXAMPLES, Tab


DRAWN_TOGETHER = 8  # faces, of all samples
SESSION_SECONDS = 3600


class RestoreTab(Tab):
    """Lays the tab out and connects it."""

    scales = (2, 3)

    def _add_inputs(self) -> None:
        self.photo = checked(
            gr.Image(label="Photograph", type="filepath", image_mode=None, sources=["upload", "clipboard"], height=300)
        )
        gr.Examples(
            [[str(EXAMPLES / name)] for name in ("photograph.png", "old_print.png")],
            self.photo,
            label="No photograph at hand? Try one of these",
        )
        self.panel = RunPanel("Restore the faces")
        self.upscale = gr.Slider(1, 4, 2, step=0.5, label="Enlarge the picture", info="Times its width and height.")
        self.samples = gr.Slider(
            1,
            MAX_SAMPLES,
            1,
            step=1,
            label="Samples",
            info="Each invents differently what the picture does not show.",
        )
        self.blend = gr.Slider(
            0, 1, 1, step=0.05, label="Strength", info="How much of the change is put back. Moves the result at once."
        )
        with gr.Accordion("Finer settings", open=False):
            self.background, self.keep_gray, self.keep_clean = add_change_controls(self.pipe)
            self.controls = add_controls(self.pipe)

    def _add_outputs(self) -> None:
        self.panel.add_preview()
        self.result = gr.State(None, time_to_live=SESSION_SECONDS)
        with gr.Column(visible=False) as self.results:
            self._add_answer("webp")
            self.sample = gr.Slider(1, MAX_SAMPLES, 1, step=1, label="Sample shown", visible=False)
            self.show_uncertainty = gr.Checkbox(False, label="Show the uncertainty", visible=False)
            self.uncertainty = gr.Image(
                label="Uncertainty: where the samples differ",
                format="png",
                interactive=False,
                buttons=["fullscreen"],
                visible=False,
            )
            self.faces = gr.Gallery(
                label="Faces: click one to leave it out or to put it back",
                height="auto",
                allow_preview=False,
                buttons=[],
                elem_classes="face-gallery",
            )
            self.chosen = gr.CheckboxGroup(label="Put back into the picture", type="index")

    def _connect(self) -> None:
        chosen = [self.photo, self.upscale, self.background, self.keep_gray, self.blend, self.keep_clean]
        settings = self.controls.settings
        results = [
            self.results,
            self.slider,
            self.download,
            self.sample,
            self.show_uncertainty,
            self.uncertainty,
            self.faces,
            self.chosen,
            self.result,
            self.controls.seed,
        ]
        self.panel.connect(
            {
                self.panel.start_button: [*chosen, self.samples, self.controls.randomize, *settings],
                self.another: [*chosen, self.samples, gr.State(True), *settings],
            },
            self.restore_upload,
            results,
        )
        # What cannot be used is said at once.
        self.photo.upload(lambda path: None, self.photo, api_visibility="private")
        here = partial(dict, api_visibility="private", show_progress="hidden")
        pasting = {
            "fn": self.choose,
            "inputs": [self.result, self.chosen, self.sample, self.blend, self.keep_clean],
            "outputs": [self.slider, self.download, self.faces],
        }
        moved = [self.chosen.input, self.sample.input]
        gr.on(moved, **pasting, **here(), trigger_mode="always_last")
        gr.on([self.blend.release, self.keep_clean.input], **(pasting | {"fn": self.choose_if_there}), **here())
        self.faces.select(self.toggle, self.chosen, self.chosen, **here()).then(**pasting, **here())
        self.show_uncertainty.input(self.reveal, [self.result, self.show_uncertainty], self.uncertainty, **here())
        self._add_endpoint("restore", self.restore_file, [*chosen, *settings])

    def restore_upload(
        self,
        path: str | None,
        upscale: float,
        background: str,
        keep_gray: str,
        blend: float,
        keep_clean: bool,
        samples: int,
        randomize: bool,
        *sampling: Any,
    ) -> Iterator[dict[Component, Any]]:
        """Restore an upload; see `restore_photo` and `Settings`."""
        started = time.monotonic()
        settings = settings_of(sampling, randomize)
        with errors_for_people():
            photo = read_upload(path, upscale)
            yield {self.panel.progress: progress_bar("Looking for faces"), self.results: gr.update(visible=False)}
            faces = find_faces(photo.pixels)
            if not faces:
                raise sentence("No face was found in this picture.")
            samples = int(samples)
            restoration, enlarged = yield from self.panel.watch(
                self.run(photo.pixels, faces, upscale, background, keep_gray, samples, settings),
                chains=math.ceil(len(faces) / batch_size_of(samples)),
            )
            clean_damage = self.pipe.config.get("clean_damage")
            stored = write_array(enlarged)
            self.download.temp_files.add(stored)  # Gradio deletes what it knows of
            result = Restored(str(path), stored, restoration, samples, keep_gray, blend, keep_clean, clean_damage)
            yield self.show(result, settings.seed) | {
                self.panel.status: summary(len(faces), time.monotonic() - started, count_pages(str(path)))
            }

    def show(self, result: Restored, seed: int) -> dict[Component, Any]:
        """Return the new values of the components for a result."""
        names = [f"Face {number}" for number in range(1, len(result.restoration.faces) + 1)]
        several = result.samples > 1
        slider, download, faces = self.choose(result, list(range(len(names))), 1, result.blend, result.keep_clean)
        return {
            self.results: gr.update(visible=True),
            self.slider: slider,
            self.download: download,
            self.sample: gr.update(value=1, maximum=max(result.samples, 2), visible=several),
            self.show_uncertainty: gr.update(value=False, visible=several),
            self.uncertainty: gr.update(value=None, visible=False),
            self.faces: faces,
            self.chosen: gr.update(choices=names, value=names),
            self.result: result,
            self.controls.seed: seed,
        }

    def choose(
        self, result: Restored | None, chosen: list[int], sample: int, blend: float, keep_clean: bool
    ) -> tuple[Any, ...]:
        """Return the two pictures, the file and the faces for a sample with some of the faces."""
        with errors_for_people():
            result = replace(still_there(result), blend=blend, keep_clean=keep_clean)
            photo, before = paste(read_upload(result.path), result, chosen, int(sample) - 1)
            faces = face_sheets(result, int(sample) - 1)
            captions = [
                f"Face {number + 1}: {treatment.reason if number in chosen else 'left out'}"
                for number, treatment in enumerate(result.treatments)
            ]
            return (
                (view(before), view(photo.pixels)),
                write_download(photo, f"{Path(result.path).stem}_restored"),
                gr.update(value=list(zip(faces, captions, strict=True)), selected_index=None),
            )

    def choose_if_there(self, result: Restored | None, *chosen: Any) -> tuple[Any, ...]:
        """Do as `choose` does, or nothing before the first run."""
        return (gr.skip(),) * 3 if result is None else self.choose(result, *chosen)

    def toggle(self, chosen: list[int], event: gr.SelectData) -> list[str]:
        """Return the names of the chosen faces after a click on one."""
        return [f"Face {number + 1}" for number in sorted(set(chosen) ^ {event.index})]

    def reveal(self, result: Restored | None, shown: bool) -> Any:
        """Show or hide where the samples differ."""
        with errors_for_people():
            result = still_there(result)
            return gr.update(
                value=draw_uncertainty(read_upload(result.path), result) if shown else None, visible=shown
            )

    def restore_file(
        self,
        photo: str | None,
        upscale: float,
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
        """Restore the faces of a photograph; returns a PNG file.

        Args:
            photo: the photograph.
            upscale: by how much it is enlarged, 1 .. 4.
            background: how; "bundled", "lanczos", "realesr-general-x4v3" or "none".
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
        *_, end = self.restore_upload(
            photo,
            upscale,
            background,
            keep_gray,
            blend,
            keep_clean,
            1,
            False,
            start,
            eta,
            s_noise,
            steps,
            scheduler,
            seed,
        )
        return end[self.download]

    def _run(
        self,
        pixels: np.ndarray,
        faces: list[Face],
        upscale: float,
        background: str,
        keep_gray: str,
        samples: int,
        settings: Settings,
    ) -> Generator[Preview | TileDone | tuple[PhotoRestoration, np.ndarray], None, None]:
        """Draw the faces and enlarge the photograph, see `follow`; of the restoration only the faces are of use."""
        upscaler = as_upscaler(background, self.pipe.device)

        def draw(**callback: Any) -> PhotoRestoration:
            restoration = restore_photo(
                self.pipe,
                pixels,
                upscale=1,
                background="none",
                faces=faces,
                batch_size=batch_size_of(samples),
                keep_gray=keep_gray,
                generator=settings.generator,
                num_samples=samples,
                **settings.sampling,
                **callback,
            )
            return replace(restoration, images=[])

        def enlarge_all(on_tile: OnTile) -> np.ndarray:
            rgb, alpha = split_channels(pixels)
            size = (round(rgb.shape[0] * upscale), round(rgb.shape[1] * upscale))
            watched = with_progress(upscaler, on_tile)
            enlarged, alpha = enlarge(rgb, alpha, size, watched, share_of(background, None))
            return enlarged if alpha is None else np.dstack([enlarged, alpha])

        restoration = yield from pass_on(follow(draw))
        enlarged = yield from pass_on(follow_tiles(enlarge_all))
        yield restoration, enlarged


def find_faces(pixels: np.ndarray) -> list[Face]:
    """Return the faces of a picture, from left to right."""
    return select_faces(to_uint8(split_channels(pixels)[0]), YuNetDetector(), "all", MIN_FACE_SIZE)


def batch_size_of(samples: int) -> int:
    """Return how many faces go through the networks together, in each of their samples."""
    return max(1, DRAWN_TOGETHER // samples)


def still_there(result: Restored | None) -> Restored:
    """Return a result; raise a `gr.Error` if it, or its upload, is older than what is kept."""
    if result is None or not all(Path(path).exists() for path in (result.path, result.enlarged)):
        raise sentence("This picture is not kept any longer; upload it again.")
    return result


def summary(faces: int, seconds: float, pages: int) -> str:
    """Return what was done, for the status; `pages` is how many pictures the upload holds."""
    first = f" The file holds {pages} pictures; this is the first." if pages > 1 else ""
    return f"{counted(faces, 'face')} restored in {seconds:.1f} s.{first}"
