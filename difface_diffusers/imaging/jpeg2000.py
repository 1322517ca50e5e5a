"""What JPEG 2000 keeps beside its pixels, which Pillow does not read."""

from pathlib import Path
from typing import BinaryIO


UUIDS = {b"JpgTiffExif->JP2": "exif", bytes.fromhex("BE7ACFCB97A942E89C71999491E3AFAC"): "xmp"}
ICC = (2, 3)  # methods of a color specification
LARGEST = 2**24  # bytes of a box that are read


def jpeg2000_notes(file: str | Path | BinaryIO) -> dict[str, bytes]:
    """Return the "exif", "xmp" and "icc_profile" of a JPEG 2000 file as far as it has them; of a broken one fewer."""
    if isinstance(file, str | Path):
        with open(file, "rb") as opened:
            return jpeg2000_notes(opened)
    place = file.tell()
    file.seek(0)
    notes = _notes(file)
    file.seek(place)
    return notes


def _notes(file: BinaryIO) -> dict[str, bytes]:
    notes = {}
    while len(header := file.read(8)) == 8:
        size, kind = int.from_bytes(header[:4]), header[4:]
        left = int.from_bytes(file.read(8)) - 16 if size == 1 else size - 8
        if kind == b"jp2h":  # a box of boxes, which come next
            continue
        start = file.tell()
        if kind in (b"uuid", b"colr"):
            content = file.read(LARGEST if size == 0 else max(0, min(left, LARGEST)))
            if kind == b"uuid" and content[:16] in UUIDS:
                notes[UUIDS[content[:16]]] = content[16:]
            elif kind == b"colr" and content[:1] and content[0] in ICC:
                notes["icc_profile"] = content[3:]
        if size == 0 or not 0 <= left < 2**48:  # it is the last, or broken
            break
        file.seek(start + left)
    return notes
