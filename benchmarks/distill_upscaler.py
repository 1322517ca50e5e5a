"""Distill the upscaler that comes with the package from a large network's answers.

    python -m benchmarks.distill_upscaler --data FOLDER_OF_PHOTOGRAPHS [...] --teacher RealESRGAN_x4plus --output FOLDER

`--teacher` is whatever `RealESRGANUpscaler.from_pretrained` takes. Written to OUTPUT: `pairs/` (see `distill_pairs`),
`state.pt` every few hundred steps, from which the same command goes on, and `model/`, in half precision. With `--start` the
student begins with the weights of another one, of its size.

The student sees a patch with grain and JPEG's blocks. It shall answer with the clean patch, half way to the teacher's answer in
what is fine, so that it invents less, and with most of the grain, enlarged as Lanczos does: a restored photograph shall not
look like plastic.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from benchmarks.distill_pairs import SCALE, SIDE, make_pairs
from difface_diffusers.degradation.blind import jpeg
from difface_diffusers.models.srvgg import SRVGGNetCompact
from difface_diffusers.photos.real_esrgan import RealESRGANUpscaler
from difface_diffusers.training.sources import IMAGE_SUFFIXES
from difface_diffusers.utils.atomic import replaced_folder, whole_file
from difface_diffusers.utils.listing import list_files


BORDER = 8  # not judged, pixels of a patch: there the two see less of the picture than they need
WARM_UP = 50  # steps
DETAIL = 1.0  # weight of the differences between neighbors
AVERAGED = 0.25  # share of the steps that the moving average of the weights reaches back over
FINE = 4  # deviation of the blur that what is learned from the teacher does not survive, pixels of an answer
GRAINY, STRONGEST_GRAIN, KEPT_GRAIN = 0.6, 8 / 255, 0.75
COMPRESSED, QUALITY = 0.7, (60, 95)
GRAY = 0.15


@dataclass(frozen=True)
class Training:
    """How the student is trained.

    Attributes:
        steps: of the optimizer.
        batch_size: patches in a step.
        learning_rate: highest; it falls to nothing along a cosine.
        teacher_share: how far what is to be answered goes from the clean patch to the teacher's answer, in fine detail.
        seed: of everything random.
        save_every: steps.
    """

    steps: int = 2000
    batch_size: int = 8
    learning_rate: float = 1.5e-3
    teacher_share: float = 0.5
    seed: int = 0
    save_every: int = 250


class Pairs:
    """All pairs of a folder, in memory."""

    def __init__(self, folder: Path) -> None:
        shards = [np.load(path) for path in sorted(folder.glob("*.npz"))]
        self.small, self.clean, self.teacher = (
            np.concatenate([shard[name] for shard in shards]) for name in ("small", "clean", "teacher")
        )

    def batch(self, size: int, teacher_share: float, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw damaged patches `[size,3,h,w]` and what is to be answered `[size,3,SCALE*h,SCALE*w]`, float32."""
        drawn = [self._example(index, teacher_share, rng) for index in rng.integers(len(self.small), size=size)]
        images, answers = (torch.from_numpy(np.stack(part)).permute(0, 3, 1, 2) for part in zip(*drawn, strict=True))
        return images, answers

    def _example(self, index: int, share: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        turns, mirrored, gray = int(rng.integers(4)), rng.random() < 0.5, rng.random() < GRAY
        colors = rng.permutation(3)
        small, clean, teacher = (
            view(pictures[index], turns, mirrored, colors, gray) for pictures in (self.small, self.clean, self.teacher)
        )
        answer = clean + share * details(teacher - clean)
        if rng.random() < GRAINY:
            noise = grain(rng, *small.shape[:2], gray)
            small = small + noise
            answer = answer + KEPT_GRAIN * cv2.resize(noise, answer.shape[1::-1], interpolation=cv2.INTER_LANCZOS4)
        if rng.random() < COMPRESSED:
            small = jpeg(small, int(rng.integers(*QUALITY)))
        return (np.rint(small.clip(0, 1) * 255) / 255).astype(np.float32), answer.clip(0, 1).astype(np.float32)


def view(picture: np.ndarray, turns: int, mirrored: bool, colors: np.ndarray, gray: bool) -> np.ndarray:
    """Return `[h,w,3]` uint8 as float32 in [0,1], turned, mirrored, its colors in another order, or gray."""
    picture = np.rot90(picture, turns)[:, :: -1 if mirrored else 1][..., colors].astype(np.float32) / 255
    return np.repeat(picture.mean(-1, keepdims=True), 3, -1) if gray else np.ascontiguousarray(picture)


def details(change: np.ndarray) -> np.ndarray:
    """Return what is finer than `FINE` in `[h,w,3]` float32: the teacher's tints and contrasts are not learned."""
    return change - cv2.GaussianBlur(change, (0, 0), FINE)


def grain(rng: np.random.Generator, height: int, width: int, gray: bool) -> np.ndarray:
    """Draw grain `[height,width,3]`, float32: white or coarser, weak rather than strong."""
    noise = rng.standard_normal((height, width, 3), dtype=np.float32)
    if gray or rng.random() < 0.5:
        noise = np.repeat(noise[..., :1], 3, axis=-1)
    if rng.random() < 0.5:
        noise = cv2.GaussianBlur(noise, (0, 0), rng.uniform(0.4, 1))
        noise = noise / noise.std()
    return np.float32(STRONGEST_GRAIN * rng.random() ** 2) * noise


def loss(answer: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Mean absolute error of `[B,3,H,W]` in the values and in the differences between neighbors, without the border."""
    border = SCALE * BORDER
    error = (answer - wanted)[..., border:-border, border:-border]
    across, down = error.diff(dim=-1).abs().mean(), error.diff(dim=-2).abs().mean()
    return error.abs().mean() + DETAIL * (across + down)


def train(student: SRVGGNetCompact, pairs: Pairs, training: Training, state_file: Path) -> SRVGGNetCompact:
    """Train a student, from `state_file` on if it is there; return its moving average."""
    student = student.to(memory_format=torch.channels_last).train()
    decay = max(0, 1 - 1 / (AVERAGED * training.steps))
    average = AveragedModel(student, multi_avg_fn=get_ema_multi_avg_fn(decay))
    optimizer = torch.optim.Adam(student.parameters(), training.learning_rate, betas=(0.9, 0.99))
    first = 0
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        first = state["step"]
        for part, saved in ((student, "student"), (average, "average"), (optimizer, "optimizer")):
            part.load_state_dict(state[saved])
    progress = tqdm(range(first, training.steps), initial=first, total=training.steps, unit="step", mininterval=10)
    total = 0.0
    for step in progress:
        for group in optimizer.param_groups:
            group["lr"] = training.learning_rate * learning_rate_share(step, training.steps)
        images, wanted = pairs.batch(
            training.batch_size, training.teacher_share, np.random.default_rng((training.seed, step))
        )
        with torch.autocast("cpu", torch.bfloat16):
            answer = student(images.contiguous(memory_format=torch.channels_last))
        value = loss(answer.float(), wanted)
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        average.update_parameters(student)
        total = value.item() if step == first else 0.98 * total + 0.02 * value.item()
        progress.set_postfix(loss=f"{total:.5f}", refresh=False)
        if (step + 1) % training.save_every == 0 or step + 1 == training.steps:
            parts = {"student": student, "average": average, "optimizer": optimizer}
            with whole_file(state_file) as file:
                torch.save({"step": step + 1, **{name: part.state_dict() for name, part in parts.items()}}, file)
    return cast(SRVGGNetCompact, average.module).eval()


def learning_rate_share(step: int, steps: int) -> float:
    """Return the learning rate of a step as a share of the highest."""
    return min(1, (step + 1) / WARM_UP) * (1 + math.cos(math.pi * step / steps)) / 2


def main(arguments: Sequence[str] | None = None) -> None:
    """Make pairs, train, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders of clean photographs")
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=768)
    parser.add_argument("--side", type=int, default=SIDE, help="of a patch that is enlarged, pixels")
    parser.add_argument("--num-channels", type=int, default=64)
    parser.add_argument("--num-convs", type=int, default=6)
    parser.add_argument("--start", type=Path, help="folder of a student to go on with")
    parser.add_argument("--teacher-share", type=float, default=Training.teacher_share)
    parser.add_argument("--steps", type=int, default=Training.steps)
    parser.add_argument("--seed", type=int, default=Training.seed)
    args = parser.parse_args(arguments)
    files = [file for folder in args.data for file in list_files(folder, IMAGE_SUFFIXES, recursive=True)]
    if not files:
        parser.error(f"--data {' '.join(map(str, args.data))} holds no image")
    teacher = RealESRGANUpscaler.from_pretrained(args.teacher).model
    make_pairs(files, teacher, args.output / "pairs", args.pairs, args.seed, args.side)
    torch.manual_seed(args.seed)
    student = SRVGGNetCompact(SCALE, args.num_channels, args.num_convs)
    if args.start:  # into a new network: a loaded one remembers in its config where it was
        student.load_state_dict(SRVGGNetCompact.from_pretrained(args.start).state_dict())
    training = Training(steps=args.steps, teacher_share=args.teacher_share, seed=args.seed)
    student = train(student, Pairs(args.output / "pairs"), training, args.output / "state.pt")
    with replaced_folder(args.output / "model") as folder:
        student.half().save_pretrained(folder)


if __name__ == "__main__":
    main()
