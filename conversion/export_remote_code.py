"""A pipeline folder to one that loads without this package: the door to `difface_diffusers.hub`.

python -m conversion.export_remote_code FOLDER --output NEW_FOLDER

Whoever has diffusers and torch loads the new folder, or a Hub repository of its content, by

    DiffusionPipeline.from_pretrained(NEW_FOLDER, trust_remote_code=True)
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from difface_diffusers.hub.export_remote_code import SUFFIX, export_remote_code


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m conversion.export_remote_code",
        description="Copy the folder of a pipeline to one that carries its code and loads without difface_diffusers.",
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder of the pipeline; it stays as it is")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help=f"new folder (default: FOLDER{SUFFIX})")
    args = parser.parse_args(argv)
    folder = args.folder.resolve()
    try:
        output = export_remote_code(args.folder, args.output or folder.with_name(folder.name + SUFFIX))
    except (OSError, ValueError) as error:
        print(f"conversion: {error}", file=sys.stderr)
        return 1
    print(f'saved; load it by: DiffusionPipeline.from_pretrained("{output}", trust_remote_code=True)')
    return 0


if __name__ == "__main__":
    sys.exit(main())
