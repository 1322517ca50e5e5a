import json
import shutil
import struct
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from difface_diffusers import (
    BUNDLED_INPAINT_MODEL,
    BUNDLED_MODEL,
    DifFaceInpaintPipeline,
    DifFacePipeline,
    DifFaceUNet2DModel,
)
from difface_diffusers.hub.export_remote_code import export_remote_code
from difface_diffusers.hub.model_info import ComponentInfo, model_info

from ..conftest import SIZE, tiny_estimator, tiny_unet


WEIGHTS = "diffusion_pytorch_model.safetensors"
CARD = """\
---
license: other
license_name: s-lab-license-1.0
license_link: https://example.org/LICENSE
pipeline_tag: image-to-image
---
# A model
"""


@pytest.fixture
def folder(pipe, tmp_path):
    pipe.register_to_config(presets={"fast": {"num_inference_steps": 2}})
    pipe.save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "README.md").write_text(CARD)
    return tmp_path / "model"


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_bundled_model():
    info = model_info(BUNDLED_MODEL)
    pipe = DifFacePipeline.from_pretrained(BUNDLED_MODEL)
    assert info.model == BUNDLED_MODEL and info.revision is None and not info.from_cache
    assert info.task == "restoration" and info.face_size == pipe.model_size == (256, 256) and info.patch_size == 2
    assert info.license == "cc-by-nc-sa-4.0"
    for component in ("unet", "estimator"):
        (weights,) = getattr(info, component).weights
        assert weights.dtypes == ("float16",) and weights.variant is None
        assert weights.num_parameters == count(getattr(pipe, component))


def test_bundled_inpainting_model():
    info = model_info(BUNDLED_INPAINT_MODEL)
    pipe = DifFaceInpaintPipeline.from_pretrained(BUNDLED_INPAINT_MODEL)
    assert info.task == "inpainting" and info.face_size == pipe.model_size == (256, 256)
    assert info.unet == replace(model_info(BUNDLED_MODEL).unet, source=BUNDLED_MODEL)
    assert info.estimator.source is None
    for component in ("unet", "estimator"):
        (weights,) = getattr(info, component).weights
        assert weights.dtypes == ("float16",) and weights.num_parameters == count(getattr(pipe, component))


def test_a_copy_of_the_bundled_inpainting_model_shares_it_too(tmp_path):
    shutil.copytree(BUNDLED_INPAINT_MODEL, tmp_path / "copy")
    assert model_info(tmp_path / "copy").unet == model_info(BUNDLED_INPAINT_MODEL).unet


def test_what_a_folder_holds(folder):
    info = model_info(folder)
    assert info.model == str(folder) and info.pipeline == "DifFacePipeline" and info.face_size == (SIZE, SIZE)
    assert info.defaults == {"num_inference_steps": 4, "start_timestep": 400, "eta": 0.5, "s_noise": 1.0}
    assert info.presets == {"fast": {"num_inference_steps": 2}}
    assert info.scheduler == ComponentInfo("diffusers", "DDIMScheduler")
    assert info.scheduler_settings == {
        "num_train_timesteps": 1000, "beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02,
        "prediction_type": "epsilon", "timestep_spacing": "leading", "clip_sample": True,
    }  # fmt: skip
    assert (info.license, info.license_link) == ("s-lab-license-1.0", "https://example.org/LICENSE")
    assert info.pipeline_tag == "image-to-image"
    assert (info.unet.library, info.unet.class_name) == ("diffusers", "UNet2DModel")
    assert (info.estimator.library, info.estimator.class_name) == ("difface_diffusers", "SRCNNEstimator")
    for component, network in (("unet", tiny_unet()), ("estimator", tiny_estimator())):
        (weights,) = getattr(info, component).weights
        assert weights.num_files == 1 and weights.num_bytes == (folder / component / WEIGHTS).stat().st_size
        assert weights.dtypes == ("float32",) and weights.num_parameters == count(network)


def test_patches(pipe, folder):
    pipe.register_modules(unet=tiny_unet(cls=DifFaceUNet2DModel, patch_size=2))
    pipe.save_pretrained(folder)
    info = model_info(folder)
    assert info.patch_size == 2 and info.face_size == (SIZE, SIZE)
    assert info.unet.weights[0].num_parameters == count(pipe.unet)


def test_every_variant(pipe, folder):
    pipe.to(torch.float16).save_pretrained(folder, variant="fp16")
    default, half = model_info(folder).unet.weights
    assert (default.variant, default.dtypes) == (None, ("float32",))
    assert (half.variant, half.dtypes) == ("fp16", ("float16",))
    assert half.num_bytes < default.num_bytes and half.num_parameters == default.num_parameters


