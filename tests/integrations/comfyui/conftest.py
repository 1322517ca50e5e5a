"""The folder as ComfyUI loads it, its nodes as ComfyUI runs them, and what ComfyUI lends to them."""

import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from difface_diffusers import DifFaceInpaintPipeline, LaMaEstimator
from tests.conftest import ddim, tiny_unet


FOLDER = Path(__file__).parents[3] / "integrations" / "comfyui"


class InterruptedByUserError(Exception):
    """ComfyUI's own."""


def load_custom_node(folder):
    """Load a folder by the steps of ComfyUI's loader."""
    name = str(folder).replace(".", "_x_")
    spec = importlib.util.spec_from_file_location(name, folder / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def execute(node_class, **inputs):
    """Run a node by the steps of ComfyUI: inputs checked, those that are missing by default, without gradients."""
    definitions = node_class.INPUT_TYPES()
    assert set(definitions) == {"required"}
    required = definitions["required"]
    assert set(inputs) <= set(required)
    for name, (kind, options) in required.items():
        value = inputs.setdefault(name, options.get("default"))
        assert value is not None, name
        if isinstance(kind, list):
            assert value in kind
        elif "min" in options:
            assert options["min"] <= value <= options["max"]
    with torch.inference_mode():
        answer = getattr(node_class(), node_class.FUNCTION)(**inputs)
    assert isinstance(answer, tuple) and len(answer) == len(node_class.RETURN_TYPES)
    for kind, value in zip(node_class.RETURN_TYPES, answer, strict=True):
        if kind in ("IMAGE", "MASK"):
            assert value.dtype == torch.float32 and value.device.type == "cpu"
            assert value.ndim == {"IMAGE": 4, "MASK": 3}[kind]
            assert value.min() >= 0 and value.max() <= 1
    return answer


@pytest.fixture(scope="package")
def package(tmp_path_factory):
    """The module of the folder, copied to where nothing of the repository is near; its path has a dot."""
    folder = tmp_path_factory.mktemp("ComfyUI") / "custom_nodes" / "difface-0.1"
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return load_custom_node(folder)


@pytest.fixture(scope="package")
def nodes(package):
    return package.NODE_CLASS_MAPPINGS


@pytest.fixture(scope="package")
def part(package):
    """One of the folder's files, by name."""
    return lambda name: sys.modules[f"{package.__name__}.{name}"]


@pytest.fixture
def inpainter():
    torch.manual_seed(4)
    estimator = LaMaEstimator(base_channels=4, num_downsamples=2, num_blocks=1).eval()
    pipe = DifFaceInpaintPipeline(tiny_unet(), estimator, ddim(), default_num_inference_steps=4)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture
def load(part):
    """Makes of a pipeline what the nodes that load models hand on."""
    return lambda pipe, preset=None: part("loading").LoadedModel(pipe, preset)


@pytest.fixture
def comfyui(monkeypatch, tmp_path):
    """What ComfyUI lends: `shown` is what its progress bar was told, `cancel()` what its button does."""
    host = SimpleNamespace(shown=[], cancelled=False, emptied=0, device="cpu", models=tmp_path / "models")

    class ProgressBar:
        def __init__(self, total):
            self.total = total

        def update_absolute(self, value, total=None, preview=None):
            host.shown.append((value, self.total if total is None else total, preview))

    def throw_exception_if_processing_interrupted():
        if host.cancelled:
            host.cancelled = False
            raise InterruptedByUserError

    def cancel():
        host.cancelled = True

    def soft_empty_cache():
        host.emptied += 1

    host.cancel = cancel
    parts = {
        "comfy": {},
        "comfy.utils": {"ProgressBar": ProgressBar},
        "comfy.model_management": {
            "throw_exception_if_processing_interrupted": throw_exception_if_processing_interrupted,
            "soft_empty_cache": soft_empty_cache,
            "get_torch_device": lambda: torch.device(host.device),
        },
        "folder_paths": {"models_dir": str(host.models)},
    }
    for name, content in parts.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    return host
