"""What a DifFace pipeline consists of, read from its texts and file headers; no weights are loaded or downloaded."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from huggingface_hub.repocard import metadata_load
from yaml import YAMLError  # a dependency of huggingface_hub

from ..models.bundled import BUNDLED_MODEL, shares_prior
from .model_files import ModelFiles, folder_files, hub_files, read_json
from .stored_weights import StoredWeights, stored_weights


NETWORKS_AND_SCHEDULER = ("unet", "estimator", "scheduler")
TASKS = {"DifFacePipeline": "restoration", "DifFaceInpaintPipeline": "inpainting"}
INDEX = "model_index.json"
CARD = "README.md"
UNET_CONFIG = "unet/config.json"
SCHEDULER_CONFIG = "scheduler/scheduler_config.json"
TEXTS = [INDEX, CARD, UNET_CONFIG, SCHEDULER_CONFIG]
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
class ComponentInfo:
    """A component as `model_index.json` names it.

    Attributes:
        library: package of the class, or the file of the model's own code.
        class_name: name of the class.
        weights: what is stored, the default first; empty for a scheduler, and for a network that is saved elsewhere.
        source: the model that the weights are stored with where it is another.
    """

    library: str
    class_name: str
    weights: tuple[StoredWeights, ...] = ()
    source: str | None = None


@dataclass(frozen=True)
class ModelInfo:
    """What a folder or a repository holds.

    Attributes:
        model: the folder or the Hub id.
        revision: commit of a repository, `None` for a folder.
        from_cache: whether the Hub could not be asked, so that there may be a later revision.
        pipeline: name of the class.
        task: what the pipeline does.
        trust_remote_code: whether it loads with `trust_remote_code=True` only, because it carries its own code.
        code: the files of that code.
        face_size: height and width of the faces that it works on, pixels; `None` where no config of the prior says so.
        patch_size: side of the square patches of pixels that the prior works on, 1 for single pixels; `None` as above.
        unet: the prior; `None` where none was saved, so that `from_pretrained` must be given one, as in the next two.
        estimator: the estimator.
        scheduler: the scheduler.
        others: further components, by name.
        scheduler_settings: the main settings of the scheduler.
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
    trust_remote_code: bool
    code: tuple[str, ...]
    face_size: tuple[int, int] | None
    patch_size: int | None
    unet: ComponentInfo | None
    estimator: ComponentInfo | None
    scheduler: ComponentInfo | None
    others: dict[str, ComponentInfo | None]
    scheduler_settings: dict[str, Any]
    defaults: dict[str, Any]
    presets: dict[str, dict[str, Any]]
    license: str | None
    license_link: str | None
    pipeline_tag: str | None


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
    files = folder_files(Path(model)) if Path(model).is_dir() else hub_files(str(model), TEXTS)
    index = read_json(files, INDEX)
    pipeline = _pipeline(files, index)
    prior = files
    if shares_prior(index):
        prior = folder_files(Path(BUNDLED_MODEL))
        index["unet"] = read_json(prior, INDEX).get("unet")
    components = _components(files, prior, index)
    unet, estimator, scheduler = (components.pop(name) for name in NETWORKS_AND_SCHEDULER)
    is_elsewhere = unet is not None and not unet.weights
    unet_config = _read_config(prior, UNET_CONFIG, unet, may_be_missing=is_elsewhere)
    schedule = _read_config(files, SCHEDULER_CONFIG, scheduler) or {}
    card = _read_card(files)
    code = tuple(_code(files, index))
    return ModelInfo(
        model=files.model,
        revision=files.revision,
        from_cache=files.from_cache,
        pipeline=pipeline,
        task=TASKS[pipeline],
        trust_remote_code=bool(code),
        code=code,
        face_size=None if unet_config is None else _face_size(prior, unet_config),
        patch_size=None if unet_config is None else _patch_size(prior, unet_config),
        unet=unet,
        estimator=estimator,
        scheduler=scheduler,
        others=components,
        scheduler_settings={name: schedule[name] for name in SCHEDULER_SETTINGS if name in schedule},
        defaults={name.removeprefix("default_"): index[name] for name in index if name.startswith("default_")},
        presets=_presets(files, index),
        license=card.get("license_name", card.get("license")),  # the Hub's `license` is "other" where it has a name
        license_link=card.get("license_link"),
        pipeline_tag=card.get("pipeline_tag"),
    )


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


