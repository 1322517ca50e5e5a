"""What several commands are asked: which files, which model, how to sample. Beyond a command's door it is one of these."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..utils.choices import FORMATS, SCHEDULERS
from .errors import UsageError


MASK_HELP = "an image, white where it is to be filled, or a folder with one of each input's name"


@dataclass(frozen=True)
class FileOptions:
    """Which files are read and written.

    Attributes:
        input: files, folders and glob patterns.
        output: folder, or file for one input.
        recursive: search folders to any depth.
        format: suffix of the results without its dot; `None` is that of the input.
        skip_existing: leave inputs whose results are there already.
        report: file to write what became of every input to.
        pages: "first" or "all" of the pictures that a file holds.
    """

    input: list[str]
    output: Path
    recursive: bool
    format: str | None
    skip_existing: bool
    report: Path | None
    pages: str

    @staticmethod
    def add_to(parser: argparse.ArgumentParser) -> None:
        """Declare the arguments."""
        parser.add_argument("input", nargs="+", metavar="INPUT", help="image file, folder or glob pattern; - is stdin")
        parser.add_argument(
            "-o",
            "--output",
            required=True,
            type=Path,
            metavar="OUT",
            help="folder, or file for one input; - is stdout",
        )
        parser.add_argument(
            "-r", "--recursive", action="store_true", help="search folders to any depth, mirror their tree"
        )
        formats = [suffix[1:] for suffix in FORMATS]
        parser.add_argument("--format", choices=formats, help="of the results; that of the input unless given")
        parser.add_argument(
            "--skip-existing", action="store_true", help="leave inputs whose results are there already"
        )
        parser.add_argument("--report", type=Path, metavar="JSON", help="write what became of every input")
        parser.add_argument(
            "--pages",
            choices=["first", "all"],
            default="first",
            help="which pictures of an animation or a file of several; all are numbered, NAME_page1 and on",
        )


@dataclass(frozen=True)
class ModelOptions:
    """Which model runs, and where.

    Attributes:
        model: Hub id or folder of a pipeline; `None` is the bundled one.
        device: `None` is the best there is.
        dtype: name of a dtype of torch.
    """

    model: str | None
    device: str | None
    dtype: str


@dataclass(frozen=True)
class SamplingOptions:
    """How the faces are drawn; `None` is the model's own default.

    Attributes:
        preset: name of settings that are saved with the model.
        num_inference_steps: see `DifFacePipeline.__call__`, as are the next four.
        start_timestep: see there.
        eta: see there.
        s_noise: see there.
        scheduler: see there.
        num_samples: results per input.
        seed: of the noise; every file starts from it.
        batch_size: faces per batch.

    Raises:
        UsageError: one is out of range, as far as that can be told without a model.
    """

    preset: str | None
    num_inference_steps: int | None
    start_timestep: int | str | None
    eta: float | None
    s_noise: float | None
    scheduler: str | None
    num_samples: int
    seed: int
    batch_size: int

    def __post_init__(self) -> None:
        for option, value in {"--samples": self.num_samples, "--batch-size": self.batch_size}.items():
            if value < 1:
                raise UsageError(f"{option} is {value}; it must be at least 1")
        if not 0 <= self.seed < 2**63:
            raise UsageError(f"--seed is {self.seed}; it must be within 0 .. 2**63 - 1")

    def of_a_call(self) -> dict[str, Any]:
        """Return those that the pipelines' calls take by the same names."""
        names = ("preset", "num_inference_steps", "start_timestep", "eta", "s_noise", "scheduler")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class RestoreOptions:
    """What `difface restore` is asked.

    Attributes:
        files: what is read and written.
        model: which model, and where.
        sampling: how the faces are drawn.
        compare: also write the input beside each result.
        aligned: the inputs are aligned faces, not photographs.
        faces: see `restore_photo`, as are the next seven.
        min_face_size: see there.
        upscale: see there.
        keep_gray: see there.
        draw_box: see there.
        blend: see there.
        keep_clean: see there.
        match_grain: see there.
        background: see `load_upscaler`.
        background_blend: see `restore_photo`.
        background_denoise: `denoise_strength` of `load_upscaler`.
        damage_mask: mask, or folder with one of each input's name.
        save_crops: also write every face.
        uncertainty: also write where the samples differ.
        pick: see `restore_photo`.
        runtime: runs a model that `difface export` wrote.

    Raises:
        UsageError: they contradict each other, or one is out of range.
    """

    files: FileOptions
    model: ModelOptions
    sampling: SamplingOptions
    compare: bool
    aligned: bool
    faces: str | list[int]
    min_face_size: float
    upscale: float
    keep_gray: str
    draw_box: bool
    blend: float
    keep_clean: bool
    match_grain: str
    background: str
    background_blend: float | None
    background_denoise: float
    damage_mask: Path | None
    save_crops: bool
    uncertainty: bool
    pick: str | None
    runtime: str | None

    def __post_init__(self) -> None:
        samples = self.sampling.num_samples
        ranges = {
            "--upscale": (self.upscale, 1, 8),
            "--blend": (self.blend, 0, 1),
            "--background-blend": (self.background_blend or 0, 0, 1),
            "--background-denoise": (self.background_denoise, 0, 1),
        }
        for option, (value, lowest, highest) in ranges.items():
            if not lowest <= value <= highest:
                raise UsageError(f"{option} is {value}; it must be within {lowest} .. {highest}")
        if self.aligned and (self.blend != 1 or not self.keep_clean or self.match_grain != "auto"):
            raise UsageError("--blend, --no-keep-clean and --match-grain are for photographs; leave out --aligned")
        if self.aligned and (self.faces != "all" or self.save_crops or self.draw_box or self.damage_mask is not None):
            raise UsageError(
                "--faces, --damage-mask, --save-crops and --draw-box are for photographs; leave out --aligned"
            )
        if (self.uncertainty or self.pick) and samples < 2:
            raise UsageError(f"--uncertainty and --pick compare samples, but --samples is {samples}; take 2 at least")
        if self.runtime is not None:
            if self.model.model is None:
                raise UsageError(f"--runtime {self.runtime} needs --model, a folder that `difface export` wrote")
            if self.model.device not in (None, "cpu"):
                raise UsageError(f"--device is {self.model.device}; --runtime {self.runtime} runs on the CPU")
        if self.damage_mask is not None and not self.damage_mask.exists():
            raise UsageError(f"--damage-mask {self.damage_mask}: no such file or folder")


