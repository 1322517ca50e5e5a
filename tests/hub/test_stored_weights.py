"""Which weights there are of what is found in folders, through `model_info`; `loaded` is compared with what is loaded."""

import shutil
from dataclasses import replace

import pytest
import torch

from difface_diffusers import DifFacePipeline
from difface_diffusers.hub.model_info import model_info
from tests.conftest import ddim, tiny_estimator, tiny_unet
from tests.hub.hub_server import FakeHub


BIN = "diffusion_pytorch_model.bin"


def weights_of(model, component="unet"):
    """Return variant, format, whether they are loaded, and number of files of each."""
    stored = getattr(model_info(model), component).weights
    return [(weights.variant, weights.format, weights.loaded, weights.num_files) for weights in stored]


def save(folder, unet, estimator, variant=None):
    """Save a pipeline whose networks are stored in the given formats; the numbers in .bin are all 0."""
    DifFacePipeline(tiny_unet(), tiny_estimator(), ddim()).save_pretrained(folder)
    for name, network, formats in (("unet", tiny_unet(), unet), ("estimator", tiny_estimator(), estimator)):
        shutil.rmtree(folder / name)
        if "safetensors" in formats:
            network.save_pretrained(folder / name, variant=variant)
        if "bin" in formats:
            for parameter in network.parameters():
                torch.nn.init.zeros_(parameter)
            network.save_pretrained(folder / name, variant=variant, safe_serialization=False)


def loaded(model, **options):
    """Return in which format each network of a pipeline of `save` was loaded."""
    pipe = DifFacePipeline.from_pretrained(model, **options)
    networks = {"unet": pipe.unet, "estimator": pipe.estimator}
    return {
        name: "safetensors" if any(parameter.any() for parameter in network.parameters()) else "bin"
        for name, network in networks.items()
    }


def said_to_be_loaded(model):
    info = model_info(model)
    networks = {"unet": info.unet, "estimator": info.estimator}
    return {name: next(w.format for w in network.weights if w.loaded) for name, network in networks.items()}


@pytest.mark.parametrize("variant", [None, "fp16"])
def test_pickles_are_measured_and_not_opened(pipe, tmp_path, variant):
    pipe.save_pretrained(tmp_path, safe_serialization=False, variant=variant)
    (file,) = (tmp_path / "unet").glob("*.bin")
    file.write_bytes(b"cos\nabort\n(tR.")  # would end the process
    (weights,) = model_info(tmp_path).unet.weights
    assert weights.num_bytes == file.stat().st_size and (weights.dtypes, weights.num_parameters) == (None, None)
    assert weights_of(tmp_path) == weights_of(tmp_path, "estimator") == [(variant, "bin", True, 1)]


@pytest.mark.parametrize("variant", [None, "fp16"])
def test_pickles_in_several_files_are_not_loaded_by_default(pipe, tmp_path, variant):
    pipe.save_pretrained(tmp_path, safe_serialization=False, max_shard_size="20KB", variant=variant)
    files = list((tmp_path / "unet").glob("*.bin"))
    assert weights_of(tmp_path) == [(variant, "bin", False, len(files))] and len(files) > 1
    assert model_info(tmp_path).unet.weights[0].num_bytes == sum(file.stat().st_size for file in files)
    with pytest.raises(OSError, match=r"no file named diffusion_pytorch_model.*\.bin"):
        DifFacePipeline.from_pretrained(tmp_path, variant=variant)
    DifFacePipeline.from_pretrained(tmp_path, variant=variant, use_safetensors=False)


def test_safetensors_come_first(pipe, tmp_path):
    for variant in (None, "fp16"):
        pipe.save_pretrained(tmp_path, variant=variant)
        before = model_info(tmp_path).unet.weights
        pipe.unet.save_pretrained(tmp_path / "unet", variant=variant, safe_serialization=False)
    assert weights_of(tmp_path) == [
        (None, "safetensors", True, 1), (None, "bin", False, 1),
        ("fp16", "safetensors", True, 1), ("fp16", "bin", False, 1),
    ]  # fmt: skip
    assert model_info(tmp_path).unet.weights[::2] == (before[0], replace(before[0], variant="fp16"))


def test_a_variant_in_bin_beside_a_default_in_safetensors(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    pipe.save_pretrained(tmp_path, variant="fp16", safe_serialization=False)
    assert weights_of(tmp_path) == [(None, "safetensors", True, 1), ("fp16", "bin", True, 1)]


def test_old_names_of_files(pipe, tmp_path):
    pipe.save_pretrained(tmp_path, safe_serialization=False)
    for number in (1, 2):
        shutil.copy(
            tmp_path / "unet" / BIN, tmp_path / "unet" / f"diffusion_pytorch_model-0000{number}-of-00002.fp16.bin"
        )
    for name in ("optimizer.bin", "diffusion_pytorch_model.bin.index.json", "model.onnx"):
        (tmp_path / "unet" / name).touch()
    assert weights_of(tmp_path) == [(None, "bin", True, 1), ("fp16", "bin", False, 2)]


SAFE, PICKLE, BOTH = ["safetensors"], ["bin"], ["safetensors", "bin"]


@pytest.mark.parametrize(
    ("unet", "estimator"), [(BOTH, SAFE), (BOTH, PICKLE), (BOTH, BOTH), (SAFE, PICKLE), (PICKLE, PICKLE)]
)
def test_what_is_loaded_from_a_folder(tmp_path, unet, estimator):
    save(tmp_path, unet, estimator)
    assert said_to_be_loaded(tmp_path) == loaded(tmp_path)


@pytest.mark.parametrize("variant", [None, "fp16"])
@pytest.mark.parametrize(("unet", "estimator"), [(BOTH, SAFE), (BOTH, PICKLE), (BOTH, BOTH), (PICKLE, PICKLE)])
def test_what_is_loaded_from_the_hub(tmp_path, unet, estimator, variant):
    save(tmp_path / "model", unet, estimator, variant)
    with FakeHub(tmp_path / "server") as hub:
        hub.add(tmp_path / "model", "org/mixed")
        with hub.client(tmp_path / "home"):
            assert said_to_be_loaded("org/mixed") == loaded("org/mixed", variant=variant)
        with hub.client(tmp_path / "home", HF_ENDPOINT="http://127.0.0.1:9"):
            assert said_to_be_loaded("org/mixed") == loaded("org/mixed", variant=variant)


def test_a_repository_that_cannot_be_loaded(tmp_path):
    save(tmp_path / "model", SAFE, PICKLE)
    with FakeHub(tmp_path / "server") as hub:
        hub.add(tmp_path / "model", "org/mixed")
        with hub.client(tmp_path / "home"):
            assert weights_of("org/mixed") == [(None, "safetensors", False, 1)]
            with pytest.raises(OSError, match=r"no file named diffusion_pytorch_model\.bin"):
                DifFacePipeline.from_pretrained("org/mixed")
