"""What a video is restored with: frozen, and handed down whole."""

from dataclasses import dataclass

from ..photos.settings import PictureSettings, check_choice
from ..pipelines.sampling import Callback, Sampling
from ..utils.checks import check_integer, check_number


FACES_CHOICES = ("all", "largest")


@dataclass(frozen=True)
class VideoSettings(PictureSettings):
    """The arguments of `restore_video` of the same names, and the settings of the chain.

    Raises:
        ValueError: one is out of range, as far as that can be told without a video.
    """

    faces: str
    detect_every: int
    steadiness: float
    seed: int
    codec: str
    crf: float
    compare: bool
    preview: int | None
    sampling: Sampling
    callback_on_step_end: Callback | None
    callback_on_step_end_tensor_inputs: list[str] | None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("faces", self.faces, FACES_CHOICES)
        check_integer("detect_every", self.detect_every, 1, None)
        check_number("steadiness", self.steadiness, 0, 1)
        check_integer("seed", self.seed, 0, 2**63 - 1)
        if self.preview is not None:
            check_integer("preview", self.preview, 1, None)
