"""What the package keeps in Hugging Face's cache beside what the Hub does: models that were fetched from elsewhere."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import cached_assets_path


@dataclass(frozen=True)
class CachedModel:
    """A model that was fetched once.

    Attributes:
        name: what it is called in `free`.
        path: file or folder.
        num_bytes: that it takes.
        is_whole: whether it is there completely; else it is a download that broke off.
    """

    name: str
    path: Path
    num_bytes: int
    is_whole: bool


def assets_folder(kind: str) -> Path:
    """Return the folder of one kind of models, which is made if it is missing.

    Raises:
        OSError: it cannot be made; the message says what to set.
    """
    try:
        return Path(cached_assets_path("difface_diffusers", kind))
    except (OSError, ValueError) as error:  # the latter for a file in the place of a folder
        raise OSError(f"the cache cannot be written ({error}); set HF_HOME to a folder that can.") from error


def cached_models() -> list[CachedModel]:
    """Return the models in the cache, whole ones and downloads that broke off, by name."""
    models = []
    for path in assets_folder("official").iterdir():
        if path.is_dir() and path.name != "downloads":
            models.append(CachedModel(f"official {path.name}", path, _size(path), is_whole=True))
    for folder in (assets_folder("official") / "downloads", assets_folder("real_esrgan")):
        for path in folder.iterdir() if folder.exists() else ():
            is_whole = path.suffix != ".part"
            models.append(CachedModel(path.stem if is_whole else path.name, path, path.stat().st_size, is_whole))
    return sorted(models, key=lambda model: model.name)


def free(name: str) -> int:
    """Delete a model of the cache by its name; returns the bytes that it took.

    Raises:
        ValueError: there is none of that name; the message says which there are.
    """
    models = {model.name: model for model in cached_models()}
    if name not in models:
        there = ", ".join(models) or "nothing"
        raise ValueError(f"{name!r} is not in the cache; there is {there}.")
    model = models[name]
    if model.path.is_dir():
        shutil.rmtree(model.path)
    else:
        model.path.unlink()
    return model.num_bytes


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
