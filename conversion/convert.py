"""Original checkpoints to a pipeline folder, and to the Hub: the door to `difface convert`.

python -m conversion.convert restoration --download --output difface --variant fp16
python -m conversion.convert restoration --prior PTH --estimator PTH --output difface --push-to-hub ORG/NAME
"""

import sys
from collections.abc import Sequence

from difface_diffusers import cli


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status."""
    return cli.main(["convert", *(sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    sys.exit(main())
