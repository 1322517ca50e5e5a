"""Where clean faces come from: folders of images, tar files as WebDataset writes them, and the `datasets` library."""

import glob
import io
import os
import re
import tarfile
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path, PurePath
from typing import Any, BinaryIO

from PIL import Image

from ..hub.ids import may_be_hub_id
from ..imaging.files import load_image
from ..utils.extras import import_extra
from ..utils.listing import is_hidden, list_files


IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
FILE_SUFFIXES = (".parquet", ".tar")
SPLIT = re.compile(r"(?P<id>[^:]+)(?::(?P<split>[\w\[\]:%.-]+))?")
NUMBERS = re.compile(r"\{(\d+)\.\.(\d+)\}")
ACCEPTED = (
    "a folder of images, Parquet or tar files, such files, a dataset saved to disk, or ORG/NAME[:SPLIT] of the Hub"
)


class FaceSource:
    """Images by number; `names` are those of their files."""

    names: list[str]

    def file(self, index: int) -> tuple[Path | BinaryIO, str]:
        """Return the file of an image, and what an error should call it."""
        raise NotImplementedError

    def load(self, index: int) -> Image.Image:
        """Read an image completely, upright; an `OSError` names one that is broken."""
        return load_image(*self.file(index))

    def places(self) -> set[Hashable]:
        """Return where the images lie, as names that are the same for the same place, whatever path leads there."""
        raise NotImplementedError


class ImageFolder(FaceSource):
    """The image files in a folder and those below it, sorted by path."""

    def __init__(self, folder: Path) -> None:
        self.paths = list_files(folder, IMAGE_SUFFIXES, recursive=True)
        self.names = [path.name for path in self.paths]

    def file(self, index: int) -> tuple[Path | BinaryIO, str]:
        """Return the file of an image, and what an error should call it."""
        return self.paths[index], str(self.paths[index])

    def places(self) -> set[Hashable]:
        """Return the image files."""
        return _identities(self.paths)


class ImageArchives(FaceSource):
    """The image files in tar files, in their order there; each is a face, whatever dots are in its name.

    Args:
        archives: paths of the tar files.

    Raises:
        ValueError: there is no image, or WebDataset's samples have several each.
        OSError, tarfile.TarError: a file cannot be read as a tar file, or is cut short.
    """

    def __init__(self, archives: list[str]) -> None:
        self.members = [(archive, member) for archive in archives for member in _image_members(archive)]
        self.names = [PurePath(member.name).name for _, member in self.members]
        if not self.members:
            raise ValueError(f"no image ({', '.join(IMAGE_SUFFIXES)}) was found there.")
        self._check_samples()

    def file(self, index: int) -> tuple[Path | BinaryIO, str]:
        """Return the file of an image, and what an error should call it."""
        archive, member = self.members[index]
        with open(archive, "rb") as file:
            file.seek(member.offset_data)
            return io.BytesIO(file.read(member.size)), f"{member.name} in {archive}"

    def places(self) -> set[Hashable]:
        """Return the tar files."""
        return _identities(archive for archive, _ in self.members)

    def _check_samples(self) -> None:
        """Refuse pictures that only differ in what they are of their sample: 1.input.png, 1.target.png, 2.input.png, ..."""
        samples = defaultdict(set)
        for archive, member in self.members:
            key, _, part = PurePath(member.name).name.partition(".")
            samples[archive, PurePath(member.name).parent, key].add(part)
        parts = next(iter(samples.values()))
        named = not any(part.partition(".")[0].isdigit() for part in parts)
        if named and len(parts) > 1 < len(samples) and all(other == parts for other in samples.values()):
            raise ValueError(f"each sample has {len(parts)} images ({', '.join(sorted(parts))}); it must have one.")


class ImageColumn(FaceSource):
    """The images in the only such column of a `datasets.Dataset`, row by row; hidden files are left out.

    Args:
        rows: the data set.
        source: what errors call it.
        files: that it was made of.
        hub_id: of the repository that it is from.
    """

    def __init__(self, rows: Any, source: str, files: Sequence[str] = (), hub_id: str | None = None) -> None:
        from datasets import Image as ImageFeature

        columns = [name for name, feature in rows.features.items() if isinstance(feature, ImageFeature)]
        if len(columns) != 1:
            raise ValueError(f"{len(columns)} of the columns {rows.column_names} hold images; one must.")
        self.source, self.column, self.files, self.hub_id = source, columns[0], files, hub_id
        self.rows = rows.select_columns(columns).cast_column(self.column, ImageFeature(decode=False))
        chunks = self.rows.with_format("arrow")[:][self.column].chunks
        paths = [path for chunk in chunks for path in chunk.field("path").to_pylist()]
        names = [Path(path).name if path else str(row) for row, path in enumerate(paths)]
        self.numbers = [row for row, name in enumerate(names) if not is_hidden(PurePath(name))]
        self.names = [names[row] for row in self.numbers]
        if not self.names:
            raise ValueError("it holds no image.")

    def file(self, index: int) -> tuple[Path | BinaryIO, str]:
        """Return the file of an image, and what an error should call it."""
        row = self.numbers[index]
        image = self.rows[row][self.column]
        if image["bytes"] is None:
            return Path(image["path"]), image["path"]
        return io.BytesIO(image["bytes"]), f"{self.names[index]} in row {row} of {self.source}"

    def places(self) -> set[Hashable]:
        """Return the repository, the files that the data set was made of, and those that hold it now."""
        repository: set[Hashable] = {self.hub_id} - {None}
        return repository | _identities([*self.files, *(entry["filename"] for entry in self.rows.cache_files)])