@pytest.mark.parametrize("variant", [None, "fp16"])
def test_weights_in_several_files(pipe, tmp_path, variant):
    pipe.save_pretrained(tmp_path, max_shard_size="20KB", variant=variant)
    (weights,) = model_info(tmp_path).unet.weights
    files = list((tmp_path / "unet").glob("*.safetensors"))
    assert weights.variant == variant and weights.num_files == len(files) > 1
    assert weights.num_bytes == sum(file.stat().st_size for file in files)
    assert weights.num_parameters == count(pipe.unet)


def test_several_dtypes_in_a_file(folder):
    file = folder / "estimator" / WEIGHTS
    tensors = load_file(file)
    name = next(iter(tensors))
    save_file(tensors | {name: tensors[name].bfloat16()}, file)
    assert model_info(folder).estimator.weights[0].dtypes == ("bfloat16", "float32")


def test_the_weights_are_not_loaded(folder):
    before = model_info(folder).unet.weights[0]
    file = folder / "unet" / WEIGHTS
    content = file.read_bytes()
    header = 8 + struct.unpack("<Q", content[:8])[0]
    file.write_bytes(content[:header])
    after = model_info(folder).unet.weights[0]
    assert (after.dtypes, after.num_parameters) == (before.dtypes, before.num_parameters)
    assert after.num_bytes == header


def test_a_folder_with_its_own_code(folder, tmp_path):
    before = model_info(folder)
    assert (before.trust_remote_code, before.code) == (False, ())
    new = export_remote_code(folder, tmp_path / "new")
    for file in new.rglob("*.py"):
        file.write_text("raise SystemExit('run')")
    info = model_info(new)
    assert (info.trust_remote_code, info.code) == (True, ("pipeline.py", "estimator/modeling_srcnnestimator.py"))
    assert info.estimator == replace(before.estimator, library="modeling_srcnnestimator")
    assert (info.pipeline, info.task, info.unet) == (before.pipeline, before.task, before.unet)


def test_code_of_a_component_alone(folder):
    (folder / "estimator" / "mine.py").touch()
    (folder / "pipeline.py").touch()  # which nothing names
    change(folder / "model_index.json", estimator=["mine", "Estimator"])
    assert model_info(folder).code == ("estimator/mine.py",)


@pytest.mark.parametrize("nothing", [None, [None, None], "no entry"])
def test_components_that_were_not_saved(folder, nothing):
    index = folder / "model_index.json"
    for name in ("estimator", "unet", "scheduler"):
        entries = json.loads(index.read_text()) | {name: nothing}
        index.write_text(json.dumps({name: entry for name, entry in entries.items() if entry != "no entry"}))
        assert getattr(model_info(folder), name) is None
    info = model_info(folder)
    assert (info.face_size, info.patch_size, info.scheduler_settings) == (None, None, {})


def test_a_pipeline_saved_without_its_estimator(pipe, tmp_path):
    DifFacePipeline(pipe.unet, None, pipe.scheduler).save_pretrained(tmp_path)
    info = model_info(tmp_path)
    assert info.estimator is None and info.face_size == (SIZE, SIZE)


def test_a_prior_that_is_saved_elsewhere(folder):
    shutil.rmtree(folder / "unet")
    info = model_info(folder)
    assert info.unet == ComponentInfo("diffusers", "UNet2DModel")
    assert (info.face_size, info.patch_size) == (None, None)


@pytest.mark.parametrize("config", [{"sample_size": None}, {}])
def test_a_prior_of_no_size(folder, config):
    (folder / "unet" / "config.json").write_text(json.dumps(config))
    info = model_info(folder)
    assert (info.face_size, info.patch_size) == (None, 1)


def test_further_components(folder):
    change(
        folder / "model_index.json",
        upscaler=["transformers", "Swin2SR"],
        judge=[None, None],
        _kept=["a", "b"],
        sides=[1, 2],
    )
    (folder / "upscaler").mkdir()
    shutil.copy(folder / "unet" / WEIGHTS, folder / "upscaler" / "model.safetensors")
    info = model_info(folder)
    assert info.others == {"judge": None, "upscaler": ComponentInfo("transformers", "Swin2SR", info.unet.weights)}


@pytest.mark.parametrize(
    ("saved", "presets"),
    [({"fast": {"scheduler": "dpm-multistep", "num_inference_steps": 12}, "exact": {}}, ...), ({}, {}), (None, {})],
)
def test_presets(folder, saved, presets):
    change(folder / "model_index.json", presets=saved)
    assert model_info(folder).presets == (saved if presets is ... else presets)