@dataclass(frozen=True)
class InpaintOptions:
    """What `difface inpaint` is asked.

    Attributes:
        files: what is read and written.
        model: which model, and where.
        sampling: how the faces are drawn.
        mask: what is to be filled, or folder with a mask of each input's name; `None` fills what is exactly black.
        invert_mask: black is to be filled instead.
        aligned: the inputs are aligned faces, not photographs.
        min_face_size: see `fill_damage`, as is the next.
        keep_gray: see there.

    Raises:
        UsageError: they contradict each other.
    """

    files: FileOptions
    model: ModelOptions
    sampling: SamplingOptions
    mask: Path | None
    invert_mask: bool
    aligned: bool
    min_face_size: float
    keep_gray: str

    def __post_init__(self) -> None:
        if self.mask is not None and not self.mask.exists():
            raise UsageError(f"--mask {self.mask}: no such file or folder")
        if self.invert_mask and self.mask is None:
            raise UsageError("--invert-mask turns a mask around; give one by --mask")


def add_change_arguments(group: argparse._ArgumentGroup, match_grain: str) -> None:
    """Declare how far photographs, or the frames of a video, are changed; `match_grain` is its default."""
    group.add_argument(
        "--background-blend",
        type=float,
        metavar="B",
        help="share of --background, 0 .. 1; the rest is enlarged by Lanczos; .7 of the bundled one, all of others",
    )
    group.add_argument(
        "--keep-gray", choices=["auto", "on", "off"], default="auto", help="whether what is gray or sepia stays so"
    )
    group.add_argument(
        "--blend", type=float, default=1.0, metavar="B", help="how much of the change to a face is put back, 0 .. 1"
    )
    group.add_argument(
        "--keep-clean",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="leave clean faces as they are and change the others only as far as they are damaged",
    )
    group.add_argument(
        "--match-grain",
        choices=["auto", "off"],
        default=match_grain,
        help="give restored faces the grain that is around them",
    )


def add_model_arguments(parser: argparse.ArgumentParser, for_video: bool = False) -> None:
    """Declare the arguments of `ModelOptions` and `SamplingOptions`; a video has one result, and its --start is a time."""
    model = parser.add_argument_group("model and sampling")
    model.add_argument(
        "--model", help='Hub id or folder of a pipeline, "bundled" or "official"; the bundled one unless given'
    )
    model.add_argument(
        "--preset", metavar="P", help="settings of the next five that are saved with the model, by name"
    )
    model.add_argument("--steps", dest="num_inference_steps", type=int, metavar="K", help="network calls per face")
    model.add_argument(
        "--start-timestep" if for_video else "--start",
        dest="start_timestep",
        type=number_or_auto,
        metavar="N",
        help="start timestep, 1 .. 1000; higher invents more; auto: for each face by its damage, if the model can",
    )
    model.add_argument("--eta", type=float, metavar="E", help="share of fresh noise in each step, 0 .. 1")
    model.add_argument("--s-noise", type=float, metavar="F", help="factor on the first noise; 1.03 draws more detail")
    model.add_argument("--scheduler", choices=SCHEDULERS, help="instead of the preset's or the model's own")
    if not for_video:
        model.add_argument("--samples", dest="num_samples", type=int, default=1, metavar="M", help="results per input")
    parser.set_defaults(num_samples=1)
    model.add_argument("--seed", type=int, default=0, metavar="S", help="of the noise; every file starts from it")
    model.add_argument("--device", metavar="D", help="cpu, cuda, cuda:1, mps; the best there is unless given")
    model.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="float32")
    model.add_argument("--batch-size", type=int, default=8, metavar="B", help="faces per batch")


def number_or_auto(text: str) -> int | str:
    """Return the number that a text holds, or "auto"."""
    return text if text == "auto" else int(text)
