"""A pipeline folder to one that loads without this package.

It is a folder of its own because one cannot serve both: diffusers runs the code beside a component whenever there is any,
also for those who have the package, and never without `trust_remote_code`; without that code it refuses a repository
that names a library it does not know.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
from diffusers.models.modeling_utils import ModelMixin
from diffusers.pipelines.pipeline_utils import DiffusionPipeline

import difface_diffusers

from ..models.bundled import BUNDLED_MODEL, shares_prior
from ..pipelines.modular import DifFaceBlocks
from ..pipelines.modular_state import COMPONENTS, CONFIGS
from ..pipelines.pipeline_difface import DifFacePipeline
from ..utils.atomic import whole_folder
from .ids import HUB_ID
from .remote_code import self_contained


INDEX = "model_index.json"
MODULAR_INDEX = "modular_model_index.json"
MODULAR_CONFIG = "modular_config.json"
BLOCKS = "difface_blocks"
PACKAGE = difface_diffusers.__name__
SUFFIX = "-remote-code"
LEFT_OUT = (".git", ".cache", "__pycache__")
USAGE = """
## Without the package

This variant carries its own code, generated from difface_diffusers; diffusers and torch are enough:

```python
from diffusers import DiffusionPipeline

pipe = DiffusionPipeline.from_pretrained("path/or/repository", trust_remote_code=True)
```
"""
USAGE_OF_BLOCKS = """
Its blocks:

```python
from diffusers import ModularPipeline

pipe = ModularPipeline.from_pretrained("path/or/repository", trust_remote_code=True)
pipe.load_components()
```
"""
FIND_CLASSES = f"""

import sys  # noqa: E402

