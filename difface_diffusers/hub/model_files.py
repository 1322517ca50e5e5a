"""Where the files of a pipeline are: in a folder, on the Hub or in its cache; of the Hub's only texts are fetched."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, get_cached_repo_tree, snapshot_download
from huggingface_hub.constants import DEFAULT_ETAG_TIMEOUT
from huggingface_hub.errors import (
    CachedRepoTreeNotFoundError,
    HFValidationError,
    HTTPError,
    IncompleteSnapshotError,
    RepositoryNotFoundError,
)


@dataclass(frozen=True)
class ModelFiles:
    """Where the files of a model are.

    Attributes:
        model: the folder or the Hub id.
        folder: holds the texts, and the other files as far as they are on this machine.
        sizes: bytes by path below `folder`, of all files of a pipeline, here or on the Hub.
        revision: commit of a repository, `None` for a folder.
        from_cache: whether the Hub could not be asked, so that there may be a later revision.
    """

    model: str
    folder: Path
    sizes: Mapping[str, int]
    revision: str | None = None
    from_cache: bool = False


def folder_files(folder: Path) -> ModelFiles:
    """Find the files of a folder, and of those in it."""
    paths = [path for pattern in ("*", "*/*") for path in folder.glob(pattern) if path.is_file()]
    return ModelFiles(
        str(folder), folder, {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths}
    )


def hub_files(model: str, texts: Sequence[str]) -> ModelFiles:
    """Fetch the texts of a Hub repository, or find them in the cache, with the sizes of all its files.

    Args:
        model: Hub id.
        texts: paths of those.

    Raises:
        FileNotFoundError: there is no such repository.
        OSError: the Hub cannot be read, and the cache has nothing.
    """
    failure = None
    try:
        failure = _ask_hub(model)
        folder = Path(snapshot_download(model, allow_patterns=list(texts), local_files_only=failure is not None))
    except HFValidationError:
        raise FileNotFoundError(f"`model` is {model!r}, which is neither a folder nor the form of a Hub id.") from None
    except RepositoryNotFoundError as error:
        raise FileNotFoundError(
            f"`model` is {model!r}, which is neither a folder nor a repository of the Hub that may be read; one that is"
            " private or gated takes a token of an account with access, from `hf auth login` or in HF_TOKEN."
        ) from error
    except IncompleteSnapshotError as error:  # loading a pipeline leaves the README on the Hub
        folder = Path(error.snapshot_path)
    except (OSError, HTTPError) as error:
        raise OSError(
            f"`model` is {model!r}, which is no folder and not in the cache, and the Hub does not give it:"
            f" {first_line(failure or error)}"
        ) from error
    try:
        sizes = {file.path: file.size for file in get_cached_repo_tree(model, revision=folder.name)}
    except CachedRepoTreeNotFoundError:  # the cache is that of an older huggingface_hub
        sizes = folder_files(folder).sizes
    return ModelFiles(model, folder, sizes, revision=folder.name, from_cache=failure is not None)


def _ask_hub(model: str) -> Exception | None:
    """Return why the Hub cannot be asked for a repository, `None` where it has it; raise where it has not."""
    try:
        HfApi().model_info(model, timeout=DEFAULT_ETAG_TIMEOUT)
    except RepositoryNotFoundError:
        raise
    except (OSError, HTTPError) as error:
        return error
    return None


def read_json(files: ModelFiles, name: str) -> dict[str, Any]:
    """Read one of the texts.

    Raises:
        FileNotFoundError: it is missing.
        ValueError: it is no JSON object.
    """
    path = files.folder / name
    if not path.is_file():
        raise FileNotFoundError(f"`model` is {files.model}, which has no {name}; it must be a saved DifFace pipeline.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{name} of {files.model} is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{name} of {files.model} is a JSON {type(content).__name__}; it must be an object.")
    return content


def first_line(error: Exception) -> str:
    """Return what an error says in its first line, or its kind."""
    return (str(error) or type(error).__name__).splitlines()[0]
