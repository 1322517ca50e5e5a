"""The same restoration by every way that there is to it: the same pixels for the same seed."""

import sys

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, ModularPipeline
from diffusers.utils import dynamic_modules_utils
from gradio_client import Client, handle_file
from PIL import Image

from difface_diffusers import DifFaceBlocks, DifFacePipeline, restore_photo
from difface_diffusers.acceleration import allocation
from difface_diffusers.cli import main
from difface_diffusers.demo import build_demo, launch, load_models
from difface_diffusers.hub.export_remote_code import export_remote_code
from difface_diffusers.imaging.files import read_photo

from .conftest import SIZE, ddim, free_port, tiny_estimator, tiny_unet
from .demo.conftest import PHOTOGRAPH
from .integrations.comfyui.conftest import FOLDER, execute, load_custom_node
from .integrations.comfyui.test_images import load_image, save_image


SEED = 7


def generator():
    return torch.Generator().manual_seed(SEED)


def by_pipeline(folder, face, work):
    return DifFacePipeline.from_pretrained(folder)(Image.open(face), generator=generator()).images[0]


def by_command_line(folder, face, work):
    arguments = [
        "restore",
        face,
        "--aligned",
        "--model",
        folder,
        "--seed",
        SEED,
        "--device",
        "cpu",
        "-o",
        work / "cli",
    ]
    assert main([str(argument) for argument in arguments]) == 0
    return Image.open(work / "cli" / face.name)


def by_blocks(folder, face, work):
    return run_blocks(DifFaceBlocks().init_pipeline(folder), face)


def by_modular_pipeline(folder, face, work):
    return run_blocks(ModularPipeline.from_pretrained(folder), face)


def by_modular_remote_code(folder, face, work):
    exported = export_remote_code(folder, work / "exported")
    return run_blocks(ModularPipeline.from_pretrained(exported, trust_remote_code=True), face)


def by_remote_code(folder, face, work):
    exported = export_remote_code(folder, work / "exported")
    pipe = DiffusionPipeline.from_pretrained(exported, trust_remote_code=True)
    assert type(pipe) is not DifFacePipeline
    return pipe(Image.open(face), generator=generator()).images[0]


def by_comfyui(folder, face, work):
    node, model = load_nodes("DifFaceRestoreAligned", folder)
    (image,) = execute(node, model=model, image=load_image(np.asarray(Image.open(face))), seed=SEED)
    return save_image(image)[0]


def run_blocks(pipe, face):
    pipe.load_components()
    return pipe(image=Image.open(face), generator=generator(), output="images")[0]


# Each takes the folder of a pipeline, the path of an aligned face and an empty folder, and answers the restored picture.
HOSTS = [by_command_line, by_blocks, by_modular_pipeline, by_modular_remote_code, by_remote_code, by_comfyui]


def photo_by_command_line(folder, photo, work):
    arguments = ["restore", photo, "--upscale", 1, "--background", "none", "--model", folder, "--seed", SEED]
    assert main([str(argument) for argument in [*arguments, "--device", "cpu", "-o", work / "cli"]]) == 0
    return Image.open(work / "cli" / photo.name)


def photo_by_demo(folder, photo, work):
    demo = build_demo(*load_models(str(folder), device="cpu"))
    client = Client(launch(demo, port=free_port(), block=False), verbose=False, download_files=work / "downloads")
    answer = client.predict(photo=handle_file(photo), upscale=1, background="none", seed=SEED, api_name="/restore")
    demo.close()
    return Image.open(answer)


def photo_by_comfyui(folder, photo, work):
    node, model = load_nodes("DifFaceRestorePhoto", folder)
    image, _ = execute(
        node, model=model, image=load_image(np.asarray(Image.open(photo))), upscale=1.0, background="none", seed=SEED
    )
    return save_image(image)[0]


# The same of photographs.
HOSTS_OF_PHOTOGRAPHS = [photo_by_command_line, photo_by_demo, photo_by_comfyui]


def load_nodes(name, folder):
    """A node of ComfyUI, and what the one gives that loads a model."""
    nodes = load_custom_node(FOLDER).NODE_CLASS_MAPPINGS
    (model,) = execute(nodes["DifFaceLoadModel"], model=str(folder), device="cpu")
    return nodes[name], model


@pytest.fixture(autouse=True)
def apart(monkeypatch, tmp_path):
    """Leave the memory of the process, diffusers' folder of remote code and the modules from there alone."""
    monkeypatch.setattr(allocation, "keep_freed_memory", lambda: None)
    monkeypatch.setattr(dynamic_modules_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith(("diffusers_modules", "difface_blocks")):
            del sys.modules[name]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A pipeline whose saved settings touch all that a host could lose on the way: noise in each step, starts by damage."""
    folder = tmp_path_factory.mktemp("pipeline")
    settings = {"default_start_timestep": "auto", "default_eta": 0.8, "default_s_noise": 1.1, "noise_margin": 1.0}
    DifFacePipeline(tiny_unet(), tiny_estimator(), ddim(), 4, **settings).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def face(tmp_path_factory):
    path = tmp_path_factory.mktemp("face") / "face.png"
    pixels = np.random.default_rng(0).integers(0, 255, (SIZE + 8, SIZE + 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(scope="module")
def expected(folder, face):
    return np.asarray(by_pipeline(folder, face, None))


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.__name__)
def test_the_same_pixels_as_the_pipeline(host, folder, face, expected, tmp_path):
    np.testing.assert_array_equal(np.asarray(host(folder, face, tmp_path)), expected)


def test_another_seed_gives_others(folder, face, expected, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "SEED", SEED + 1)
    assert (np.asarray(by_pipeline(folder, face, None)) != expected).any()


@pytest.mark.filterwarnings("ignore:::gradio.queueing")
@pytest.mark.parametrize("host", HOSTS_OF_PHOTOGRAPHS, ids=lambda host: host.__name__)
def test_the_same_photograph_as_in_python(host, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    pipe = DifFacePipeline.from_pretrained(folder)
    photo = read_photo(PHOTOGRAPH).pixels
    expected = restore_photo(pipe, photo, upscale=1, background="none", generator=generator())
    assert len(expected.faces) == 1
    differences = np.abs(np.asarray(host(folder, PHOTOGRAPH, tmp_path)).astype(int) - np.asarray(expected.image))
    rounding = 1 if host is photo_by_demo else 0  # between its runs the demo keeps faces in 8 bits
    assert differences.max() <= rounding and differences.mean() < 0.01