sys.modules[{BLOCKS!r}] = sys.modules[__name__]  # by this name {MODULAR_INDEX} finds the networks of this file
"""


def export_remote_code(folder: str | Path, output: str | Path, repo_id: str | None = None) -> Path:
    """Copy the folder of a pipeline, and put the code of the pipeline and of its components beside the weights.

    Everything else stays as it is but for `model_index.json`, which names the new files, and `README.md`, which gets a
    section on how to load them; the bundled inpainting model gets the prior that it shares. Restoration gets its blocks too,
    see `modular_files`. The new folder appears only when it is whole.

    Args:
        folder: what `save_pretrained` of a pipeline of this package wrote, or the converter.
        output: the new folder.
        repo_id: ORG/NAME, where the content of the folder will be; needed by nothing but its blocks, and by these only there.

    Returns:
        `output`.

    Raises:
        FileNotFoundError: `folder` has no `model_index.json`.
        ValueError: the pipeline is not of this package, or a component neither of it nor of diffusers; or `output` lies
            inside `folder`, or exists and is not an empty folder; or `repo_id` is malformed.
    """
    folder, output = Path(folder), Path(output)
    if not (folder / INDEX).is_file():
        raise FileNotFoundError(f"`folder` is {folder}, which has no {INDEX}; it must be the folder of a pipeline.")
    if output.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"`output` is {output}, inside of `folder`, {folder}; it must lie elsewhere.")
    if repo_id is not None and not HUB_ID.fullmatch(repo_id):
        raise ValueError(f"`repo_id` is {repo_id!r}; it must be ORG/NAME.")
    index = _read_index(folder)
    if shared := shares_prior(index):
        index["unet"] = _read_index(Path(BUNDLED_MODEL))["unet"]
    files = code_files(index, repo_id)
    with whole_folder(output) as copy:
        shutil.copytree(folder, copy, ignore=shutil.ignore_patterns(*LEFT_OUT), copy_function=shutil.copyfile)
        if shared:
            shutil.copytree(Path(BUNDLED_MODEL, "unet"), copy / "unet", copy_function=shutil.copyfile)
        for name, text in files.items():
            (copy / name).write_text(text, encoding="utf-8")
        if (copy / "README.md").exists():
            with (copy / "README.md").open("a", encoding="utf-8") as card:
                card.write(USAGE + (USAGE_OF_BLOCKS if MODULAR_INDEX in files else ""))
    return output


def _read_index(folder: Path) -> dict[str, Any]:
    return json.loads((folder / INDEX).read_text(encoding="utf-8"))


def code_files(index: dict[str, Any], repo_id: str | None = None) -> dict[str, str]:
    """Write what lets a pipeline load without this package.

    Args:
        index: what `model_index.json` holds.
        repo_id: see `export_remote_code`.

    Returns:
        The files by path: one of code for the pipeline, one for each component of the package, an index that names
        them, and those of `modular_files`.

    Raises:
        ValueError: see `export_remote_code`.
    """
    pipeline = class_of_package(index.get("_class_name"), DiffusionPipeline)
    if pipeline is None:
        raise ValueError(f"{INDEX} has {index.get('_class_name')!r} as pipeline; it must be one of {PACKAGE}.")
    files = {"pipeline.py": self_contained(pipeline)}
    changes = {"_class_name": ["pipeline", pipeline.__name__]}
    components = {name: entry for name, entry in index.items() if isinstance(entry, list)}
    for name, (library, class_name) in components.items():
        model = class_of_package(class_name, ModelMixin) if library == PACKAGE else None
        if model is not None:
            module = f"modeling_{class_name.lower()}"  # unlike any module or class of diffusers, which come first
            files[f"{name}/{module}.py"] = self_contained(model)
            changes[name] = [module, class_name]
        elif library is not None and not (library == "diffusers" and hasattr(diffusers, class_name)):
            raise ValueError(
                f"{INDEX} has {[library, class_name]} as `{name}`; it must be a class of diffusers or of {PACKAGE}."
            )
    files[INDEX] = _to_json(index | changes)
    if pipeline is DifFacePipeline:
        files |= modular_files(index, repo_id)
    return files


def modular_files(index: dict[str, Any], repo_id: str | None) -> dict[str, str]:
    """Write what lets `ModularPipeline` load the blocks without this package.

    diffusers takes code beside a component from `DiffusionPipeline`'s index alone, so the file of the blocks has the
    networks too, and enters itself under a name by which the index of the blocks finds them.

    Args:
        index: what `model_index.json` of a `DifFacePipeline` holds.
        repo_id: where the blocks load the components from; `None` is the folder itself, as long as it is one.

    Returns:
        The files by path: code, what names it, and an index of the components and of the saved settings.
    """
    modules, modular_index = [], {name: index[name] for name in CONFIGS if name in index}
    for name in COMPONENTS:
        library, class_name = index[name]
        if library == PACKAGE:
            modules.append(getattr(difface_diffusers, class_name))
            library = BLOCKS
        place = {"pretrained_model_name_or_path": repo_id, "subfolder": name, "variant": None, "revision": None}
        modular_index[name] = [library, class_name, {"type_hint": [library, class_name], **place}]
    blocks, version = DifFaceBlocks.__name__, diffusers.__version__
    modular_index |= {
        "_class_name": "ModularPipeline",
        "_blocks_class_name": blocks,
        "_diffusers_version": version,
    }
    config = {
        "_class_name": blocks,
        "_diffusers_version": version,
        "auto_map": {"ModularPipelineBlocks": f"{BLOCKS}.{blocks}"},
    }
    return {
        f"{BLOCKS}.py": self_contained(DifFaceBlocks, *modules) + FIND_CLASSES,
        MODULAR_CONFIG: _to_json(config),
        MODULAR_INDEX: _to_json(modular_index),
    }


def _to_json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, sort_keys=True) + "\n"


def class_of_package(name: object, base: type) -> type | None:
    """Find a public class of this package that derives from `base`."""
    cls = getattr(difface_diffusers, name, None) if isinstance(name, str) and name != base.__name__ else None
    return cls if isinstance(cls, type) and issubclass(cls, base) else None
