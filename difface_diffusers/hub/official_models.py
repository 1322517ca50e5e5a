"""The official weights by one word: fetched from the original's release, converted, and kept in Hugging Face's cache."""

import shutil
import sys
from contextlib import ExitStack
from pathlib import Path

from huggingface_hub.constants import HF_HUB_OFFLINE
from huggingface_hub.utils import WeakFileLock
from tqdm import tqdm

from .assets import assets_folder
from .convert import convert_pipeline
from .download import download
from .originals.official import LICENSE_URL, RELEASE_URL, TASKS, Task


OFFICIAL = "official"


def cached_official(task: str) -> Path | None:
    """Return the folder of an official pipeline if it is in the cache."""
    folder = assets_folder(OFFICIAL) / task
    return folder if folder.exists() else None


def official_model(task: str = "restoration") -> Path:
    """Return the folder of an official pipeline, for `from_pretrained`.

    The first time the two files of the original's release are fetched and converted; a second process waits meanwhile. A
    download that broke off goes on from there. Licence and size are said once, by a line on standard error.

    Args:
        task: "restoration", 512 x 512 pixels; or "inpainting", 256 x 256.

    Raises:
        OSError: a file cannot be fetched or written, the disk is full, or `HF_HUB_OFFLINE` is set; the message says which files
            to put where by hand.
        ValueError: there is no such task, or a file is not what it was.
        RuntimeError: see `convert_pipeline`.
    """
    if task not in TASKS:
        raise ValueError(f"`task` is {task!r}; it must be one of {', '.join(TASKS)}.")
    if (there := cached_official(task)) is not None:
        return there
    cache = assets_folder(OFFICIAL)
    folder = cache / task
    with ExitStack() as stack:
        try:
            stack.enter_context(WeakFileLock(cache / f"{task}.lock"))
        except OSError as error:
            raise OSError(
                f"the cache {cache} cannot be written ({error.strerror}); set HF_HOME to a folder that can."
            ) from error
        if not folder.exists():
            _make(TASKS[task], task, cache / "downloads", folder)
    return folder


def _make(official: Task, task: str, downloads: Path, folder: Path) -> None:
    checkpoints = [official.prior, official.estimator]
    missing = [checkpoint for checkpoint in checkpoints if not (downloads / checkpoint.file).exists()]
    urls = " and ".join(f"{RELEASE_URL}/{checkpoint.file}" for checkpoint in missing)
    by_hand = f"fetch {urls} elsewhere and put what you get into {downloads}."
    if missing and HF_HUB_OFFLINE:
        raise OSError(f"DifFace's official {task} model is not in the cache, and HF_HUB_OFFLINE is set; {by_hand}")
    size = official.num_bytes
    if (free := shutil.disk_usage(downloads.parent).free) < 2 * size:
        raise OSError(
            f"DifFace's official {task} model needs {2 * size / 1e9:.1f} GB in {downloads.parent} while it is converted, and"
            f" half of that afterwards; {free / 1e9:.1f} GB are free. Make room, or set HF_HOME to another disk."
        )
    say = f"fetching DifFace's official {task} model, {size / 1e9:.1f} GB, once, to {folder}"
    tqdm.write(f"{say}. S-Lab License 1.0, for non-commercial use: {LICENSE_URL}", file=sys.stderr)
    try:
        prior, estimator = (download(f"{RELEASE_URL}/{entry.file}", downloads, entry.sha256) for entry in checkpoints)
    except OSError as error:
        raise OSError(f"{error} Or {by_hand}") from error
    convert_pipeline(official, prior, estimator, folder)
    for path in (prior, estimator):
        path.unlink()
