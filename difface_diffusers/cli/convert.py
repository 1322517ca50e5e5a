"""`difface convert`: networks from the files of their authors to folders of diffusers."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from ..utils.atomic import whole_folder
from ..utils.records import take
from .errors import UsageError, refuse


@dataclass(frozen=True)
class ConvertOptions:
    """What `difface convert upscaler` is asked.

    Attributes:
        file: of Real-ESRGAN, `.pth` or `.safetensors`.
        output: folder to write.

    Raises:
        UsageError: `output` is there already.
    """

    file: Path
    output: Path

    def __post_init__(self) -> None:
        if self.output.exists():
            raise UsageError(f"--output {self.output} is there already")


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the arguments of `difface convert`."""
    parser = subparsers.add_parser(
        "convert",
        help="convert the original file of a network",
        description="Convert a network for backgrounds from the file of its authors to a folder of diffusers. Pickles are"
        " read for their tensors alone; no code that they carry is run.",
    )
    parser.add_argument("kind", choices=["upscaler"], help="RRDBNet or SRVGGNetCompact, as Real-ESRGAN releases them")
    parser.add_argument("file", type=Path, metavar="FILE", help=".pth or .safetensors")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="FOLDER", help="folder to write")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Convert; return 0, or 2 when it cannot be done."""
    from ..hub.originals.upscalers import load_upscaler_file

    try:
        options = take(ConvertOptions, vars(args))
        network = load_upscaler_file(options.file)
        with whole_folder(options.output) as folder:
            network.save_pretrained(folder)
    except (UsageError, OSError, ValueError) as error:
        return refuse("convert", error)
    parameters = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    print(
        f"{type(network).__name__}, x{network.config['scale']}, {parameters:.1f} million parameters -> {options.output}"
    )
    return 0
