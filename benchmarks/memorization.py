"""Does a prior repeat its training faces? The nearest one of restorations and of samples from pure noise.

    python -m benchmarks.memorization --data FOLDER_OF_UNSEEN_FACES --training FOLDER_OF_TRAINING_FACES --output FOLDER

The unseen faces are degraded blindly over the training range and restored with the defaults saved in the pipeline; as many
samples are drawn from pure noise. Were the prior a mere memory, both would lie nearer to a training face than the unseen
clean faces do. Written to OUTPUT: `memorization.md`, `memorization.json` and `memorization.png`, the samples and
restorations that are nearest to a training face. Needs the extra `metrics`.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from tqdm import tqdm

from difface_diffusers import DifFacePipeline
from difface_diffusers.evaluation import image_grid
from difface_diffusers.evaluation.face_metrics import embed
from difface_diffusers.imaging.tensors import resize

from .faces import add_face_options, check_face_options, degrade_faces, load_chosen_faces, load_faces, restore
from .models import load_pipeline
from .reports import Report


SAMPLING_STEPS = 50  # from pure noise
COMPARED_SIZE = 64  # pixels; the finest detail says nothing about who it is
FACES_ON_SHEET = 6


@dataclass(frozen=True)
class MemorizationReport(Report):
    """Figures of one run, as they are written to `memorization.json`.

    Attributes:
        model: Folder or id of the pipeline.
        faces: Number of unseen faces, and of samples.
        training_faces: Number of training faces; their mirror images are compared with, too.
        seed: Of degradations and samples.
        rows: For "clean", "restored" and "samples" the mean and the smallest distance to the nearest training face: in
            the identity network's embedding, and as the root mean square of the pixels' difference.
    """

    model: str
    faces: int
    training_faces: int
    seed: int
    rows: dict[str, dict[str, float]]

    def markdown(self) -> str:
        """Return the table and the line that says what it was measured on."""
        lines = [
            "| nearest training face | identity, mean | smallest | pixels, mean | smallest |",
            "| --- | ---: | ---: | ---: | ---: |",
        ]
        for name, row in self.rows.items():
            lines.append(f"| {name} | " + " | ".join(f"{value:.3f}" for value in row.values()) + " |")
        note = f"{self.faces} unseen faces, their restorations, and as many samples from pure noise, against "
        note += (
            f"{self.training_faces} training faces and their mirror images. Identity: distance in dlib's embedding. "
        )
        note += f"Pixels: root mean square at {COMPARED_SIZE} x {COMPARED_SIZE}, values from 0 to 1."
        return "\n".join([*lines, "", note, ""])


def draw_samples(pipe: DifFacePipeline, count: int, seed: int, batch_size: int) -> torch.Tensor:
    """Walk from pure noise, without fresh noise: `[count,3,S,S]` in [0, 1]; the i-th depends on `seed` and i alone."""
    size = pipe.model_size
    noise = torch.stack(
        [torch.randn(3, *size, generator=torch.Generator().manual_seed(seed + i)) for i in range(count)]
    )
    samples = []
    start = pipe.scheduler.config.num_train_timesteps
    for latents in tqdm(noise.split(batch_size), desc="sampling", leave=False):
        not_looked_at = torch.zeros_like(latents)
        output = pipe(not_looked_at, SAMPLING_STEPS, start, eta=0.0, latents=latents, output_type="pt")
        samples.append(cast(Any, output).images.cpu())
    return torch.cat(samples)


class TrainingFaces:
    """The training faces, ready to be compared with.

    Args:
        faces: `[B,3,S,S]` in [0, 1].
    """

    def __init__(self, faces: torch.Tensor) -> None:
        self.faces = torch.cat([faces, faces.flip(-1)])
        self.pixels = as_vectors(self.faces)
        parts = self.faces.split(64)
        self.identities = torch.cat([embed(part) for part in tqdm(parts, desc="embedding", leave=False)])

    def nearest(self, faces: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the identity distance and the pixel distance to the nearest ones, `[B]`, and the former's index."""
        identity, index = torch.cdist(embed(faces), self.identities).min(dim=1)
        vectors = as_vectors(faces)
        pixels = torch.cdist(vectors, self.pixels).min(dim=1).values / vectors.shape[1] ** 0.5
        return identity, pixels, index


def as_vectors(faces: torch.Tensor) -> torch.Tensor:
    """Return the pixels of `[B,3,S,S]` at the size that is compared, `[B,D]`."""
    return resize(faces, (COMPARED_SIZE, COMPARED_SIZE)).flatten(1)


def report(
    pipe: DifFacePipeline, model: str, clean: torch.Tensor, training: torch.Tensor, seed: int, batch_size: int
) -> tuple[MemorizationReport, dict[str, torch.Tensor]]:
    """Restore, sample and look for neighbors.

    Returns:
        The figures, and the restorations and samples nearest to a training face `[B,3,S,S]`, each with that one.
    """
    references = TrainingFaces(training)
    restored, _ = restore(pipe, degrade_faces(clean, seed), batch_size)
    sets = {"clean": clean, "restored": restored, "samples": draw_samples(pipe, len(clean), seed, batch_size)}
    rows, pictures = {}, {}
    for name, faces in sets.items():
        identity, pixels, index = references.nearest(faces)
        rows[name] = {
            "identity_mean": identity.mean().item(),
            "identity_smallest": identity.min().item(),
            "pixels_mean": pixels.mean().item(),
            "pixels_smallest": pixels.min().item(),
        }
        if name != "clean":
            picked = identity.argsort()[:FACES_ON_SHEET]
            pictures |= {name: faces[picked], f"nearest to {name}": references.faces[index[picked]]}
    return MemorizationReport(model, len(clean), len(training), seed, rows), pictures


def write_report(figures: MemorizationReport, pictures: dict[str, torch.Tensor], folder: Path) -> None:
    """Write `memorization.md`, `memorization.json` and `memorization.png`."""
    figures.write(folder, "memorization")
    image_grid(pictures).save(folder / "memorization.png")


def main(argv: Sequence[str] | None = None) -> int:
    """Look for the training faces nearest to what a pipeline draws."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.memorization",
        description="How near the restorations and samples of a DifFace pipeline come to its prior's training faces.",
    )
    add_face_options(parser)
    parser.add_argument(
        "--training", type=Path, required=True, help="folder of the faces that the prior was trained on"
    )
    args = parser.parse_args(argv)
    check_face_options(parser, args)

    pipe = load_pipeline(args.model, DifFacePipeline)
    clean = load_chosen_faces(args, pipe.model_size[0])
    training = load_faces(args.training, pipe.model_size[0])
    figures, pictures = report(pipe, str(args.model), clean, training, args.seed, args.batch_size)
    write_report(figures, pictures, args.output)
    print(figures.markdown())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
