"""What version 0.1 saved, `goldens/release_0_1`: a pipeline with its answer, and a training that stopped at step 2 of 4."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file

from difface_diffusers import DifFacePipeline
from difface_diffusers.training import EstimatorConfig, load_config, train_estimator

from .training.tiny import write_faces


SAVED = Path(__file__).parent / "goldens" / "release_0_1"


def test_a_saved_pipeline_answers_as_it_did():
    pipe = DifFacePipeline.from_pretrained(SAVED / "pipeline")
    assert pipe.config.default_start_timestep == 300 and pipe.config.presets["fast"] == {"num_inference_steps": 2}
    pipe.set_progress_bar_config(disable=True)
    answer = load_file(SAVED / "answer.safetensors")
    restored = pipe(answer["face"], generator=torch.Generator().manual_seed(3), output_type="pt").images
    torch.testing.assert_close(restored, answer["restored"], rtol=0, atol=1e-5)


def test_it_is_saved_as_it_was(tmp_path):
    DifFacePipeline.from_pretrained(SAVED / "pipeline").save_pretrained(tmp_path)
    before, after = (
        json.loads((folder / "model_index.json").read_text()) for folder in (SAVED / "pipeline", tmp_path)
    )
    assert after.pop("_name_or_path") == str(SAVED / "pipeline")
    assert after | {"_diffusers_version": before["_diffusers_version"]} == before
    for part in ("unet", "estimator"):
        name = f"{part}/diffusion_pytorch_model.safetensors"
        before, after = load_file(SAVED / "pipeline" / name), load_file(tmp_path / name)
        assert before.keys() == after.keys() and all(before[key].equal(after[key]) for key in before)


def test_a_training_goes_on(tmp_path):
    shutil.copytree(SAVED / "run", tmp_path / "run")
    config = load_config(EstimatorConfig, tmp_path / "run" / "config.yaml")
    result = train_estimator(config, write_faces(tmp_path / "faces"), tmp_path / "run")
    assert result.step == 4 and result.finished
    trained = load_file(tmp_path / "run" / "estimator" / "diffusion_pytorch_model.safetensors")
    expected = load_file(SAVED / "trained.safetensors")
    assert trained.keys() == expected.keys()
    for name, weight in trained.items():
        torch.testing.assert_close(weight, expected[name], rtol=0, atol=1e-5)
