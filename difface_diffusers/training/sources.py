"""Where clean faces come from: folders of images, the `datasets` library, and tar files as WebDataset writes them."""

import glob
import io
import re
import tarfile
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from ..extras import import_extra
from ..image_processing import load_image


IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
BUILDERS = {".parquet": "parquet", ".tar": "webdataset"}  # of the `datasets` library, by the suffix of their files
HUB_ID = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)(?::(?P<split>[\w\[\]:%.-]+))?")
NUMBERS = re.compile(r"\{(\d+)\.\.(\d+)\}")
ACCEPTED = (
    "a folder of images, Parquet or tar files, such files, a dataset saved to disk, or ORG/NAME[:SPLIT] of the Hub"
)


class FaceSource(Protocol):
    """Images by number; `names` are those of their files."""

    names: list[str]

    def load(self, index: int) -> Image.Image:
        """Read an image completely, upright; an `OSError` names one that is broken."""


class ImageFolder:
    """The image files in a folder and those below it, sorted by path."""

    def __init__(self, folder: Path) -> None:
        self.paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
        self.names = [path.name for path in self.paths]

    def load(self, index: int) -> Image.Image:
        """Read an image completely, upright; an `OSError` names one that is broken."""
        return load_image(self.paths[index])


class ImageColumn:
    """The images in the only such column of a `datasets.Dataset`, row by row."""

    def __init__(self, rows: Any, source: str) -> None:
        from datasets import Image as ImageFeature

        columns = [name for name, feature in rows.features.items() if isinstance(feature, ImageFeature)]
        if len(columns) != 1:
            raise ValueError(f"{len(columns)} of the columns {rows.column_names} hold images; one must.")
        self.source, self.column = source, columns[0]
        self.rows = rows.select_columns(columns).cast_column(self.column, ImageFeature(decode=False))
        chunks = self.rows.with_format("arrow")[:][self.column].chunks
        paths = [path for chunk in chunks for path in chunk.field("path").to_pylist()]
        self.names = [Path(path).name if path else str(row) for row, path in enumerate(paths)]

    def load(self, index: int) -> Image.Image:
        """Read an image completely, upright; an `OSError` names one that is broken."""
        image = self.rows[index][self.column]
        if image["bytes"] is None:
            return load_image(image["path"])
        return load_image(io.BytesIO(image["bytes"]), f"{self.names[index]} in row {index} of {self.source}")


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
    if Path(source).is_dir():
        images = ImageFolder(Path(source))
        return images if images.names else _open_dataset_folder(Path(source))
    if Path(source).suffix in BUILDERS:
        return _load(source, BUILDERS[Path(source).suffix], data_files=_expand(str(source)), split="train")
    hub = HUB_ID.fullmatch(str(source))
    if hub is None:
        raise ValueError(f"`data` is {source}: nothing is there; it must be {ACCEPTED}.")
    return _load(source, hub["id"], split=hub["split"] or "train")


def _open_dataset_folder(folder: Path) -> FaceSource:
    if (folder / "state.json").is_file():
        return _load(folder)
    for suffix, builder in BUILDERS.items():
        if files := sorted(str(path) for path in folder.rglob(f"*{suffix}")):
            return _load(folder, builder, data_files=files, split="train")
    raise ValueError(
        f"`data` is {folder}: no image ({', '.join(IMAGE_SUFFIXES)}), Parquet or tar file and no saved dataset was found"
        " there."
    )


def _load(source: str | Path, *arguments: str, **settings: Any) -> FaceSource:
    """Load with `datasets.load_dataset`, or with `load_from_disk` if there are no arguments for it."""
    datasets = import_extra("datasets", "train", f"`data` is {source}, no folder of images; reading it needs")
    try:
        rows = datasets.load_dataset(*arguments, **settings) if arguments else datasets.load_from_disk(str(source))
        return ImageColumn(rows, str(source))
    except (OSError, ValueError, tarfile.TarError, datasets.exceptions.DatasetsError) as error:
        raise ValueError(f"`data` is {source}: {error}") from error


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
