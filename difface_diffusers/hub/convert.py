"""Original checkpoints to a pipeline folder."""

from pathlib import Path
from typing import Any

import torch
from diffusers.models.modeling_utils import ModelMixin
from diffusers.pipelines.pipeline_utils import DiffusionPipeline

from ..pipelines.pipeline_difface_inpaint import DifFaceInpaintPipeline
from ..utils.atomic import check_new, whole_folder
from .model_card import model_card, source_of
from .originals.checkpoints import load_checkpoint
from .originals.official import Checkpoint, Task, ddim_scheduler


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
    pipe = task.pipeline_class(**components, scheduler=ddim_scheduler(), **task.defaults, presets=task.presets)
    with whole_folder(output) as folder:
        save_and_check(pipe, folder)
        if variant is not None:
            save_and_check(task.pipeline_class.from_pretrained(folder, dtype=VARIANTS[variant]), folder, variant)
        card = model_card(task, [source_of(prior), source_of(estimator)], variant, repo_id or output.name)
        (folder / "README.md").write_text(card, encoding="utf-8")
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
