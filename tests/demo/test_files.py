import struct
import zlib
from importlib import import_module
from importlib.util import find_spec

import gradio as gr
import numpy as np
import pytest
from gradio.components.image_editor import EditorData
from gradio.data_classes import FileData, ImageData
from PIL import Image

from difface_diffusers.demo import files
from difface_diffusers.demo.files import check_upload, checked, errors_for_people, read_upload, write_download
from difface_diffusers.imaging.files import read_photo
from difface_diffusers.imaging.metadata import Metadata, PhotoFile

from .conftest import PHOTOGRAPH


@pytest.fixture
def bomb(tmp_path):
    """A PNG that claims 40,000 x 40,000 pixels."""
    chunks = {b"IHDR": struct.pack(">LLBBBBB", 40000, 40000, 8, 2, 0, 0, 0), b"IDAT": zlib.compress(b"")}
    path = tmp_path / "bomb.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data))
            for kind, data in chunks.items()
        )
    )
    return path


@pytest.fixture
def heic(tmp_path):
    path = tmp_path / "photo.heic"
    if find_spec("pillow_heif"):
        import_module("pillow_heif").from_pillow(Image.new("RGB", (64, 64))).save(path)
    return path


def test_a_photograph_may_be_uploaded():
    check_upload(str(PHOTOGRAPH))


@pytest.mark.parametrize(
    ("upload", "message"),
    [
        (
            "text_file",
            r"^'This file cannot be read as a picture; accepted are JPEG, PNG, WebP, HEIC, AVIF, .*BMP.'$",
        ),
        ("large_picture", r"^'This picture has 36 megapixels; accepted are 25.'$"),
        ("bomb", r"^'This picture is too large; accepted are 25 megapixels.'$"),
    ],
)
def test_what_may_not_be_uploaded(upload, message, request):
    path = str(request.getfixturevalue(upload))
    with pytest.raises(gr.Error, match=message) as error:
        check_upload(path)
    assert not error.value.print_exception


@pytest.mark.parametrize("component", [gr.Image, gr.ImageEditor])
def test_components_check_what_they_are_given(component, text_file, large_picture, heic, demo):
    component = checked(component())

    def preprocess(path):
        file = {"path": str(path), "orig_name": path.name}
        data = ImageData(**file) if isinstance(component, gr.Image) else EditorData(background=FileData(**file))
        return component.preprocess(data)

    assert component.preprocess(None) is None
    assert preprocess(PHOTOGRAPH) is not None
    if find_spec("pillow_heif"):
        assert preprocess(heic) is not None
    with pytest.raises(gr.Error, match="cannot be read as a picture"):
        preprocess(text_file)
    with pytest.raises(gr.Error, match="36 megapixels"):
        preprocess(large_picture)


def test_an_upload_is_read_whole():
    assert read_upload(str(PHOTOGRAPH), 4).pixels.shape == (320, 320, 3)


@pytest.mark.parametrize("kind", ["AVIF", "JPEG2000", "GIF", "TIFF", "HEIF"])
def test_every_kind_may_be_uploaded(tmp_path, kind):
    path = tmp_path / "photo"
    with Image.open(PHOTOGRAPH) as photograph:
        if kind == "HEIF":
            pytest.importorskip("pillow_heif").from_pillow(photograph).save(path)
        else:
            photograph.save(path, kind)
    check_upload(str(path))
    assert read_upload(str(path)).pixels.shape == (320, 320, 3)


@pytest.mark.parametrize("error", [RecursionError, NotImplementedError, ZeroDivisionError, KeyError, SyntaxError])
def test_whatever_a_decoder_raises(monkeypatch, error):
    def odd(path):
        raise error("odd")

    monkeypatch.setattr(files, "open_image", odd)
    with pytest.raises(gr.Error, match="cannot be read as a picture") as raised:
        check_upload(str(PHOTOGRAPH))
    assert not raised.value.print_exception


def test_an_upload_that_is_cut_short(tmp_path):
    (tmp_path / "cut.png").write_bytes(PHOTOGRAPH.read_bytes()[:20_000])
    check_upload(str(tmp_path / "cut.png"))
    with pytest.raises(gr.Error, match=r"^'This file cannot be read as a picture; accepted are .*'$"):
        read_upload(str(tmp_path / "cut.png"))


def test_what_cannot_be_enlarged(tmp_path):
    Image.new("L", (4000, 3000)).save(tmp_path / "photo.png")
    with pytest.raises(gr.Error, match=r"Enlarged 2\.5 times this picture has 75 megapixels; at most 50 can be made"):
        read_upload(str(tmp_path / "photo.png"), 2.5)


def test_nothing_uploaded():
    with pytest.raises(gr.Error, match="Choose a photograph first"):
        read_upload(None)


@pytest.mark.parametrize(
    ("raised", "message"),
    [(ValueError("`eta` is 2"), "`eta` is 2"), (OSError("gone"), "gone"), (MemoryError(), "try a smaller picture")],
)
def test_errors_become_a_sentence(raised, message):
    with pytest.raises(gr.Error, match=message) as error, errors_for_people():
        raise raised
    assert not error.value.print_exception


def test_mistakes_of_the_program_stay_what_they_are():
    with pytest.raises(ZeroDivisionError), errors_for_people():
        raise ZeroDivisionError


def test_a_download_lies_in_the_cache_and_keeps_its_metadata(cache):
    photo = PhotoFile(np.full((4, 6, 3), 40000, np.uint16), Metadata(xmp=b"<x/>", dpi=(300, 300)))
    first, second = (write_download(photo, "me_restored") for _ in range(2))
    assert first.startswith(str(cache)) and first.endswith("/me_restored.png") and first != second
    written = read_photo(first)
    assert written.pixels.dtype == np.uint16 and written.metadata.xmp == b"<x/>"
    assert written.metadata.dpi == pytest.approx((300, 300), abs=0.1)


def test_limits_agree():
    assert (
        files.MAX_RESULT_MEGAPIXELS >= files.MAX_MEGAPIXELS
    )  # else a picture that may be uploaded could not be restored