def _pipeline(files: ModelFiles, index: Mapping[str, Any]) -> str:
    match index.get("_class_name"):
        case str(name) if name in TASKS:
            return name
        case [str(module), str(name)] if name in TASKS and (f"{module}.py" in files.sizes or files.from_cache):
            return name
        case entry:
            raise ValueError(
                f"`model` is {files.model}, whose {INDEX} names the class {entry!r}; it must be {' or '.join(TASKS)}, or"
                " [MODULE, one of them] with MODULE.py beside it."
            )


def _code(files: ModelFiles, index: Mapping[str, Any]) -> Iterator[str]:
    """Yield the paths of the code that loading the pipeline runs."""
    for name, entry in index.items():
        match entry:
            case [str(module), str()] if name == "_class_name":
                yield f"{module}.py"
            case [str(module), str()] if f"{name}/{module}.py" in files.sizes:
                yield f"{name}/{module}.py"


def _components(files: ModelFiles, prior: ModelFiles, index: Mapping[str, Any]) -> dict[str, ComponentInfo | None]:
    """Describe all components; `prior` has the weights of the UNet."""
    saved = [name for name, entry in index.items() if _is_component(entry) and not name.startswith("_")]
    weights = stored_weights(files, saved)
    components = {
        name: _component(files, name, index.get(name), weights.get(name, ()))
        for name in dict.fromkeys([*NETWORKS_AND_SCHEDULER, *saved])
    }
    if prior is not files and components["unet"] is not None:
        shared = stored_weights(prior, ["unet"])["unet"]
        components["unet"] = replace(components["unet"], weights=shared, source=prior.model)
    return components


def _is_component(entry: object) -> bool:
    match entry:
        case [None, None] | [str(), str()]:
            return True
        case _:
            return False


def _component(
    files: ModelFiles, name: str, entry: object, weights: tuple[StoredWeights, ...]
) -> ComponentInfo | None:
    match entry:
        case None | [None, None]:
            return None
        case [str(library), str(class_name)]:
            return ComponentInfo(library, class_name, weights)
        case _:
            raise ValueError(
                f"`{name}` in {INDEX} of {files.model} is {entry!r}; it must be [library, class], or [null, null] for none."
            )


def _presets(files: ModelFiles, index: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    presets = index.get("presets") or {}
    if not isinstance(presets, dict) or not all(isinstance(settings, dict) for settings in presets.values()):
        raise ValueError(f"`presets` in {INDEX} of {files.model} is {presets!r}; it must be settings by name.")
    return presets


def _read_config(
    files: ModelFiles, path: str, component: ComponentInfo | None, may_be_missing: bool = False
) -> dict[str, Any] | None:
    """Return the config of a component; `None` without the component, and where it is neither here nor to be fetched."""
    may_be_missing = may_be_missing or files.from_cache
    if component is None or (may_be_missing and not (files.folder / path).is_file()):
        return None
    return read_json(files, path)


def _face_size(files: ModelFiles, unet_config: Mapping[str, Any]) -> tuple[int, int] | None:
    match unet_config.get("sample_size"):
        case None:
            return None
        case int(side):
            return side, side
        case [int(height), int(width)]:
            return height, width
        case size:
            raise ValueError(
                f"`sample_size` in {UNET_CONFIG} of {files.model} is {size!r}; it must be an integer, two, or null."
            )


def _patch_size(files: ModelFiles, unet_config: Mapping[str, Any]) -> int:
    match unet_config.get("patch_size", 1):
        case int(size) if size >= 1:
            return size
        case size:
            raise ValueError(
                f"`patch_size` in {UNET_CONFIG} of {files.model} is {size!r}; it must be an integer of at least 1."
            )
