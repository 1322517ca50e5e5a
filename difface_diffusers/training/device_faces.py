"""Faces that are kept on a device as bytes, and changed and degraded there, batch by batch."""

import contextlib
import os
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from PIL import Image

from .augmentation import MIX_GRID
from .batched_augmentation import LEVELS, apply_augmentations, draw_augmentations, mix_batch
from .batched_degradation import apply_degradations, draw_degradations
from .batched_filters import send
from .batched_jpeg import jpeg_tables
from .batched_masks import draw_holes, make_masks
from .data import FaceDataset, resized_face


BATCH_SEED = 3  # beside those that a `FaceDataset` draws an item with
CHUNK = 2**24  # pixels of faces that are deformed at once
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


class DeviceFaces:
    """The batches of a data set, made on a device.

    The same faces come at the same places as from the data set, and what happens to them has the same distribution. It is drawn
    anew: a batch is a function of seed, place and batch size alone, on the same kind of device.

    Faces are resized when they are loaded, to the training size; or to twice that size if they are to be deformed and most of
    them are as large: as in the data set they are deformed before they are shrunk, which keeps them sharp.

    Args:
        dataset: what the faces are, in which order they come and what happens to them.
        device: where they are kept, in 3 bytes a pixel.
    """

    def __init__(self, dataset: FaceDataset, device: torch.device) -> None:
        self.dataset = dataset
        self.faces = torch.from_numpy(load_faces(dataset)).to(device)
        self.tables = jpeg_tables(device)
        self.luma = torch.tensor(LUMA, device=device)[:, None, None]
        self.generator = torch.Generator(device)

    @torch.no_grad()
    def batch(self, place: int, batch_size: int) -> dict[str, torch.Tensor]:
        """Return what there is at the positions from place * batch_size on, as the data set returns it, put together.

        The device is given its work and not waited for.

        Args:
            place: of the batch in the stream.
            batch_size: B, faces.

        Returns:
            `clean` `[B,3,S,S]`, RGB, and as the data set asks for `degraded`, of the same shape, and `mask` `[B,1,S,S]`: float32
            in [0,1], on the device.
        """
        data, device, degradation = self.dataset.config, self.faces.device, self.dataset.degradation
        rng = np.random.default_rng([self.dataset.seed, place, BATCH_SEED])
        self.generator.manual_seed(int(rng.integers(2**63)))
        with exact_products():
            clean = self._clean(range(place * batch_size, (place + 1) * batch_size), rng)
            if self.dataset.holes:
                mask = make_masks(draw_holes(data.image_size, batch_size, rng), data.image_size, device)
                return {"clean": clean, "degraded": clean * (1 - mask), "mask": mask}
            if degradation is None:
                return {"clean": clean}
            drawn = draw_degradations(degradation, data.image_size, batch_size, rng)
            degraded = apply_degradations(clean, drawn, self.generator, self.tables)
            gray = rng.random(batch_size) < degradation.gray_probability
            if not gray.any():
                return {"clean": clean, "degraded": degraded}
            gray = send(gray, device)[:, None, None, None]
            return {
                "clean": torch.where(gray, self._gray(clean), clean),
                "degraded": torch.where(gray, (LEVELS * self._gray(degraded)).round() / LEVELS, degraded),
            }

    def _clean(self, positions: range, rng: np.random.Generator) -> torch.Tensor:
        """Return the augmented faces `[B,3,S,S]` at positions of the stream, float32 in [0,1]."""
        data, epoch_length, count = self.dataset.config, self.dataset.epoch_length, len(positions)
        mixed = np.flatnonzero(rng.random(count) < data.augmentation.mix)
        partners = dict(zip(mixed.tolist(), rng.integers(epoch_length, size=len(mixed)).tolist(), strict=True))
        numbers, others = [], []
        for index, position in enumerate(positions):  # in order: the data set keeps that of one epoch
            numbers.append(self.dataset._face(position))
            if index in partners:
                others.append(self.dataset._face(position - position % epoch_length + partners[index]))
        flipped = (rng.random(count) < 0.5) & data.horizontal_flip
        clean = self._augmented(np.array(numbers + others), np.concatenate([flipped, flipped[mixed]]), rng)
        if not len(mixed):
            return clean
        clean, second = clean[:count], clean[count:]
        members = send(mixed, clean.device)
        knots = send(rng.standard_normal((len(mixed), MIX_GRID, MIX_GRID), dtype=np.float32), clean.device)
        return clean.index_copy(0, members, mix_batch(clean[members], second, knots))

    def _augmented(self, numbers: np.ndarray, flipped: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
        """Return faces by their numbers, some flipped, all changed at random and in the training size."""
        stored, size, device = self.faces.shape[-1], self.dataset.config.image_size, self.faces.device
        changed, at_once = [], max(1, CHUNK // stored**2)
        for start in range(0, len(numbers), at_once):
            faces = self.faces[send(numbers[start : start + at_once], device)]
            flips = send(flipped[start : start + at_once], device)[:, None, None, None]
            drawn = draw_augmentations(self.dataset.config.augmentation, len(faces), rng)
            levels = apply_augmentations(torch.where(flips, faces.flip(-1), faces), drawn)
            if stored != size:
                levels = (torch.nn.functional.avg_pool2d(levels, stored // size) + 0.5).floor()
            changed.append(levels / LEVELS)
        return torch.cat(changed)

    def _gray(self, faces: torch.Tensor) -> torch.Tensor:
        return (faces * self.luma).sum(dim=1, keepdim=True).expand_as(faces)


def load_faces(dataset: FaceDataset) -> np.ndarray:
    """Read all faces of a data set as `DeviceFaces` keeps them, uint8 `[N,3,P,P]`, in several threads."""
    source, size, ranges = dataset.source, dataset.config.image_size, dataset.config.augmentation
    most = 2 * size if ranges.rotation or ranges.zoom or ranges.shift or ranges.warp else size
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        faces = list(pool.map(lambda number: _at_most(source.load(number), most), range(len(source.names))))
        kept = most if 2 * sum(len(face) == most for face in faces) >= len(faces) else size
        stored = np.empty((len(faces), 3, kept, kept), np.uint8)

        def store(number: int) -> None:
            stored[number] = _in_bytes(Image.fromarray(faces[number]), kept).transpose(2, 0, 1)

        list(pool.map(store, range(len(faces))))
    return stored


def _at_most(image: Image.Image, most: int) -> np.ndarray:
    return _in_bytes(image, min(most, *image.size))


def _in_bytes(image: Image.Image, size: int) -> np.ndarray:
    return (resized_face(image, size) * LEVELS).round().astype(np.uint8)


@contextlib.contextmanager
def exact_products() -> Generator[None]:
    """Let matrix products of float32 have the precision of float32, which a training may have lowered for its networks."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
