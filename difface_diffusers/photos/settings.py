"""What a photograph is restored with: frozen, and handed down whole."""

from dataclasses import dataclass

from ..faces import FaceDetector
from ..faces.compositing import GRAY_CHOICES
from ..pipelines.pipeline_difface_inpaint import DifFaceInpaintPipeline
from ..pipelines.sampling import Callback
from ..utils.checks import check_integer, check_number
from .upscale import ACCEPTED, Upscaler


GRAIN_CHOICES = ("auto", "off")
PICK_CHOICES = (None, "identity")


@dataclass(frozen=True)
class CallSettings:
    """What the calls of both pipelines take by the same names; see `DifFacePipeline.__call__`."""

    preset: str | None
    num_inference_steps: int | None
    start_timestep: int | str | None
    eta: float | None
    s_noise: float | None
    scheduler: str | None
    callback_on_step_end: Callback | None
    callback_on_step_end_tensor_inputs: list[str] | None


@dataclass(frozen=True)
class PictureSettings:
    """What a photograph and a frame of a video are restored with: the arguments of `restore_photo` of the same names.

    Raises:
        ValueError: one is out of range, as far as that can be told without a pipeline.
    """

    detector: FaceDetector | None
    upscale: float
    background: str | Upscaler
    background_blend: float | None
    min_face_size: float
    batch_size: int
    keep_gray: str
    blend: float
    keep_clean: bool
    match_grain: str

    def __post_init__(self) -> None:
        check_number("upscale", self.upscale, 1, 8)
        if not isinstance(self.background, str) and not callable(self.background):
            raise ValueError(f"`background` is {self.background!r}; it must be {ACCEPTED}, or an upscaler.")
        if self.background_blend is not None:
            check_number("background_blend", self.background_blend, 0, 1)
        check_number("min_face_size", self.min_face_size, 0)
        check_integer("batch_size", self.batch_size, 1, None)
        check_choice("keep_gray", self.keep_gray, GRAY_CHOICES)
        check_number("blend", self.blend, 0, 1)
        if not isinstance(self.keep_clean, bool):
            raise ValueError(f"`keep_clean` is {self.keep_clean!r}; it must be True or False.")
        check_choice("match_grain", self.match_grain, GRAIN_CHOICES)


@dataclass(frozen=True)
class RestorationSettings(PictureSettings):
    """The arguments of `restore_photo` of the same names; see `PictureSettings`."""

    draw_box: bool
    inpainter: DifFaceInpaintPipeline | None
    pick: str | None
    num_samples: int
    call: CallSettings

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("pick", self.pick, PICK_CHOICES)


def check_choice(name: str, value: str | None, choices: tuple[str | None, ...]) -> None:
    """Raise `ValueError` unless a value is one of some."""
    if value not in choices:
        raise ValueError(f"`{name}` is {value!r}; it must be one of {', '.join(map(str, choices))}.")
