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
from ..utils.atomic import whole_folder
from .remote_code import self_contained


INDEX = "model_index.json"
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


def export_remote_code(folder: str | Path, output: str | Path) -> Path:
    """Copy the folder of a pipeline, and put the code of the pipeline and of its components beside the weights.

    Everything else stays as it is but for `model_index.json`, which names the new files, and `README.md`, which gets a
    section on how to load them; the bundled inpainting model gets the prior that it shares. The new folder appears only
    when it is whole.

    Args:
        folder: what `save_pretrained` of a pipeline of this package wrote, or the converter.
        output: the new folder.

    Returns:
        `output`.

    Raises:
        FileNotFoundError: `folder` has no `model_index.json`.
        ValueError: the pipeline is not of this package, or a component neither of it nor of diffusers; or `output` lies
            inside `folder`, or exists and is not an empty folder.
    """
    folder, output = Path(folder), Path(output)
    if not (folder / INDEX).is_file():
        raise FileNotFoundError(f"`folder` is {folder}, which has no {INDEX}; it must be the folder of a pipeline.")
    if output.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"`output` is {output}, inside of `folder`, {folder}; it must lie elsewhere.")
    index = _read_index(folder)
    if shared := shares_prior(index):
        index["unet"] = _read_index(Path(BUNDLED_MODEL))["unet"]
    files = code_files(index)
    with whole_folder(output) as copy:
        shutil.copytree(folder, copy, ignore=shutil.ignore_patterns(*LEFT_OUT), copy_function=shutil.copyfile)
        if shared:
            shutil.copytree(Path(BUNDLED_MODEL, "unet"), copy / "unet", copy_function=shutil.copyfile)
        for name, text in files.items():
            (copy / name).write_text(text, encoding="utf-8")
        if (copy / "README.md").exists():
            with (copy / "README.md").open("a", encoding="utf-8") as card:
                card.write(USAGE)
    return output


def _read_index(folder: Path) -> dict[str, Any]:
    return json.loads((folder / INDEX).read_text(encoding="utf-8"))


def code_files(index: dict[str, Any]) -> dict[str, str]:
    """Write what lets a pipeline load without this package.

    Args:
        index: what `model_index.json` holds.

    Returns:
        The files by path: one of code for the pipeline, one for each component of the package, and an index that names
        them.

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
    files[INDEX] = json.dumps(index | changes, indent=2, sort_keys=True) + "\n"
    return files


def class_of_package(name: object, base: type) -> type | None:
    """Find a public class of this package that derives from `base`."""
    cls = getattr(difface_diffusers, name, None) if isinstance(name, str) and name != base.__name__ else None
    return cls if isinstance(cls, type) and issubclass(cls, base) else None
