"""What people may upload, what they are told when it cannot be used, and what they can download."""

import tempfile
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import cv2
import gradio as gr
import numpy as np
import torch
from gradio.components import Component
from gradio.components.image_editor import EditorData
from gradio.utils import get_upload_folder
from PIL import Image

from ..imaging.files import read_photo, write_photo
from ..imaging.metadata import PhotoFile
from ..imaging.opening import open_image


ComponentT = TypeVar("ComponentT", bound=Component)

MAX_FILE_MEGABYTES = 60
MAX_MEGAPIXELS = 25
MAX_RESULT_MEGAPIXELS = 50
ACCEPTED = "JPEG, PNG, WebP, HEIC, AVIF, TIFF, JPEG 2000, GIF or BMP"


@contextmanager
def errors_for_people() -> Generator[None]:
    """Show what goes wrong with a picture as a sentence in the browser, and nothing else of it."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise sentence("The memory does not suffice for this; try a smaller picture or fewer samples.") from error
    except (OSError, ValueError, cv2.error) as error:
        raise sentence(str(error)) from error


def sentence(message: str) -> gr.Error:
    """Return an error that shows a message in the browser and leaves no trace in the server's log."""
    return gr.Error(message, print_exception=False)


@contextmanager
def errors_of_decoders() -> Generator[None]:
    """Show in the browser that a file is no picture that can be used here."""
    try:
        yield
    except gr.Error:
        raise
    except Image.DecompressionBombError:
        raise sentence(f"This picture is too large; accepted are {MAX_MEGAPIXELS} megapixels.") from None
    except ImportError as error:  # the extra that reads HEIC
        raise sentence(str(error)) from None
    except Exception as error:  # of any kind, as decoders trust what a broken file says of itself
        raise sentence(f"This file cannot be read as a picture; accepted are {ACCEPTED}.") from error


def check_upload(path: str) -> None:
    """Raise a `gr.Error` unless a file is a picture of at most `MAX_MEGAPIXELS`; its pixels are not decoded."""
    with warnings.catch_warnings(), errors_of_decoders():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with open_image(path) as picture:
            megapixels = picture.width * picture.height / 1e6
    if megapixels > MAX_MEGAPIXELS:
        raise sentence(f"This picture has {megapixels:.0f} megapixels; accepted are {MAX_MEGAPIXELS}.")


def read_upload(path: str | None, upscale: float = 1) -> PhotoFile:
    """Read an upload; raise a `gr.Error` if there is none, it is cut short, or it would be too large once enlarged."""
    if path is None:
        raise sentence("Choose a photograph first.")
    with errors_of_decoders():
        photo = read_photo(path)
    megapixels = photo.pixels.shape[0] * photo.pixels.shape[1] * upscale**2 / 1e6
    if megapixels > MAX_RESULT_MEGAPIXELS:
        raise sentence(
            f"Enlarged {upscale:g} times this picture has {megapixels:.0f} megapixels; at most {MAX_RESULT_MEGAPIXELS} can"
            " be made here: enlarge it less."
        )
    return photo


def write_download(photo: PhotoFile, name: str) -> str:
    """Write a picture as PNG into Gradio's cache, from where old files go; return its path."""
    path = folder_in_cache() / f"{name}.png"
    write_photo(photo, path)
    return str(path)


def write_array(array: np.ndarray) -> str:
    """Write an array into Gradio's cache, as memory would fill up with those of all visitors; return its path."""
    path = folder_in_cache() / "enlarged.npy"
    np.save(path, array)
    return str(path)


def read_array(path: str) -> np.ndarray:
    """Return what `write_array` has written."""
    return np.load(path)


def folder_in_cache() -> Path:
    """Make a new folder in Gradio's cache; return its path."""
    folder = Path(get_upload_folder())
    folder.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(dir=folder))


def checked(component: ComponentT) -> ComponentT:
    """Let an `Image` or `ImageEditor` pass its upload through `check_upload` before it decodes it; return it.

    A subclass would do, but Gradio writes a stub file beside the source of every subclass of a component.
    """
    decode = component.preprocess

    def preprocess(payload: Any) -> Any:
        upload = payload.background if isinstance(payload, EditorData) else payload
        if upload is not None and upload.path:
            check_upload(upload.path)
        with errors_of_decoders():
            return decode(payload)

    component.preprocess = preprocess
    return component
