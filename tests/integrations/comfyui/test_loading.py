import importlib.util
import subprocess
import sys

import pytest
import torch

from difface_diffusers import DifFaceInpaintPipeline, DifFacePipeline
from difface_diffusers.hub import named_models

from .conftest import FOLDER, execute


LOADER = """
import importlib.util, shutil, sys
sys.path[:] = [path for path in sys.path if path]
folder = shutil.copytree(sys.argv[1], "custom_nodes/difface")
spec = importlib.util.spec_from_file_location(folder, f"{folder}/__init__.py")
module = importlib.util.module_from_spec(spec)
sys.modules[folder] = module
spec.loader.exec_module(module)
inputs = [node.INPUT_TYPES()["required"] for node in module.NODE_CLASS_MAPPINGS.values()]
assert len(inputs) == 6 and set(module.NODE_DISPLAY_NAME_MAPPINGS) == set(module.NODE_CLASS_MAPPINGS)
print(*sorted({name.partition(".")[0] for name in sys.modules} & {"comfy", "folder_paths", "diffusers", "difface_diffusers"}))
"""


def test_loading_imports_neither_comfyui_nor_the_package(tmp_path):
    """So that ComfyUI starts as fast with it; the package is imported by the first node that runs."""
    command = [sys.executable, "-c", LOADER, str(FOLDER)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_without_the_package_it_says_what_to_install(monkeypatch, package):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="python -m pip install difface-diffusers"):
        package.__spec__.loader.exec_module(package)


@pytest.mark.parametrize(
    ("node", "kind"), [("DifFaceLoadModel", DifFacePipeline), ("DifFaceLoadInpaintingModel", DifFaceInpaintPipeline)]
)
def test_loads_the_bundled_model(nodes, node, kind):
    (model,) = execute(nodes[node], device="cpu")
    assert type(model.pipe) is kind and model.preset is None
    assert model.pipe.device.type == "cpu" and model.pipe.unet.dtype == torch.float32


def test_loads_a_folder_in_a_precision(nodes, pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "mine")
    (model,) = execute(nodes["DifFaceLoadModel"], model=str(tmp_path / "mine"), dtype="bfloat16", device="cpu")
    assert model.pipe.unet.dtype == torch.bfloat16 and model.pipe.config.default_num_inference_steps == 4


def test_loads_from_the_folder_of_comfyuis_models_onto_its_device(nodes, pipe, comfyui):
    pipe.save_pretrained(comfyui.models / "difface" / "mine")
    comfyui.device = "meta"
    (model,) = execute(nodes["DifFaceLoadModel"], model="mine")
    assert model.pipe.config.default_num_inference_steps == 4
    assert model.pipe.device.type == "meta"


def test_loads_the_official_model_by_its_name(nodes, pipe, tmp_path, monkeypatch):
    pipe.save_pretrained(tmp_path / "made")
    monkeypatch.setattr(
        named_models, "official_model", lambda task: tmp_path / "made" if task == "restoration" else None
    )
    (model,) = execute(nodes["DifFaceLoadModel"], model="official", device="cpu")
    assert model.pipe.config.default_num_inference_steps == 4


def test_hands_on_a_preset(nodes):
    (model,) = execute(nodes["DifFaceLoadModel"], preset="fast", device="cpu")
    assert model.preset == "fast"


@pytest.mark.parametrize(
    ("node", "inputs", "message"),
    [
        ("DifFaceLoadModel", {"model": "no/such-folder/at-all"}, "`model` no/such-folder/at-all cannot be used: "),
        ("DifFaceLoadModel", {"preset": "slow"}, "^`preset` is 'slow'; it must be one of fast, balanced, reference"),
        ("DifFaceLoadModel", {"device": "cuda"}, "`device` cuda cannot be used: "),
        ("DifFaceLoadInpaintingModel", {"preset": "fast"}, "^`preset` is 'fast'; this pipeline has none"),
    ],
)
def test_what_cannot_be_loaded(nodes, node, inputs, message):
    if inputs.get("device") == "cuda" and torch.cuda.is_available():
        pytest.skip("there is such a device")
    with pytest.raises(ValueError, match=message):
        execute(nodes[node], **{"device": "cpu"} | inputs)


def test_a_model_that_restores_does_not_fill(nodes, pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "mine")
    with pytest.raises(ValueError, match=r"`model` .*mine cannot be used: "):
        execute(nodes["DifFaceLoadInpaintingModel"], model=str(tmp_path / "mine"), device="cpu")
