import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from difface_diffusers.imaging.files import load_image, read_photo
from difface_diffusers.imaging.orientation import noted_metadata, noted_orientation, upright

from .test_files import XMP, turned
from .test_tiff import exif_of, picture, tags_of


def raw(kind, profile):
    digits = profile.hex()
    lines = [digits[start : start + 72] for start in range(0, len(digits), 72)]
    return "\n".join(["", kind, f"{len(profile):8}", *lines, ""])


def texts_of(note, orientation):
    xmp = XMP.replace(b'Orientation="1"', b'Orientation="%d"' % orientation)
    return {
        "exif": {"Raw profile type exif": raw("exif", b"Exif\0\0" + exif_of(orientation))},
        "APP1": {"Raw profile type APP1": raw("APP1", b"Exif\0\0" + exif_of(orientation))},
        "xmp in APP1": {"Raw profile type APP1": raw("APP1", b"http://ns.adobe.com/xap/1.0/\0" + xmp)},
        "xmp": {"Raw profile type xmp": raw("xmp", xmp)},
        "text": {"exif:Orientation": str(orientation)},
    }[note]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("note", ["exif", "APP1", "xmp in APP1", "xmp", "text"])
def test_texts_of_a_png_count(tmp_path, note, packed, orientation):
    info = PngInfo()
    for name, text in texts_of(note, orientation).items():
        info.add_text(name, text, zip=packed)
    path = tmp_path / "a.png"
    Image.fromarray(turned(picture("RGB"), orientation)).save(path, pnginfo=info)
    photo = read_photo(path)
    for pixels in (photo.pixels, load_image(path), upright(Image.open(path)), upright(upright(Image.open(path)))):
        np.testing.assert_array_equal(np.asarray(pixels), picture("RGB"))
    if note in ("exif", "APP1"):
        assert tags_of(photo.metadata.exif)[0x010F] and tags_of(photo.metadata.exif)[0x0112] == 1


def test_exif_counts_more_than_xmp_and_that_more_than_texts():
    xmp = XMP.replace(b'Orientation="1"', b'Orientation="8"')
    assert noted_orientation({"exif": exif_of(3), "xmp": xmp, "exif:Orientation": "6"}) == 3
    assert noted_orientation({"xmp": xmp, "exif:Orientation": "6"}) == 8
    assert noted_orientation({"exif:Orientation": "6"}) == 6
    assert noted_orientation({}) == 1


@pytest.mark.parametrize(
    "texts",
    [
        {"Raw profile type exif": "\nexif\n  20\nno digits"},
        {"Raw profile type exif": "\nexif\n"},
        {"Raw profile type APP1": "\nAPP1\nmany\n00"},
        {"exif:Orientation": "9"},
        {"exif:Orientation": "top"},
    ],
)
def test_broken_texts_are_left_out(tmp_path, texts):
    info = PngInfo()
    for name, text in texts.items():
        info.add_text(name, text)
    Image.fromarray(picture("RGB")).save(tmp_path / "a.png", pnginfo=info)
    for pixels in (read_photo(tmp_path / "a.png").pixels, load_image(tmp_path / "a.png")):
        np.testing.assert_array_equal(np.asarray(pixels), picture("RGB"))
    assert noted_metadata(texts) == (None, None)
