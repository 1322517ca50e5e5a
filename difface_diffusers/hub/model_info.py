"""What a DifFace pipeline consists of, read from its texts and file headers; no weights are loaded or downloaded."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import (
    HfApi,
    get_cached_repo_tree,
    parse_local_safetensors_file_metadata,
    snapshot_download,
)
from huggingface_hub.constants import DEFAULT_ETAG_TIMEOUT
from huggingface_hub.errors import (
    CachedRepoTreeNotFoundError,
    HFValidationError,
    HTTPError,
    IncompleteSnapshotError,
    RepositoryNotFoundError,
    SafetensorsParsingError,
)
from huggingface_hub.repocard import metadata_load
from huggingface_hub.utils import SafetensorsFileMetadata
from yaml import YAMLError  # a dependency of huggingface_hub


TASKS = {"DifFacePipeline": "restoration", "DifFaceInpaintPipeline": "inpainting"}
INDEX = "model_index.json"
CARD = "README.md"
UNET_CONFIG = "unet/config.json"
SCHEDULER_CONFIG = "scheduler/scheduler_config.json"
TEXTS = [INDEX, CARD, UNET_CONFIG, SCHEDULER_CONFIG]
WEIGHTS = re.compile(
    r"(?P<component>\w+)/diffusion_pytorch_model(\.(?P<variant>[\w-]+?))?(-\d{5}-of-\d{5})?\.safetensors"
)
DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}  # others as in the file
SCHEDULER_SETTINGS = (
    "num_train_timesteps",
    "beta_schedule",
    "beta_start",
    "beta_end",
    "prediction_type",
    "variance_type",
    "timestep_spacing",
    "clip_sample",
)


@dataclass(frozen=True)
class StoredWeights:
    """One of the precisions in which a network is stored.

    Attributes:
        variant: what `from_pretrained(..., variant=...)` selects these files by; `None` for those loaded by default.
        num_files: files the weights are split into.
        num_bytes: of all of them together.
        dtypes: of the tensors in them; `None` where the files are only on the Hub, which could not be asked.
        num_parameters: numbers in the tensors; `None` as above.
    """

    variant: str | None
    num_files: int
    num_bytes: int
    dtypes: tuple[str, ...] | None
    num_parameters: int | None


@dataclass(frozen=True)
class ComponentInfo:
    """A component as `model_index.json` names it.

    Attributes:
        library: package of the class.
        class_name: name of the class.
        weights: what is stored, the default first; empty for a scheduler.
    """

    library: str
    class_name: str
    weights: tuple[StoredWeights, ...] = ()


@dataclass(frozen=True)
class ModelInfo:
    """What a folder or a repository holds.

    Attributes:
        model: the folder or the Hub id.
        revision: commit of a repository, `None` for a folder.
        from_cache: whether the Hub could not be asked, so that there may be a later revision.
        pipeline: name of the class.
        task: what the pipeline does.
        face_size: height and width of the faces that it works on, pixels.
        patch_size: side of the square patches of pixels that the prior works on, 1 for single pixels.
        unet: the prior.
        estimator: the estimator.
        scheduler: the scheduler.
        scheduler_settings: its main settings.
        defaults: what a call of the pipeline takes unless told otherwise, by argument.
        presets: the settings that a call takes together, by name.
        license: of the weights, as the model card's front matter states it; `None` where it does not, as in the next two.
        license_link: where to read it.
        pipeline_tag: the Hub's name for the kind of task.
    """

    model: str
    revision: str | None
    from_cache: bool
    pipeline: str
    task: str
    face_size: tuple[int, int]
    patch_size: int
    unet: ComponentInfo
    estimator: ComponentInfo
    scheduler: ComponentInfo
    scheduler_settings: dict[str, Any]
    defaults: dict[str, Any]
    presets: dict[str, dict[str, Any]]
    license: str | None
    license_link: str | None
    pipeline_tag: str | None


@dataclass(frozen=True)
class ModelFiles:
    """Where the files of a model are.

    Attributes:
        model: the folder or the Hub id.
        folder: holds the texts, and the weights as far as they are on this machine.
        sizes: bytes by path below `folder`, of all weights, here or on the Hub.
        revision: see `ModelInfo`.
        from_cache: see `ModelInfo`.
    """

    model: str
    folder: Path
    sizes: Mapping[str, int]
    revision: str | None = None
    from_cache: bool = False


def model_info(model: str | Path) -> ModelInfo:
    """Say what a DifFace pipeline consists of.

    Nothing that the files name is imported or run. From the Hub come four small texts, the list of files and the first
    bytes of the weights that are not in the cache; without the Hub the cache has to do.

    Args:
        model: folder or Hub id of a saved pipeline.

    Raises:
        FileNotFoundError: there is no such folder or repository, or one of its texts is missing.
        ValueError: it holds no DifFace pipeline, or a damaged one.
        OSError: the Hub or a file cannot be read.
    """
    files = _folder_files(Path(model)) if Path(model).is_dir() else _hub_files(str(model))
    index = _read_json(files, INDEX)
    pipeline = index.get("_class_name")
    if not isinstance(pipeline, str) or pipeline not in TASKS:
        raise ValueError(
            f"`model` is {files.model}, whose {INDEX} names the class {pipeline!r}; it must be {' or '.join(TASKS)}."
        )
    unet, estimator, scheduler = (_component(files, index, name) for name in ("unet", "estimator", "scheduler"))
    schedule = _read_json(files, SCHEDULER_CONFIG)
    card = _read_card(files)
    return ModelInfo(
        model=files.model,
        revision=files.revision,
        from_cache=files.from_cache,
        pipeline=pipeline,
        task=TASKS[pipeline],
        face_size=_face_size(files),
        patch_size=_patch_size(files),
        unet=unet,
        estimator=estimator,
        scheduler=scheduler,
        scheduler_settings={name: schedule[name] for name in SCHEDULER_SETTINGS if name in schedule},
        defaults={name.removeprefix("default_"): index[name] for name in index if name.startswith("default_")},
        presets=index.get("presets", {}),
        license=card.get("license_name", card.get("license")),  # the Hub's `license` is "other" where it has a name
        license_link=card.get("license_link"),
        pipeline_tag=card.get("pipeline_tag"),
    )


def _folder_files(folder: Path) -> ModelFiles:
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.glob("*/*.safetensors")}
    return ModelFiles(str(folder), folder, sizes)


def _hub_files(model: str) -> ModelFiles:
    """Fetch the texts of a Hub repository, or find them in the cache, with the sizes of all its weights."""
    failure = None
    try:
        failure = _ask_hub(model)
        folder = Path(snapshot_download(model, allow_patterns=TEXTS, local_files_only=failure is not None))
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
            f" {_first_line(failure or error)}"
        ) from error
    try:
        sizes = {file.path: file.size for file in get_cached_repo_tree(model, revision=folder.name)}
    except CachedRepoTreeNotFoundError:  # the cache is that of an older huggingface_hub
        sizes = _folder_files(folder).sizes
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


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _read_json(files: ModelFiles, name: str) -> dict[str, Any]:
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


def _read_card(files: ModelFiles) -> dict[str, str]:
    """Return the front matter of the model card; empty without one."""
    path = files.folder / CARD
    if not path.is_file():
        return {}
    try:
        card = metadata_load(path) or {}
    except (YAMLError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{CARD} of {files.model} begins with broken YAML: {reason}") from error
    return {name: str(value) for name, value in card.items() if value is not None}


def _component(files: ModelFiles, index: Mapping[str, Any], name: str) -> ComponentInfo:
    match index.get(name):
        case [str(library), str(class_name)]:
            return ComponentInfo(library, class_name, _stored_weights(files, name))
        case entry:
            raise ValueError(f"`{name}` in {INDEX} of {files.model} is {entry!r}; it must be [library, class].")


def _stored_weights(files: ModelFiles, component: str) -> tuple[StoredWeights, ...]:
    variants: dict[str, list[str]] = {}
    for path in sorted(files.sizes):
        match = WEIGHTS.fullmatch(path)
        if match and match["component"] == component:
            variants.setdefault(match["variant"] or "", []).append(path)
    return tuple(_describe(files, variant or None, paths) for variant, paths in sorted(variants.items()))


def _describe(files: ModelFiles, variant: str | None, paths: Sequence[str]) -> StoredWeights:
    num_bytes = sum(files.sizes[path] for path in paths)
    if files.from_cache and not all((files.folder / path).is_file() for path in paths):
        return StoredWeights(variant, len(paths), num_bytes, dtypes=None, num_parameters=None)
    counts = sum((Counter(_read_header(files, path).parameter_count) for path in paths), Counter())
    dtypes = sorted(DTYPES.get(dtype, str(dtype)) for dtype in counts)
    return StoredWeights(variant, len(paths), num_bytes, tuple(dtypes), counts.total())


def _read_header(files: ModelFiles, path: str) -> SafetensorsFileMetadata:
    try:
        if (files.folder / path).is_file():
            return parse_local_safetensors_file_metadata(files.folder / path)
        return HfApi().parse_safetensors_file_metadata(files.model, path, revision=files.revision)
    except (OSError, HTTPError) as error:
        raise OSError(f"{path} of {files.model} cannot be read: {_first_line(error)}") from error
    except (SafetensorsParsingError, AttributeError, TypeError) as error:  # the last two: JSON of another form
        raise ValueError(f"{path} of {files.model} is no safetensors file: {error}") from error


def _face_size(files: ModelFiles) -> tuple[int, int]:
    match _read_json(files, UNET_CONFIG).get("sample_size"):
        case int(side):
            return side, side
        case [int(height), int(width)]:
            return height, width
        case size:
            raise ValueError(
                f"`sample_size` in {UNET_CONFIG} of {files.model} is {size!r}; it must be an integer or two."
            )


def _patch_size(files: ModelFiles) -> int:
    match _read_json(files, UNET_CONFIG).get("patch_size", 1):
        case int(size) if size >= 1:
            return size
        case size:
            raise ValueError(
                f"`patch_size` in {UNET_CONFIG} of {files.model} is {size!r}; it must be an integer of at least 1."
            )
