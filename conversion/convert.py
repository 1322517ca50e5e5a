"""Original checkpoints to a pipeline folder, and to the Hub.

python -m conversion.convert restoration --download --output difface --variant fp16
python -m conversion.convert restoration --prior PTH --estimator PTH --output difface --push-to-hub ORG/NAME
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers.models.modeling_utils import ModelMixin
from diffusers.pipelines.pipeline_utils import DiffusionPipeline

from difface_diffusers import DifFaceInpaintPipeline
from difface_diffusers.utils.folders import check_new, whole_folder

from .checkpoints import load_checkpoint
from .download import download
from .hub import push_folder
from .model_card import model_card, source_of
from .official import RELEASE_URL, TASKS, Checkpoint, Task, ddim_scheduler


VARIANTS = {"fp16": torch.float16}
CHECK_SIZE = 64  # pixels; enough for every level of the official networks, and quick


def convert_component(checkpoint: Checkpoint, path: str | Path) -> ModelMixin:
    """Read and convert one file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no plain checkpoint, or of another architecture; the message names the file and the keys.
    """
    state_dict = load_checkpoint(path)
    try:
        return checkpoint.convert(state_dict, checkpoint.config)
    except ValueError as error:
        raise ValueError(f"{path} is no checkpoint of the kind of {checkpoint.file}: {error}") from error


def convert_pipeline(
    task: Task,
    prior: str | Path,
    estimator: str | Path,
    output: str | Path,
    variant: str | None = None,
    repo_id: str | None = None,
) -> Path:
    """Convert a pair of original checkpoints to the folder of a pipeline, with its model card.

    The folder appears only when it is whole and has been checked: loaded again, its components have the same keys,
    shapes and weights as before, and run.

    Args:
        task: what the checkpoints are for.
        prior: file of the diffusion model.
        estimator: file of the estimator.
        output: the new folder.
        variant: "fp16" stores the weights in half precision too, beside those in float32.
        repo_id: where the folder will be pushed to, for the model card; the name of `output` unless given.

    Returns:
        `output`.

    Raises:
        OSError: a file cannot be read, or the folder cannot be written.
        ValueError: see `convert_component`; or `output` exists and is not an empty folder.
        RuntimeError: the saved pipeline differs from the converted one.
    """
    output = Path(output)
    check_new(output)  # before the work is done
    components: dict[str, Any] = {
        "unet": convert_component(task.prior, prior),
        "estimator": convert_component(task.estimator, estimator),
    }
    pipe = task.pipeline_class(**components, scheduler=ddim_scheduler(), **task.defaults)
    with whole_folder(output) as folder:
        save_and_check(pipe, folder)
        if variant is not None:
            save_and_check(task.pipeline_class.from_pretrained(folder, dtype=VARIANTS[variant]), folder, variant)
        card = model_card(task, [source_of(prior), source_of(estimator)], variant, repo_id or output.name)
        (folder / "README.md").write_text(card)
    return output


@torch.no_grad()
def save_and_check(pipe: DiffusionPipeline, folder: Path, variant: str | None = None) -> None:
    """Save a pipeline, and raise a `RuntimeError` unless it can be loaded with the same weights, and runs."""
    pipe.save_pretrained(folder, variant=variant)
    saved = type(pipe).from_pretrained(folder, variant=variant, dtype=pipe.dtype)
    image, mask = torch.rand(1, 4, CHECK_SIZE, CHECK_SIZE, generator=torch.Generator().manual_seed(0)).split([3, 1], 1)
    inpaints = isinstance(pipe, DifFaceInpaintPipeline)
    answers = {
        "estimator": saved.estimate(image, mask.round()) if inpaints else saved.estimate(image),
        "unet": saved.unet(image.to(pipe.dtype), pipe.config.default_start_timestep).sample,
    }
    for name, answer in answers.items():
        if not answer.isfinite().all():
            raise RuntimeError(f"`{name}` answers NaN or infinite values; its checkpoint is damaged.")
        before, after = getattr(pipe, name).state_dict(), getattr(saved, name).state_dict()
        if before.keys() != after.keys() or not all(torch.equal(before[key], after[key]) for key in before):
            raise RuntimeError(f"`{name}` has other keys, shapes or weights in {folder} than before it was saved.")


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
