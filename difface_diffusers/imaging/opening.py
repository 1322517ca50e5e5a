"""Opening image files: which kinds there are, HEIF by its extra, the pictures in one file, and what decoders raise."""

import mmap
import struct
from collections.abc import Generator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO, cast

from PIL import Image, ImageFile

from ..utils.extras import import_extra
from .exif import BYTE_ORDERS, check_directories
from .jpeg2000 import jpeg2000_notes


READ_SUFFIXES = (  # of files that are taken from folders; a file that is named may have any
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    *(".png", ".apng", ".webp", ".gif", ".avif", ".heic", ".heif", ".hif"),
    *(".tif", ".tiff", ".bmp", ".dib", ".tga", ".ppm", ".pgm", ".pbm", ".pnm"),
    *(".jp2", ".j2k", ".jpf", ".jpx"),
)
PAGED = ("AVIF", "GIF", "HEIF", "MPO", "PNG", "TIFF", "WEBP")  # formats of which several pictures are photographs
HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
AVIF_BRANDS = {b"avif", b"avis"}
HEAD = 1024  # bytes that tell the kind of a file
SUBFILE_TYPE, REDUCED, MASK = 254, 1, 4  # of a picture in a TIFF, and its bits
MPO_ENTRIES = 0xB002
SENTENCES = (OSError, SyntaxError, ValueError, ImportError, EOFError, struct.error, Image.DecompressionBombError)


@contextmanager
def reading(path: str | Path) -> Generator[None]:
    """Turn whatever decoders raise for a bad image file into an OSError that names the file."""
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:  # of any kind, as decoders trust what a broken file says of itself
        kind = "" if isinstance(error, SENTENCES) and str(error) else f"{type(error).__name__} "
        raise OSError(f"{path} cannot be read as an image: {kind}{error}".rstrip()) from error


def open_image(file: str | Path | BinaryIO, page: int = 0) -> ImageFile.ImageFile:
    """Open an image file with Pillow, or HEIF with pillow-heif; its pixels are not decoded.

    Args:
        file: its path, or an open one.
        page: which of its pictures, see `pages_of`.

    Raises:
        ImportError: it is HEIF, and the extra is missing.
        Exception: of any kind, if it is none, too large or broken; see `reading`.
    """
    head = _first_bytes(file)
    if head[:4] in BYTE_ORDERS:
        _check_tiff(file)
    image = _open_heif(file) if _is_heif(head) else Image.open(file)
    if image.format == "EPS":  # which Pillow hands to another program
        image.close()
        raise OSError("EPS holds drawings, no photographs")
    if page:
        image.seek(pages_of(image)[page])
    if image.format == "JPEG2000":
        image.info.update(jpeg2000_notes(file))
    return image


def register_heif() -> None:
    """Let Pillow itself open HEIC where the extra is installed, for the parts of a program that call Pillow."""
    if find_spec("pillow_heif"):
        import_extra("pillow_heif", "heif", "Reading HEIC needs").register_heif_opener()


def count_pages(path: str | Path) -> int:
    """Return how many pictures a file holds, 1 at least; 1 if that cannot be found out, for then nor can it be read."""
    try:
        with reading(path), open_image(path) as image:
            return len(pages_of(image))
    except OSError:
        return 1


def pages_of(image: ImageFile.ImageFile) -> list[int]:
    """Return Pillow's numbers of the pictures of a file, the main one first; smaller copies and masks are none.

    `image` may then stand at another of them.
    """
    first = image.tell()
    if image.format not in PAGED or (count := getattr(image, "n_frames", 1)) < 2:
        return [first]
    if image.format == "PNG":  # whose header may promise any number
        count = min(count, _all_bytes(cast(BinaryIO, image.fp)).count(b"fcTL") + 1)
    others = (number for number in range(count) if number != first)
    return [first, *(number for number in others if not _is_lesser(image, number))]


def _is_lesser(image: ImageFile.ImageFile, number: int) -> bool:
    if image.format == "MPO":
        kind = image.mpinfo[MPO_ENTRIES][number]["Attribute"]["MPType"]
        return str(kind).startswith("Large Thumbnail")
    if image.format != "TIFF":
        return False
    image.seek(number)
    return bool(image.tag_v2.get(SUBFILE_TYPE, 0) & (REDUCED | MASK))


def _check_tiff(file: str | Path | BinaryIO) -> None:
    if not isinstance(file, str | Path):
        check_directories(_all_bytes(file))
        return
    with open(file, "rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
        check_directories(data)


def _all_bytes(file: BinaryIO) -> bytes:
    place = file.tell()
    file.seek(0)
    content = file.read()
    file.seek(place)
    return content


def _first_bytes(file: str | Path | BinaryIO) -> bytes:
    if isinstance(file, str | Path):
        with open(file, "rb") as opened:
            return opened.read(HEAD)
    place = file.tell()
    head = file.read(HEAD)
    file.seek(place)
    return head


def _is_heif(head: bytes) -> bool:
    brands = head[8 : int.from_bytes(head[:4])] if head[4:8] == b"ftyp" else b""
    named = {brands[start : start + 4] for start in range(0, len(brands), 4)}
    return bool(named & HEIF_BRANDS) and not named & AVIF_BRANDS


def _open_heif(file: str | Path | BinaryIO) -> ImageFile.ImageFile:
    image = import_extra("pillow_heif", "heif", "Reading HEIC needs").HeifImageFile(file)
    largest = 2 * (Image.MAX_IMAGE_PIXELS or image.width * image.height)
    if image.width * image.height > largest:
        image.close()
        raise OSError(f"its size, {image.width} x {image.height} pixels, exceeds limit of {largest} pixels")
    return image
