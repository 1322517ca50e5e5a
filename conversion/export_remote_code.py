"""A pipeline folder to one that loads without this package: the door to `difface convert remote-code`.

python -m conversion.export_remote_code FOLDER --output NEW_FOLDER

Whoever has diffusers and torch loads the new folder, or a Hub repository of its content, by

    DiffusionPipeline.from_pretrained(NEW_FOLDER, trust_remote_code=True)

and the blocks of restoration by `ModularPipeline` in the same way.
"""

import sys
from collections.abc import Sequence

from difface_diffusers import cli
from difface_diffusers.cli.convert import REMOTE_CODE


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status."""
    return cli.main(["convert", REMOTE_CODE, *(sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    sys.exit(main())