def test_task_of_the_inpainting_pipeline(folder):
    change(folder / "model_index.json", _class_name="DifFaceInpaintPipeline")
    assert model_info(folder).task == "inpainting"


def test_a_component_of_a_stranger_is_named_and_not_imported(folder, tmp_path, monkeypatch):
    (tmp_path / "stranger.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    change(folder / "model_index.json", estimator=["stranger", "Estimator"])
    estimator = model_info(folder).estimator
    assert (estimator.library, estimator.class_name) == ("stranger", "Estimator")
    assert "stranger" not in sys.modules


def test_faces_that_are_not_square(folder):
    change(folder / "unet" / "config.json", sample_size=[64, 32])
    assert model_info(folder).face_size == (64, 32)


@pytest.mark.parametrize(
    ("card", "license"), [("---\nlicense: mit\n---\n", "mit"), ("---\nlicense:\n---\n", None), ("# A model", None)]
)
def test_license(folder, card, license):
    (folder / "README.md").write_text(card)
    assert model_info(folder).license == license


def test_no_card(folder):
    (folder / "README.md").unlink()
    info = model_info(folder)
    assert (info.license, info.license_link, info.pipeline_tag) == (None, None, None)


# Errors


@pytest.mark.parametrize("name", ["model_index.json", "unet/config.json", "scheduler/scheduler_config.json"])
def test_missing_text(folder, name):
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"model, which has no {name}; it must be a saved DifFace pipeline"):
        model_info(folder)


@pytest.mark.parametrize("pipeline", ["DDPMPipeline", None, ["module", "DifFacePipeline"], ["code", "DDPMPipeline"]])
def test_another_pipeline(folder, pipeline):
    (folder / "code.py").touch()
    change(folder / "model_index.json", _class_name=pipeline)
    with pytest.raises(ValueError, match=r"names the class .*; it must be DifFacePipeline or DifFaceInpaintPipeline"):
        model_info(folder)


@pytest.mark.parametrize("component", ["unet", "estimator", "scheduler"])
@pytest.mark.parametrize("entry", ["UNet2DModel", ["diffusers"], [None, "UNet2DModel"], ["diffusers", None], []])
def test_bad_component(folder, component, entry):
    change(folder / "model_index.json", **{component: entry})
    with pytest.raises(
        ValueError, match=rf"`{component}` in model_index.json of .* it must be \[library, class\], or"
    ):
        model_info(folder)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model_index.json", b"{", "model_index.json of .* is no JSON"),
        ("model_index.json", b"\xff", "model_index.json of .* is no JSON"),
        ("unet/config.json", b"[]", "unet/config.json of .* is a JSON list; it must be an object"),
        (
            "model_index.json",
            b'{"_class_name": "DifFacePipeline", "presets": ["fast"]}',
            "`presets` .* settings by name",
        ),
        (
            "model_index.json",
            b'{"_class_name": "DifFacePipeline", "presets": {"a": 3}}',
            "`presets` in model_index.json",
        ),
        (
            "unet/config.json",
            b'{"sample_size": "64"}',
            "`sample_size` .* is '64'; it must be an integer, two, or null",
        ),
        ("unet/config.json", b'{"sample_size": 64, "patch_size": 0}', "`patch_size` in unet/config.json of .* is 0"),
        ("unet/config.json", b'{"sample_size": 64, "patch_size": "2"}', "is '2'; it must be an integer of at least 1"),
        ("README.md", b"---\nlicense: [\n---\n", "README.md of .* begins with broken YAML"),
        ("README.md", b"---\nmit\n---\n", "README.md of .* begins with broken YAML"),
        ("README.md", b"\xff", "README.md of .* begins with broken YAML"),
        (f"unet/{WEIGHTS}", b"version https://git-lfs", f"unet/{WEIGHTS} of .* is no safetensors file"),
        (f"unet/{WEIGHTS}", struct.pack("<Q", 2) + b"[]", f"unet/{WEIGHTS} of .* is no safetensors file"),
        (f"unet/{WEIGHTS}", struct.pack("<Q", 7) + b'{"a":1}', f"unet/{WEIGHTS} of .* is no safetensors file"),
    ],
)
def test_damaged_file(folder, name, content, message):
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        model_info(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("model", ["/no/such/folder", "./model", "a/b/c", "two words"])
def test_neither_a_folder_nor_an_id(model):
    with pytest.raises(FileNotFoundError, match="neither a folder nor the form of a Hub id"):
        model_info(model)


def test_an_id_that_is_not_in_the_cache():
    with pytest.raises(
        OSError, match=r"'nobody/nothing', which is no folder and not in the cache, .* offline mode is"
    ):
        model_info("nobody/nothing")
