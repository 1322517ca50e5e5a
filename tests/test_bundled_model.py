"""The model in `difface_diffusers/mini`, on the one face that the repository carries."""

import json
from pathlib import Path

import pytest
import torch

from difface_diffusers import BUNDLED_MODEL, DifFacePipeline
from difface_diffusers.evaluation import gradient_energy_ratio, identity_distance, psnr
from difface_diffusers.image_processing import load_image, pil_to_tensor, resize


EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def result():
    pipe = DifFacePipeline.from_pretrained(BUNDLED_MODEL)
    pipe.set_progress_bar_config(disable=True)
    degraded = pil_to_tensor(load_image(EXAMPLES / "astronaut.png"))[None]
    clean = pil_to_tensor(load_image(EXAMPLES / "astronaut_clean.png"))[None]
    output = pipe(degraded, generator=torch.Generator().manual_seed(0), output_type="pt")
    return {
        "input": degraded,
        "estimate": output.estimates,
        "restored": output.images,
        "clean": resize(clean, degraded.shape[-2:]).clamp(0, 1),
    }


def test_is_small_and_in_half_precision():
    files = [path for path in Path(BUNDLED_MODEL).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 40e6
    assert not [path for path in files if path.suffix not in (".json", ".safetensors", ".md")]
    assert DifFacePipeline.from_pretrained(BUNDLED_MODEL, dtype=torch.float16).unet.dtype == torch.float16


def test_card_states_the_licence():
    assert "license: cc-by-nc-sa-4.0" in (Path(BUNDLED_MODEL) / "README.md").read_text()


def test_every_scheduler_finds_what_it_needs_in_the_config():
    config = json.loads((Path(BUNDLED_MODEL) / "scheduler" / "scheduler_config.json").read_text())
    assert config["timestep_spacing"] == "leading" and config["prediction_type"] == "epsilon"


def test_the_restoration_is_sharper_than_the_estimate(result):
    estimate, restored = (gradient_energy_ratio(result[name], result["clean"]) for name in ("estimate", "restored"))
    assert estimate < restored < 1.5


def test_the_restoration_is_nearer_the_face_than_the_input(result):
    pytest.importorskip("dlib")
    before, after = (identity_distance(result[name], result["clean"]) for name in ("input", "restored"))
    assert after < before


def test_the_estimate_is_nearer_the_pixels_than_the_input(result):
    assert psnr(result["estimate"], result["clean"]) > psnr(result["input"], result["clean"])
