"""Faces from several places, each with its weight, of which a training takes those that serve its size."""

import math
import os
import re
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import BinaryIO

from .sources import FaceSource, open_faces


OPTION = re.compile(r",(weight|min_size|max_size)=([^,]*)$")


@dataclass(frozen=True)
class DataSource:
    """A place that faces come from, beside others.

    Attributes:
        data: the place, see `open_faces`.
        weight: how often each of its faces comes in an epoch: 3 is three times, 2.5 two or three times, 0.5 in every second
            epoch on average.
        min_size: the smallest training size that it serves, pixels.
        max_size: the largest one; `None`: any.

    Raises:
        ValueError: the weight is not above 0 and finite, or there is no size that it would serve.
    """

    data: str | Path
    weight: float = 1.0
    min_size: int = 1
    max_size: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.weight < math.inf:
            raise ValueError(f"`weight` of {self.data} is {self.weight}; it must be above 0 and finite.")
        if self.min_size < 1:
            raise ValueError(f"`min_size` of {self.data} is {self.min_size}; it must be at least 1.")
        if self.max_size is not None and self.max_size < self.min_size:
            raise ValueError(
                f"`max_size` of {self.data} is {self.max_size}; it must be at least `min_size`, {self.min_size}."
            )

    def serves(self, size: int) -> bool:
        """Return whether a training at a size, in pixels, is to use it."""
        return self.min_size <= size and (self.max_size is None or size <= self.max_size)

    def identity(self) -> str:
        """Return what tells it from others, whatever path leads there."""
        place = os.path.realpath(self.data) if os.path.exists(self.data) else str(self.data)
        return place if self.weight == 1 else f"{place},weight={self.weight:g}"


Data = str | Path | DataSource | Iterable[str | Path | DataSource]


def parse_source(text: str) -> DataSource:
    """Read what the command line says of a place: `faces512,weight=3,min_size=129`, in any order.

    Raises:
        ValueError: a weight or size is no number, is there twice, or cannot be used.
    """
    place, options = text, {}
    while option := OPTION.search(place):
        name, value = option.groups()
        if name in options:
            raise ValueError(f"`data` is {text}: `{name}` is there twice.")
        try:
            options[name] = float(value) if name == "weight" else int(value)
        except ValueError as error:
            raise ValueError(f"`data` is {text}: `{name}` is {value!r}; it must be a number.") from error
        place = place[: option.start()]
    return DataSource(place, **options)


def choose_sources(data: Data, size: int) -> list[DataSource]:
    """Return the places that serve a training at a size.

    Args:
        data: one place, or several.
        size: side of the training images, pixels.

    Raises:
        ValueError: none does.
    """
    places = [data] if isinstance(data, str | Path | DataSource) else list(data)
    sources = [place if isinstance(place, DataSource) else DataSource(place) for place in places]
    chosen = [source for source in sources if source.serves(size)]
    if not chosen:
        limits = ", ".join(
            f"{source.data} from {source.min_size} to {source.max_size or 'any'} pixels" for source in sources
        )
        raise ValueError(f"`data` has nothing for a training at {size} pixels: {limits or 'it is empty'}.")
    return chosen


@dataclass(frozen=True)
class Part:
    """The faces of one place among those of all."""

    faces: range
    weight: float


class Mixture(FaceSource):
    """The faces of several places, one place after the other.

    Args:
        sources: the places.

    Raises:
        ValueError, ImportError: see `open_faces`.
    """

    def __init__(self, sources: list[DataSource]) -> None:
        self.opened = [open_faces(source.data) for source in sources]
        self.names = [name for source in self.opened for name in source.names]
        ends = accumulate((len(source.names) for source in self.opened), initial=0)
        self.parts = [
            Part(range(first, end), source.weight)
            for (first, end), source in zip(pairwise(ends), sources, strict=True)
        ]

    def file(self, index: int) -> tuple[Path | BinaryIO, str]:
        """Return the file of an image, and what an error should call it."""
        number = next(number for number, part in enumerate(self.parts) if index in part.faces)
        return self.opened[number].file(index - self.parts[number].faces.start)

    def places(self) -> set[Hashable]:
        """Return where the images of all places lie."""
        return {place for source in self.opened for place in source.places()}
