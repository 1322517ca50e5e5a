"""Clean faces as an endless, seekable stream of training samples."""

import contextlib
import copy
import re
import signal
from collections import defaultdict
from collections.abc import Callable, Collection, Generator, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, default_collate

from ..degradation.blind import DegradationRanges, degrade_pair, to_8_bits, to_gray
from ..degradation.holes import training_mask
from ..imaging.files import load_image
from ..imaging.tensors import pil_to_tensor
from .augmentation import augment, mix
from .config import DataConfig
from .failures import LostFaces, worker_watched
from .mixture import Data, Mixture, choose_sources


HELD_OUT_SEED = 0  # whatever the training's, so that trainings can be compared


def read_face(path: Path, size: int, change: Callable[[np.ndarray], np.ndarray] | None = None) -> np.ndarray:
    """Read an image as `[size,size,3]`, RGB, float32 in [0,1]; shrunk by area, enlarged by a cubic.

    Args:
        path: of the image.
        size: side of the answer, pixels.
        change: applied to the image before it is resized, from uint8 `[H,W,3]` to such.

    Raises:
        ValueError: the file is missing, no image, or cut short; the message names it.
    """
    try:
        return resized_face(load_image(path), size, change)
    except OSError as error:
        raise ValueError(str(error)) from error


def resized_face(
    image: Image.Image, size: int, change: Callable[[np.ndarray], np.ndarray] | None = None
) -> np.ndarray:
    """Return an upright image of any mode and size as `read_face` does."""
    if image.mode == "RGB":
        rgb = np.asarray(image)
    else:
        rgb = (pil_to_tensor(image) * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
    if change is not None:
        rgb = change(rgb)
    if rgb.shape[:2] != (size, size):
        shrinks = min(rgb.shape[:2]) >= size
        rgb = cv2.resize(rgb, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return rgb.astype(np.float32) / 255


def pixel_size(image: Image.Image, size: int) -> int:
    """Return the side of a pixel of an image, in pixels of the square of side `size` that it becomes: at least 1."""
    return max(1, round(size / min(image.size)))


@dataclass(frozen=True)
class Share:
    """What one place has in an epoch.

    Attributes:
        groups: numbers of its faces, group by group.
        weight: how often each of them comes.
    """

    groups: list[list[int]]
    weight: float

    def count(self, max_per_group: int) -> int:
        """Return how many faces `draw` returns."""
        once = sum(min(len(group), max_per_group) for group in self.groups)
        return max(round(self.weight * once), min(once, 1))

    def draw(self, max_per_group: int, rng: np.random.Generator) -> list[int]:
        """Draw the faces of an epoch; for what is left of a weight, some of a whole draw."""
        faces = []
        while len(faces) < (count := self.count(max_per_group)):
            drawn = [group[member] for group in self.groups for member in rng.permutation(len(group))[:max_per_group]]
            if len(faces) + len(drawn) > count:
                drawn = [drawn[place] for place in rng.permutation(len(drawn))[: count - len(faces)]]
            faces += drawn
        return faces

    def without(self, faces: Collection[int]) -> "Share":
        """Return the same share but for some faces."""
        groups = ([face for face in group if face not in faces] for group in self.groups)
        return Share([group for group in groups if group], self.weight)


class FaceDataset(Dataset):
    """Clean faces, alone or with what is left of them, addressed by their position in an endless stream.

    The item at a position is a function of the seed and the position alone, so a training resumes exactly by asking
    for the next position, whatever the number of processes or workers. An epoch is a fresh shuffle in which each
    group of files (see `DataConfig`) shows at most `max_per_group` of its members, as often as the weight of its place says.

    Args:
        data: where the faces are, see `open_faces`, or several such places, of which those count that serve the size.
        config: size, flips, augmentation and groups.
        seed: of the order, the flips, the augmentation and the degradations.
        degradation: ranges of the degradation; `None` degrades nothing.
        holes: take pieces out instead, see `degradation.holes`.
        scratch_probability: share of the holes that are scratches.

    Raises:
        ValueError: faces are to be worn on the device, see `DataConfig`.
        ValueError, ImportError: see `choose_sources` and `open_faces`.
    """

    def __init__(
        self,
        data: Data,
        config: DataConfig,
        seed: int,
        degradation: DegradationRanges | None = None,
        holes: bool = False,
        scratch_probability: float = 0.0,
    ) -> None:
        if config.on_device is True and degradation is not None and degradation.wear_probability:
            raise ValueError(
                f"`data.on_device` is True and `degradation.wear_probability` {degradation.wear_probability}; wear is done"
                " one by one alone: `on_device` must be auto or false, or `wear_probability` 0."
            )
        self.sources = choose_sources(data, config.image_size)
        self.source = Mixture(self.sources)
        self.config = config
        self.seed = seed
        self.degradation = degradation
        self.holes = holes
        self.scratch_probability = scratch_probability
        self._draw_from([Share(self._group(part.faces), part.weight) for part in self.source.parts])

    def _draw_from(self, shares: list[Share]) -> None:
        self.shares = shares
        self.epoch_length = sum(share.count(self.config.max_per_group) for share in shares)
        self._epoch: tuple[int, list[int]] = (-1, [])

    @property
    def origin(self) -> str:
        """What errors call the places of the faces."""
        return " + ".join(str(source.data) for source in self.sources)

    @property
    def groups(self) -> list[list[int]]:
        """The numbers of all faces that may come, group by group."""
        return [group for share in self.shares for group in share.groups]

    def _group(self, faces: range) -> list[list[int]]:
        """Return some numbers of faces, group by group."""
        groups = defaultdict(list)
        for face in faces:
            stem = PurePath(self.source.names[face]).stem
            match = re.search(self.config.group_pattern, stem) if self.config.group_pattern else None
            groups[match.group() if match else face].append(face)
        return list(groups.values())

    def face(self, position: int) -> int:
        """Return the number of the face at a position of the stream."""
        epoch, index = divmod(position, self.epoch_length)
        if self._epoch[0] != epoch:
            rng = np.random.default_rng([self.seed, epoch])
            faces = [face for share in self.shares for face in share.draw(self.config.max_per_group, rng)]
            self._epoch = epoch, [faces[place] for place in rng.permutation(len(faces))]
        return self._epoch[1][index]

    def without(self, faces: Collection[int]) -> "FaceDataset":
        """Return the same faces but for those of some numbers, as if their files were not there."""
        other = copy.copy(self)
        other._draw_from([share.without(faces) for share in self.shares])
        return other

    def held_out(self, source: str | Path) -> "FaceDataset":
        """Return other faces, to be judged by: degraded in the same ways, else unchanged, each of them once an epoch.

        Raises:
            ValueError, ImportError: see `open_faces`.
        """
        size, skip_broken = self.config.image_size, self.config.skip_broken
        config = DataConfig(image_size=size, horizontal_flip=False, skip_broken=skip_broken)
        try:
            return FaceDataset(source, config, HELD_OUT_SEED, self.degradation, self.holes, self.scratch_probability)
        except ValueError as error:
            raise ValueError(f"`monitoring.validation`: {error}") from error

    def _augmented_face(self, position: int) -> tuple[np.ndarray, int]:
        """Return a changed face in the training size, and the side of a pixel of its file in it."""
        ranges, size = self.config.augmentation, self.config.image_size
        rng = np.random.default_rng([self.seed, position, 2])
        change = partial(augment, ranges=ranges, rng=rng)

        def read(position: int) -> tuple[np.ndarray, int]:
            image = self.source.load(self.face(position))
            return resized_face(image, size, change), pixel_size(image, size)

        face, pixel = read(position)
        if ranges.mix and rng.random() < ranges.mix:
            other = position - position % self.epoch_length + int(rng.integers(self.epoch_length))  # of the same epoch
            second, other_pixel = read(other)
            face, pixel = mix(face, second, rng), max(pixel, other_pixel)
        return face, pixel

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """Return what there is at a position of the stream, images float32 in [0,1].

        `clean` `[3,S,S]`, RGB; `degraded` of the same shape if there is a degradation or are holes; `mask` `[1,S,S]`,
        1 where `degraded` is missing, if there are holes; and `pixel_size`, int64, as `pixel_size` returns it: of a mixed face
        that of the coarser one.
        """
        rng = np.random.default_rng([self.seed, index, 1])
        clean, pixel = self._augmented_face(index)
        if self.config.horizontal_flip and rng.random() < 0.5:
            clean = np.ascontiguousarray(clean[:, ::-1])
        images = {"clean": clean}
        if self.degradation is not None:
            clean, degraded = degrade_pair(clean, self.degradation, rng)
            if rng.random() < self.degradation.gray_probability:
                clean, degraded = to_gray(clean), to_8_bits(to_gray(degraded))
            images = {"clean": clean, "degraded": degraded}
        elif self.holes:
            mask = training_mask(self.config.image_size, rng, self.scratch_probability)[..., None]
            images |= {"degraded": clean * (1 - mask), "mask": mask}
        tensors = {name: torch.from_numpy(image.transpose(2, 0, 1).copy()) for name, image in images.items()}
        return tensors | {"pixel_size": torch.tensor(pixel)}


class _Batches(Dataset):
    """Faces, batch by batch; a face that cannot be read makes its batch a sentence, as errors come garbled from workers."""

    def __init__(self, faces: FaceDataset) -> None:
        self.faces = faces

    def __getitems__(self, positions: list[int]) -> dict[str, torch.Tensor] | str:
        try:
            return default_collate([self.faces[position] for position in positions])
        except OSError as error:
            return str(error)


def load_batches(
    faces: FaceDataset, batches: Iterable[list[int]], num_workers: int
) -> Generator[dict[str, torch.Tensor]]:
    """Yield the items at the positions of each batch, put together; read by `num_workers` processes unless that is 0.

    Raises:
        LostFaces: a face cannot be read any more, or a process that reads them has died.
    """
    loader = DataLoader(
        _Batches(faces),
        batch_sampler=batches,
        num_workers=num_workers,
        collate_fn=_as_it_is,
        worker_init_fn=_start_worker,
        pin_memory=torch.cuda.is_available(),
    )
    with worker_watched():
        with _single_threaded():
            ready = iter(loader)
        for batch in ready:
            if isinstance(batch, str):
                raise LostFaces(f"a face can no longer be read: {batch}")
            yield batch


def _as_it_is(batch: Any) -> Any:
    return batch


def to_device(batch: dict[str, torch.Tensor], device: torch.device) -> dict[str, torch.Tensor]:
    """Return a batch with all its tensors on a device, which is not waited for where `load_batches` made it."""
    return {name: value.to(device, non_blocking=True) for name, value in batch.items()}


def _start_worker(worker: int) -> None:
    """Keep a loader's worker alive when the whole process group is told to stop: the step under way needs it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if cv2.getNumThreads() != 1:  # not forked, else see `_single_threaded`
        cv2.setNumThreads(1)


@contextlib.contextmanager
def _single_threaded() -> Generator[None]:
    """Let OpenCV have one thread, and so processes that are forked meanwhile, which share the cores.

    A forked process that gave up threads by itself would wait for those of its parent for ever.
    """
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


class PositionSampler:
    """Positions in the stream that one process reads, batch by batch, from `start` to `stop` batches.

    Batch b of process r of P covers the positions from (b*P + r) * batch_size on.
    """

    def __init__(self, start: int, stop: int, batch_size: int, process: int = 0, processes: int = 1) -> None:
        self.batches = range(start, stop)
        self.batch_size = batch_size
        self.process = process
        self.processes = processes

    def __iter__(self):
        for batch in self.batches:
            first = (batch * self.processes + self.process) * self.batch_size
            yield list(range(first, first + self.batch_size))

    def __len__(self) -> int:
        return len(self.batches)
