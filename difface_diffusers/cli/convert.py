"""`difface convert`: networks from the files of their authors to folders of diffusers, and folders that carry their code."""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..utils.atomic import whole_folder
from ..utils.records import take
from .errors import UsageError, refuse
from .parser import Commands


if TYPE_CHECKING:
    from ..hub.originals.official import Checkpoint

TASKS = ("restoration", "inpainting")
VARIANTS = ("fp16",)
UPSCALER, REMOTE_CODE = "upscaler", "remote-code"
DESCRIPTION = """\
Convert checkpoints of the original DifFace, or networks for backgrounds, to folders of diffusers. Pickles are read for their
tensors alone; no code that they carry is run. What is saved is loaded again and compared before the folder appears.
"""


def add_parser(subparsers: Commands) -> None:
    """Declare the arguments of `difface convert`."""
    parser = subparsers.add_parser(
        "convert",
        help="convert checkpoints of the original",
        description=DESCRIPTION,
        examples=[
            "difface convert restoration --download --output difface --variant fp16",
            "difface convert upscaler RealESRGAN_x4plus.pth -o upscaler",
            "difface convert remote-code difface",
        ],
    )
    kinds = parser.add_subparsers(required=True, metavar="KIND", dest="kind")
    for task in TASKS:
        _add_pipeline_parser(kinds.add_parser(task, help=f"a prior and an estimator for {task}"))

    upscaler = kinds.add_parser(UPSCALER, help="RRDBNet or SRVGGNetCompact, as Real-ESRGAN releases them")
    upscaler.add_argument("file", type=Path, metavar="FILE", help=".pth or .safetensors")
    upscaler.add_argument("-o", "--output", required=True, type=Path, metavar="FOLDER", help="folder to write")

    remote_code = kinds.add_parser(REMOTE_CODE, help="a copy of a pipeline that loads without this package")
    remote_code.add_argument("folder", type=Path, metavar="FOLDER", help="of a pipeline; it stays as it is")
    remote_code.add_argument(
        "-o", "--output", type=Path, metavar="FOLDER", help="new folder; FOLDER-remote-code unless given"
    )
    remote_code.add_argument(
        "--repo-id",
        metavar="ORG/NAME",
        help="where the new folder will be on the Hub; its modular blocks need to know",
    )
    parser.set_defaults(run=run)


def _add_pipeline_parser(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--prior", type=Path, metavar="PTH", help="checkpoint of the diffusion model")
    parser.add_argument("--estimator", type=Path, metavar="PTH", help="checkpoint of the estimator")
    parser.add_argument(
        "--prior-config",
        type=Path,
        metavar="YAML",
        help="arguments of the original's network, of a prior of your own; those of the release unless given",
    )
    parser.add_argument("--estimator-config", type=Path, metavar="YAML", help="the same of the estimator")
    parser.add_argument(
        "--download",
        nargs="?",
        const=Path("checkpoints"),
        type=Path,
        metavar="FOLDER",
        help='fetch those of the two that are not given from the original\'s release ("checkpoints" unless given)',
    )
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="FOLDER", help="folder to write")
    parser.add_argument("--variant", choices=VARIANTS, help="store the weights in half precision too")
    parser.add_argument("--push-to-hub", metavar="ORG/NAME", help="upload the folder to this repository")
    parser.add_argument("--private", action="store_true", help="make that repository a private one")


@dataclass(frozen=True)
class PipelineOptions:
    """What `difface convert restoration` and `inpainting` are asked.

    Attributes:
        kind: the task.
        prior: checkpoint of the diffusion model; `None` fetches the official one.
        estimator: checkpoint of the estimator; the same.
        prior_config: of the original's network, YAML; `None` is that of the official one.
        estimator_config: the same.
        download: folder to fetch to.
        output: folder to write.
        variant: see `convert_pipeline`.
        push_to_hub: repository to upload to.
        private: make it a private one.

    Raises:
        UsageError: a file is missing, or two options do not fit.
    """

    kind: str
    prior: Path | None
    estimator: Path | None
    prior_config: Path | None
    estimator_config: Path | None
    download: Path | None
    output: Path
    variant: str | None
    push_to_hub: str | None
    private: bool

    def __post_init__(self) -> None:
        if self.private and not self.push_to_hub:
            raise UsageError("--private goes with --push-to-hub")
        if self.download is None and not (self.prior and self.estimator):
            raise UsageError("give --prior and --estimator, or --download")
        for name in ("prior", "estimator"):
            if getattr(self, f"{name}_config") and not getattr(self, name):
                raise UsageError(f"--{name}-config goes with --{name}")