def open_faces(source: str | Path) -> FaceSource:
    """Open what a training is told to read its faces from.

    Args:
        source: a folder, searched recursively for images; a folder of Parquet or tar files; such a file, or several by a
            pattern with `*` or a range like `{000..010}`; a folder that `Dataset.save_to_disk` has written; or the id of a
            dataset on the Hub, ORG/NAME or ORG/NAME:SPLIT, where SPLIT may be a part such as `train[:90%]`.

    Raises:
        ValueError: there is nothing of that kind, or it cannot be read.
        ImportError: it takes the `datasets` library, which is missing; the message says how to install it.
    """
    path = Path(source)
    if path.is_dir():
        images = ImageFolder(path)
        return images if images.names else _open_dataset_folder(path)
    if path.suffix in FILE_SUFFIXES:
        return _open_files(source, path.suffix, _expand(str(source)))
    if path.exists():
        raise ValueError(f"`data` is {source}: this file is neither Parquet nor tar; it must be {ACCEPTED}.")
    hub = SPLIT.fullmatch(str(source))
    if hub is None or not may_be_hub_id(hub["id"]):
        raise ValueError(f"`data` is {source}: there is no such file or folder; it must be {ACCEPTED}.")
    return _load(source, hub["id"], split=hub["split"] or "train")


def _open_dataset_folder(folder: Path) -> FaceSource:
    if (folder / "state.json").is_file():
        return _load(folder)
    for suffix in FILE_SUFFIXES:
        if files := list_files(folder, [suffix], recursive=True):
            return _open_files(folder, suffix, list(map(str, files)))
    raise ValueError(
        f"`data` is {folder}: no image ({', '.join(IMAGE_SUFFIXES)}), Parquet or tar file and no saved dataset was found"
        " there."
    )


def _open_files(source: str | Path, suffix: str, files: list[str]) -> FaceSource:
    """Open files that all have one of `FILE_SUFFIXES`."""
    if suffix == ".parquet":
        return _load(source, "parquet", data_files=files, split="train")
    try:
        return ImageArchives(files)
    except (OSError, ValueError, tarfile.TarError) as error:
        raise ValueError(f"`data` is {source}: {error}") from error


def _image_members(archive: str) -> list[tarfile.TarInfo]:
    with tarfile.open(archive, "r:") as tar:
        members = [
            member
            for member in tar
            if member.isreg()
            and PurePath(member.name).suffix.lower() in IMAGE_SUFFIXES
            and not is_hidden(PurePath(member.name))
        ]
        end = tar.offset + tarfile.BLOCKSIZE  # of the empty block behind the last file
    if end > Path(archive).stat().st_size:
        raise tarfile.ReadError(f"{archive} is cut short")
    return members


def _load(source: str | Path, *arguments: str, **settings: Any) -> FaceSource:
    """Load with `datasets.load_dataset`, or with `load_from_disk` if there are no arguments for it."""
    datasets = import_extra("datasets", "train", f"`data` is {source}, no folder of images; reading it needs")
    files = settings.get("data_files", ())
    hub_id = arguments[0] if arguments and not files else None
    try:
        rows = datasets.load_dataset(*arguments, **settings) if arguments else datasets.load_from_disk(str(source))
        return ImageColumn(rows, str(source), files, hub_id)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        nowhere = "there is no such file or folder, nor can it be read from the Hub: " if hub_id else ""
        raise ValueError(f"`data` is {source}: {nowhere}{error}") from error


def _identities(paths: Iterable[str | Path]) -> set[Hashable]:
    """Return a name of each file that no link changes."""
    return {(status.st_dev, status.st_ino) for status in map(os.stat, paths)}


def _expand(pattern: str) -> list[str]:
    """Return the files of a pattern with `*` and `{000..010}`; all numbers of a range must be there."""
    numbers = NUMBERS.search(pattern)
    if numbers is not None:
        first, last = numbers.groups()
        texts = [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
        return [
            file for text in texts for file in _expand(pattern[: numbers.start()] + text + pattern[numbers.end() :])
        ]
    files = sorted(glob.glob(pattern, recursive=True))
    if not files:
        raise ValueError(f"`data`: {pattern} does not exist.")
    return files
