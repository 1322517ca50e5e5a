"""The tab that fills what is painted over."""

import time
from collections.abc import Generator, Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import gradio as gr
import numpy as np
from gradio.components import Component
from PIL import Image, ImageChops

from ..imaging.masks import mask_levels
from ..imaging.metadata import Metadata, PhotoFile
from ..photos.damage import FilledPhoto, fill_damage
from ..pipelines.pipeline_difface_inpaint import DifFaceInpaintPipeline
from ..utils.wording import counted
from .controls import Settings, add_controls, settings_of
from .files import checked, errors_for_people, read_upload, sentence, write_download
from .live import Preview, follow
from .result import view
from .run_panel import RunPanel, progress_bar
from .tab import EXAMPLES, Tab


BRUSH = gr.Brush(default_size=12, colors=["#ff4d4d"], default_color="#ff4d4d", color_mode="fixed")
PAINTED = 128  # opacity from which a pixel counts as painted, of 255


class InpaintTab(Tab):
    """Lays the tab out and connects it."""

    def _add_inputs(self) -> None:
        self.editor = checked(
            gr.ImageEditor(
                label="Paint over holes",
                type="pil",
                format="png",
                sources=["upload", "clipboard"],
                brush=BRUSH,
                layers=False,
                transforms=(),
                buttons=["fullscreen"],
                height=460,
            )
        )
        gr.Examples(
            [[str(EXAMPLES / "scratched.png")]],
            self.editor,
            label="No picture at hand? Take this one, and paint over its scratches",
        )
        self.panel = RunPanel("Fill what is painted over")
        with gr.Accordion("Finer settings", open=False):
            self.controls = add_controls(self.pipe)

    def _add_outputs(self) -> None:
        self.panel.add_preview()
        with gr.Column(visible=False) as self.results:
            self._add_answer("png")

    def _connect(self) -> None:
        settings = self.controls.settings
        self.panel.connect(
            {
                self.panel.start_button: [self.editor, self.controls.randomize, *settings],
                self.another: [self.editor, gr.State(True), *settings],
            },
            self.fill_painted,
            [self.results, self.slider, self.download, self.controls.seed],
        )
        files = [
            checked(gr.Image(label=label, type="filepath", image_mode=None, visible=False))
            for label in ("Photograph", "Mask: white is filled")
        ]
        self._add_endpoint("inpaint", self.fill_file, [*files, *settings])

    def fill_painted(
        self, edited: dict[str, Any] | None, randomize: bool, *sampling: Any
    ) -> Iterator[dict[Component, Any]]:
        """Fill what is painted over; see `fill_damage` and `Settings`."""
        if not edited or edited["background"] is None:
            raise sentence("Choose a picture first.")
        background = edited["background"].convert("RGB")
        photo = PhotoFile(np.asarray(background), Metadata())
        settings = settings_of(sampling, randomize)
        yield from self._fill(photo, "filled", painted(edited["layers"], background.size), settings)

    def fill_file(
        self,
        photo: str | None,
        mask: str | None,
        start: int,
        eta: float,
        s_noise: float,
        steps: int,
        scheduler: str,
        seed: int,
    ) -> str:
        """Fill the holes of a photograph; returns a PNG file.

        Args:
            photo: the photograph.
            mask: white is filled, black stays; fitted to the photograph.
            start: start timestep, 1 .. 1000; higher invents more.
            eta: share of fresh noise in each step, 0 .. 1; for DDIM.
            s_noise: factor on the first noise; above 1 draws more detail.
            steps: network calls per face.
            scheduler: name of a scheduler; the model's own if empty.
            seed: of the noise.
        """
        with errors_for_people():
            if mask is None:
                raise sentence("A mask is needed, white where the photograph is to be filled.")
            picture, holes = read_upload(photo), mask_levels(read_upload(mask).pixels)
        settings = Settings(start, eta, s_noise, steps, scheduler, seed)
        *_, end = self._fill(picture, f"{Path(str(photo)).stem}_filled", holes, settings)
        return end[self.download]

    def _fill(
        self, photo: PhotoFile, name: str, mask: Image.Image | np.ndarray, settings: Settings
    ) -> Iterator[dict[Component, Any]]:
        started = time.monotonic()
        with errors_for_people():
            if not np.asarray(mask).any():
                raise sentence("Paint over what is to be filled first.")
            yield {self.panel.progress: progress_bar("Looking for faces"), self.results: gr.update(visible=False)}
            answer = yield from self.panel.watch(self.run(photo.pixels, mask, settings))
            filled = PhotoFile(np.asarray(answer.image), photo.metadata)
            yield {
                self.results: gr.update(visible=True),
                self.slider: (view(photo.pixels), view(filled.pixels)),
                self.download: write_download(filled, name),
                self.controls.seed: settings.seed,
                self.panel.status: summary(len(answer.faces), time.monotonic() - started),
            }

    def _run(
        self, pixels: np.ndarray, mask: Image.Image | np.ndarray, settings: Settings
    ) -> Generator[Preview | FilledPhoto, None, None]:
        """Fill a picture; see `follow`."""
        pipe = cast(DifFaceInpaintPipeline, self.pipe)
        yield from follow(partial(fill_damage, pipe, pixels, mask, generator=settings.generator, **settings.sampling))


def painted(layers: list[Image.Image], size: tuple[int, int]) -> Image.Image:
    """Return a mask of `size`, white where one of the editor's layers, RGBA, is painted on."""
    mask = Image.new("L", size)
    for layer in layers:
        opaque = layer.getchannel("A").point(lambda alpha: 255 if alpha >= PAINTED else 0)
        mask = ImageChops.lighter(mask, opaque.resize(size, Image.Resampling.NEAREST))
    return mask


def summary(faces: int, seconds: float) -> str:
    """Return what was done, for the status."""
    if not faces:
        return f"Filled from the surroundings in {seconds:.1f} s; no face was found under the paint."
    return f"{counted(faces, 'face')} filled in {seconds:.1f} s."
