"""Original checkpoints to a pipeline folder, and to the Hub: the door to `difface_diffusers.hub`.

python -m conversion.convert restoration --download --output difface --variant fp16
python -m conversion.convert restoration --prior PTH --estimator PTH --output difface --push-to-hub ORG/NAME
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from difface_diffusers.hub.convert import VARIANTS, convert_pipeline
from difface_diffusers.hub.download import download
from difface_diffusers.hub.originals.official import RELEASE_URL, TASKS
from difface_diffusers.hub.push import push_folder


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m conversion.convert",
        description="Convert original DifFace checkpoints to a pipeline of diffusers.",
    )
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--prior", type=Path, metavar="PTH", help="checkpoint of the diffusion model")
    parser.add_argument("--estimator", type=Path, metavar="PTH", help="checkpoint of the estimator")
    parser.add_argument(
        "--download",
        nargs="?",
        const=Path("checkpoints"),
        type=Path,
        metavar="FOLDER",
        help='fetch those of the two that are not given from the original\'s release ("checkpoints" unless given)',
    )
    parser.add_argument("--output", required=True, type=Path, metavar="FOLDER", help="new folder of the pipeline")
    parser.add_argument("--variant", choices=VARIANTS, help="store the weights in half precision too")
    parser.add_argument("--push-to-hub", metavar="ORG/NAME", help="upload the folder to this repository")
    parser.add_argument("--private", action="store_true", help="make that repository a private one")
    args = parser.parse_args(argv)
    if args.private and not args.push_to_hub:
        parser.error("--private goes with --push-to-hub")
    if args.download is None and not (args.prior and args.estimator):
        parser.error("give --prior and --estimator, or --download")

    task = TASKS[args.task]
    try:
        prior = args.prior or download(f"{RELEASE_URL}/{task.prior.file}", args.download)
        estimator = args.estimator or download(f"{RELEASE_URL}/{task.estimator.file}", args.download)
        print(f"converting {prior} and {estimator}")
        folder = convert_pipeline(task, prior, estimator, args.output, args.variant, args.push_to_hub)
        print(f"saved and checked: {folder}")
        if args.push_to_hub:
            print(f"pushed: {push_folder(folder, args.push_to_hub, private=args.private)}")
    except (OSError, ValueError, RuntimeError) as error:
        print(f"conversion: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
