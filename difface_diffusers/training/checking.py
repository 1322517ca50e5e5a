"""A look at every face before the first step: whether it can be used, and which picture it is."""

import hashlib
import io
import os
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import gather_object
from PIL import Image
from tqdm.auto import tqdm

from ..imaging.opening import reading
from ..imaging.orientation import upright
from ..imaging.tensors import pil_to_tensor
from ..utils.warning import warn_user
from .data import FaceDataset
from .sources import FaceSource


NAMED = 3  # of the images that cannot be used, in a message
DRAFT = (32, 32)  # pixels; a JPEG is read to its end but hardly computed


@dataclass(frozen=True)
class CheckedFaces:
    """Faces that a training can begin with.

    Attributes:
        trained: those that are trained on.
        held_out: those that the model is judged by, if it is.
        digest: of the pictures that are trained on, group by group, and their weights.
    """

    trained: FaceDataset
    held_out: FaceDataset | None
    digest: str


def check_faces(faces: FaceDataset, validation: str | None, accelerator: Accelerator) -> CheckedFaces:
    """Look at all faces; the processes share the work and arrive at the same answer.

    Args:
        faces: to be trained on.
        validation: where the faces are that the model is judged by, see `open_faces`; `None` if it is not.
        accelerator: joins the processes.

    Raises:
        ValueError: images are broken or not square, and `data.skip_broken` is not set or nothing else is there; or pictures
            to judge by are trained on, whatever path leads there. The message names them.
    """
    trained, digests = _usable(faces, "data", accelerator)
    held_out = None
    if validation is not None:
        held_out, others = _usable(trained.held_out(validation), "monitoring.validation", accelerator)
        if copies := _copies(trained, set(digests.values()), held_out, others):
            _warn(copies, accelerator)
    whole = hashlib.blake2b(digest_size=16)
    for share in trained.shares:
        for group in share.groups:
            whole.update(b"".join(digests[face] for face in group) + b"|")
        whole.update(b"" if share.weight == 1 else str(share.weight).encode())
    return CheckedFaces(trained, held_out, whole.hexdigest())


def _usable(faces: FaceDataset, setting: str, accelerator: Accelerator) -> tuple[FaceDataset, dict[int, bytes]]:
    """Return the faces that can be used, and by their number a digest of each one's file."""
    looks = _look_at_all(faces.source, accelerator)
    faults = [look for look in looks if isinstance(look, str)]
    if faults:
        named = "; ".join(faults[:NAMED]) + (f"; and {len(faults) - NAMED} more" if len(faults) > NAMED else "")
        broken = f"`{setting}` is {faces.origin}: {len(faults)} of {len(looks)} images cannot be used: {named}"
        if not faces.config.skip_broken or len(faults) == len(looks):
            raise ValueError(f"{broken}; mend or remove them, or leave them out by `data.skip_broken`.")
        _warn(f"{broken}; they are left out.", accelerator)
        faces = faces.without({number for number, look in enumerate(looks) if isinstance(look, str)})
    return faces, {number: look for number, look in enumerate(looks) if isinstance(look, bytes)}


def _copies(
    trained: FaceDataset, digests: Collection[bytes], held_out: FaceDataset, others: dict[int, bytes]
) -> str | None:
    """Return a sentence on held-out faces of which there are copies to train on; a `ValueError` if they are the same files."""
    names = [held_out.source.names[number] for number, digest in others.items() if digest in digests]
    if not names:
        return None
    found = (
        f"`monitoring.validation` is {held_out.origin}: {len(names)} of its {len(others)} faces, such as {names[0]}"
    )
    if trained.source.places() & held_out.source.places():
        raise ValueError(f"{found}, are trained on; it must hold others.")
    return f"{found}, have copies among those that are trained on."


def _warn(message: str, accelerator: Accelerator) -> None:
    if accelerator.is_main_process:
        warn_user(message)


def _look_at_all(source: FaceSource, accelerator: Accelerator) -> Sequence[bytes | str]:
    """Return for each face the digest of its file, or why it cannot be used."""
    count, processes = len(source.names), accelerator.num_processes
    own = range(accelerator.process_index, count, processes)
    with ThreadPoolExecutor(max(1, (os.cpu_count() or 1) // processes)) as threads:
        answers = threads.map(partial(_look, source), own)
        hidden = not accelerator.is_main_process
        progress = tqdm(answers, "checking faces", len(own), leave=False, delay=2, unit="face", disable=hidden)
        looks = dict(zip(own, progress, strict=True))
    return [look for _, look in sorted(gather_object(list(looks.items())))]


def _look(source: FaceSource, number: int) -> bytes | str:
    file, name = source.file(number)
    try:
        content = file.read_bytes() if isinstance(file, Path) else file.read()
        with reading(name), Image.open(io.BytesIO(content)) as image:
            width, height = image.size
            image.draft("L", DRAFT)
            image.load()
            turned = upright(image)
            if turned.mode[0] in "IF":  # not all of these can be trained on
                pil_to_tensor(turned)
    except OSError as error:
        return str(error)
    if width != height:
        return f"{name} is {width} x {height} pixels, and not square"
    return hashlib.blake2b(content, digest_size=16).digest()