@dataclass(frozen=True)
class UpscalerOptions:
    """What `difface convert upscaler` is asked.

    Attributes:
        file: of Real-ESRGAN, `.pth` or `.safetensors`.
        output: folder to write.
    """

    file: Path
    output: Path


@dataclass(frozen=True)
class RemoteCodeOptions:
    """What `difface convert remote-code` is asked.

    Attributes:
        folder: of a pipeline.
        output: folder to write; `None` is one beside it.
        repo_id: where it will be on the Hub.
    """

    folder: Path
    output: Path | None
    repo_id: str | None


def run(args: argparse.Namespace) -> int:
    """Convert; return 0, 1 when that failed, or 2 when the options do not fit."""
    try:
        if args.kind in TASKS:
            _convert_pipeline(take(PipelineOptions, vars(args)))
        elif args.kind == UPSCALER:
            _convert_upscaler(take(UpscalerOptions, vars(args)))
        else:
            _write_remote_code(take(RemoteCodeOptions, vars(args)))
    except UsageError as error:
        return refuse(f"convert {args.kind}", error)
    except (OSError, ValueError, RuntimeError) as error:
        return refuse(f"convert {args.kind}", error, status=1)
    return 0


def _convert_pipeline(options: PipelineOptions) -> None:
    from ..hub.convert import convert_pipeline
    from ..hub.download import download
    from ..hub.originals.official import RELEASE_URL, TASKS
    from ..hub.push import push_folder

    official = TASKS[options.kind]
    task = replace(
        official,
        prior=_of_config(official.prior, options.prior_config),
        estimator=_of_config(official.estimator, options.estimator_config),
    )
    downloads = options.download or Path()
    prior, estimator = (
        given or download(f"{RELEASE_URL}/{checkpoint.file}", downloads, checkpoint.sha256)
        for given, checkpoint in ((options.prior, task.prior), (options.estimator, task.estimator))
    )
    print(f"converting {prior} and {estimator}")
    folder = convert_pipeline(task, prior, estimator, options.output, options.variant, options.push_to_hub)
    print(f"saved and checked: {folder}")
    if options.push_to_hub:
        print(f"pushed: {push_folder(folder, options.push_to_hub, private=options.private)}")


def _of_config(checkpoint: "Checkpoint", config: Path | None) -> "Checkpoint":
    """Return a checkpoint of the architecture that a YAML file describes in the original's argument names."""
    if config is None:
        return checkpoint
    import yaml  # a dependency of huggingface_hub

    try:
        settings = yaml.safe_load(config.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{config} is no YAML: {error}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{config} must hold names and values, those of the original's network.")
    return replace(checkpoint, config=settings)


def _convert_upscaler(options: UpscalerOptions) -> None:
    from ..hub.originals.upscalers import load_upscaler_file

    with whole_folder(options.output) as folder:
        network = load_upscaler_file(options.file)
        network.save_pretrained(folder)
    parameters = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    print(
        f"{type(network).__name__}, x{network.config['scale']}, {parameters:.1f} million parameters -> {options.output}"
    )


def _write_remote_code(options: RemoteCodeOptions) -> None:
    from ..hub.export_remote_code import SUFFIX, export_remote_code

    folder = options.folder.resolve()
    output = options.output or folder.with_name(folder.name + SUFFIX)
    export_remote_code(options.folder, output, options.repo_id)
    print(f'saved; load it by: DiffusionPipeline.from_pretrained("{output}", trust_remote_code=True)')
