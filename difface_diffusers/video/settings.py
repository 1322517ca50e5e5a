"""What a video is restored with: frozen, and handed down whole."""

from dataclasses import dataclass

from ..faces import FaceDetector
from ..faces.compositing import GRAY_CHOICES
from ..photos.settings import GRAIN_CHOICES, check_choice
from ..photos.upscale import Upscaler
from ..pipelines.sampling import Sampling
from ..utils.checks import check_integer, check_number


FACES_CHOICES = ("all", "largest")


@dataclass(frozen=True)
class VideoSettings:
    """The arguments of `restore_video` of the same names, and the settings of the chain.

    Raises:
        ValueError: one is out of range, as far as that can be told without a video.
    """

    detector: FaceDetector | None
    upscale: float
    background: str | Upscaler
    background_blend: float | None
    faces: str
    min_face_size: float
    detect_every: int
    steadiness: float
    keep_gray: str
    blend: float
    keep_clean: bool
    match_grain: str
    batch_size: int
    seed: int
    codec: str
    crf: float
    compare: bool
    preview: int | None
    sampling: Sampling

    def __post_init__(self) -> None:
        check_number("upscale", self.upscale, 1, 8)
        if self.background_blend is not None:
            check_number("background_blend", self.background_blend, 0, 1)
        check_choice("faces", self.faces, FACES_CHOICES)
        check_number("min_face_size", self.min_face_size, 0)
        check_integer("detect_every", self.detect_every, 1, None)
        check_number("steadiness", self.steadiness, 0, 1)
        check_choice("keep_gray", self.keep_gray, GRAY_CHOICES)
        check_number("blend", self.blend, 0, 1)
        check_choice("match_grain", self.match_grain, GRAIN_CHOICES)
        check_integer("batch_size", self.batch_size, 1, None)
        check_integer("seed", self.seed, 0, 2**63 - 1)
        if self.preview is not None:
            check_integer("preview", self.preview, 1, None)
