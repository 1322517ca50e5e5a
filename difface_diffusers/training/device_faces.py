"""Faces that are kept on a device as bytes, and changed and degraded there, batch by batch."""

import contextlib
import os
import statistics
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
from PIL import Image
from tqdm.auto import tqdm

from ..degradation.batched_blind import apply_degradations, draw_degradations
from ..degradation.batched_filters import send
from ..degradation.batched_holes import draw_holes, make_masks
from ..degradation.batched_jpeg import jpeg_tables
from ..imaging.pixels import LUMA
from .augmentation import MIX_GRID
from .batched_augmentation import LEVELS, apply_augmentations, draw_augmentations, mix_batch
from .config import AUTO
from .data import FaceDataset, PositionSampler, load_batches, pixel_size, resized_face
from .sources import FaceSource


BATCH_SEED = 3  # beside those that a `FaceDataset` draws an item with
CHUNK = 2**24  # pixels of faces that are deformed at once
MEMORY_SHARE = 1 / 3  # of a GPU's memory that faces may take unasked


class DeviceFaces:
    """The batches of a data set, made on a device.

    The same faces come at the same places as from the data set, and what happens to them has the same distribution. It is drawn
    anew: a batch is a function of seed, place and batch size alone, on the same kind of device.

    Faces are resized when they are loaded, to the training size; or to twice that size if they are to be deformed and most of
    them are as large: as in the data set they are deformed before they are shrunk, which keeps them sharp.

    Args:
        dataset: what the faces are, in which order they come and what happens to them.
        size: that they are kept at, of `stored_size`.
        device: where they are kept, in 3 bytes a pixel.
    """

    def __init__(self, dataset: FaceDataset, size: int, device: torch.device) -> None:
        self.dataset = dataset
        self.faces, self.pixel_sizes = load_faces(dataset, size, device)
        self.rows = {number: row for row, number in enumerate(face_numbers(dataset))}
        self.tables = jpeg_tables(device)
        self.luma = torch.tensor(LUMA, device=device)[:, None, None]
        self.generator = torch.Generator(device)

    def batches(self, sampler: PositionSampler) -> Generator[dict[str, torch.Tensor]]:
        """Yield the batches that a sampler asks for."""
        for positions in sampler:
            yield self.batch(positions[0] // len(positions), len(positions))

    @torch.no_grad()
    def batch(self, place: int, batch_size: int) -> dict[str, torch.Tensor]:
        """Return what there is at the positions from place * batch_size on, as the data set returns it, put together.

        The device is given its work and not waited for.

        Args:
            place: of the batch in the stream.
            batch_size: B, faces.

        Returns:
            `clean` `[B,3,S,S]`, RGB, and as the data set asks for `degraded`, of the same shape, and `mask` `[B,1,S,S]`:
            float32 in [0,1]; and `pixel_size`, int64 `[B]`; all on the device.
        """
        data, device, degradation = self.dataset.config, self.faces.device, self.dataset.degradation
        rng = np.random.default_rng([self.dataset.seed, place, BATCH_SEED])
        self.generator.manual_seed(int(rng.integers(2**63)))
        with exact_products():
            clean, pixel_sizes = self._clean(range(place * batch_size, (place + 1) * batch_size), rng)
            batch = {"clean": clean, "pixel_size": pixel_sizes}
            if self.dataset.holes:
                drawn = draw_holes(data.image_size, batch_size, rng, self.dataset.scratch_probability)
                mask = make_masks(drawn, data.image_size, device)
                return batch | {"degraded": clean * (1 - mask), "mask": mask}
            if degradation is None:
                return batch
            drawn = draw_degradations(degradation, data.image_size, batch_size, rng)
            degraded = apply_degradations(clean, drawn, self.generator, self.tables)
            gray = rng.random(batch_size) < degradation.gray_probability
            if not gray.any():
                return batch | {"degraded": degraded}
            gray = send(gray, device)[:, None, None, None]
            return batch | {
                "clean": torch.where(gray, self._gray(clean), clean),
                "degraded": torch.where(gray, (LEVELS * self._gray(degraded)).round() / LEVELS, degraded),
            }

    def _clean(self, positions: range, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the augmented faces `[B,3,S,S]` at positions of the stream, float32 in [0,1], and their pixel sizes `[B]`."""
        data, epoch_length, count = self.dataset.config, self.dataset.epoch_length, len(positions)
        mixed = np.flatnonzero(rng.random(count) < data.augmentation.mix)
        partners = dict(zip(mixed.tolist(), rng.integers(epoch_length, size=len(mixed)).tolist(), strict=True))
        rows, others = [], []
        for index, position in enumerate(positions):  # in order: the data set knows that of one epoch at a time
            rows.append(self.rows[self.dataset.face(position)])
            if index in partners:
                partner = position - position % epoch_length + partners[index]
                others.append(self.rows[self.dataset.face(partner)])
        flipped = (rng.random(count) < 0.5) & data.horizontal_flip
        clean = self._augmented(np.array(rows + others), np.concatenate([flipped, flipped[mixed]]), rng)
        pixel_sizes = self.pixel_sizes[send(np.array(rows + others), clean.device)]
        if not len(mixed):
            return clean, pixel_sizes
        clean, second = clean[:count], clean[count:]
        members = send(mixed, clean.device)
        knots = send(rng.standard_normal((len(mixed), MIX_GRID, MIX_GRID), dtype=np.float32), clean.device)
        coarser = torch.maximum(pixel_sizes[:count][members], pixel_sizes[count:])
        return (
            clean.index_copy(0, members, mix_batch(clean[members], second, knots)),
            pixel_sizes[:count].index_copy(0, members, coarser),
        )

    def _augmented(self, rows: np.ndarray, flipped: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
        """Return kept faces, some flipped, all changed at random and in the training size."""
        stored, size, device = self.faces.shape[-1], self.dataset.config.image_size, self.faces.device
        changed, at_once = [], max(1, CHUNK // stored**2)
        for start in range(0, len(rows), at_once):
            faces = self.faces[send(rows[start : start + at_once], device)]
            flips = send(flipped[start : start + at_once], device)[:, None, None, None]
            drawn = draw_augmentations(self.dataset.config.augmentation, len(faces), rng)
            levels = apply_augmentations(torch.where(flips, faces.flip(-1), faces), drawn)
            if stored != size:
                levels = (torch.nn.functional.avg_pool2d(levels, stored // size) + 0.5).floor()
            changed.append(levels / LEVELS)
        return torch.cat(changed)

    def _gray(self, faces: torch.Tensor) -> torch.Tensor:
        return (faces * self.luma).sum(dim=1, keepdim=True).expand_as(faces)


def open_batches(
    dataset: FaceDataset, sampler: PositionSampler, num_workers: int, device: torch.device
) -> Iterator[dict[str, torch.Tensor]]:
    """Return the batches that a sampler asks for, made on a device or by `load_batches`, as `data.on_device` says."""
    size = size_on(dataset, device)
    if size is None:
        return load_batches(dataset, sampler, num_workers)
    return DeviceFaces(dataset, size, device).batches(sampler)


def size_on(dataset: FaceDataset, device: torch.device) -> int | None:
    """Return the side that faces are kept at on a device, or `None` if they stay where they are; see `DataConfig`."""
    setting = dataset.config.on_device
    worn = dataset.degradation is not None and dataset.degradation.wear_probability > 0
    if setting is False or (setting == AUTO and (worn or device.type != "cuda")):
        return None
    size = stored_size(dataset)
    if setting == AUTO:
        memory = torch.cuda.get_device_properties(device).total_memory
        return size if 3 * size**2 * len(face_numbers(dataset)) <= MEMORY_SHARE * memory else None
    return size


def stored_size(dataset: FaceDataset) -> int:
    """Return the side that the faces of a data set are kept at, see `DeviceFaces`; looks at the headers of their files."""
    size, ranges = dataset.config.image_size, dataset.config.augmentation
    if not (ranges.rotation or ranges.zoom or ranges.shift or ranges.warp):
        return size
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        sides = list(threads.map(partial(_side, dataset.source), face_numbers(dataset)))
    return 2 * size if statistics.median(sides) >= 2 * size else size


def face_numbers(dataset: FaceDataset) -> list[int]:
    """Return the numbers of the faces that a data set draws from."""
    return sorted(face for group in dataset.groups for face in group)


def load_faces(dataset: FaceDataset, size: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Read all faces that a data set draws from, in the order of their numbers.

    Returns:
        uint8 `[N,3,size,size]`; and int64 `[N]`, the `pixel_size` of each in the training size: both on the device.
    """
    numbers = face_numbers(dataset)
    faces = torch.empty(len(numbers), 3, size, size, dtype=torch.uint8, device=device)
    pixel_sizes = []
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        pictures = threads.map(partial(_read, dataset, size), numbers)
        for face, (picture, pixel) in zip(
            faces, tqdm(pictures, "loading faces", len(numbers), leave=False, delay=2), strict=True
        ):
            face.copy_(torch.from_numpy(picture))
            pixel_sizes.append(pixel)
    return faces, torch.tensor(pixel_sizes, device=device)


def _side(source: FaceSource, number: int) -> int:
    file, _ = source.file(number)
    with Image.open(file) as image:
        return min(image.size)


def _read(dataset: FaceDataset, size: int, number: int) -> tuple[np.ndarray, int]:
    image = dataset.source.load(number)
    levels = (resized_face(image, size) * LEVELS).round().astype(np.uint8)
    return levels.transpose(2, 0, 1), pixel_size(image, dataset.config.image_size)


@contextlib.contextmanager
def exact_products() -> Generator[None]:
    """Let matrix products of float32 have the precision of float32, which a training may have lowered for its networks."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
