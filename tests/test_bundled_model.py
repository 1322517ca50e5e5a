"""The bundled models, on the one face that the repository carries."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from benchmarks import chains
from benchmarks.inpainting import PLAIN_FILLS, psnr_of_holes
from benchmarks.upscalers import RECIPES, damage_photo, mix, to_batch
from difface_diffusers import (
    BUNDLED_INPAINT_MODEL,
    BUNDLED_MODEL,
    BUNDLED_UPSCALER,
    DifFaceInpaintPipeline,
    DifFacePipeline,
)
from difface_diffusers.evaluation import gradient_ratio, identity_distance, psnr, ssim
from difface_diffusers.imaging.files import load_image
from difface_diffusers.imaging.tensors import pil_to_tensor, resize
from difface_diffusers.photos.upscale import load_upscaler, upscale_lanczos


EXAMPLES = Path(__file__).parents[1] / "examples"
SAMPLES = 8  # identities of single ones differ by a tenth


@pytest.fixture(scope="module")
def result():
    pipe = DifFacePipeline.from_pretrained(BUNDLED_MODEL)
    pipe.set_progress_bar_config(disable=True)
    degraded = pil_to_tensor(load_image(EXAMPLES / "astronaut.png"))[None]
    clean = pil_to_tensor(load_image(EXAMPLES / "astronaut_clean.png"))[None]
    output = pipe(degraded, num_samples=SAMPLES, generator=torch.Generator().manual_seed(0), output_type="pt")
    return {
        "input": degraded,
        "estimate": output.estimates[:1],
        "restored": output.images,
        "clean": resize(clean, degraded.shape[-2:]).clamp(0, 1),
    }


@pytest.mark.parametrize(
    ("folder", "most_bytes"), [(BUNDLED_MODEL, 42e6), (BUNDLED_INPAINT_MODEL, 7e6), (BUNDLED_UPSCALER, 3e6)]
)
def test_is_small_and_in_half_precision(folder, most_bytes):
    files = [path for path in Path(folder).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < most_bytes
    assert not [path for path in files if path.suffix not in (".json", ".safetensors", ".md")]
    dtypes = {tensor.dtype for path in files if path.suffix == ".safetensors" for tensor in load_file(path).values()}
    assert torch.float16 in dtypes and torch.float32 not in dtypes


def test_no_config_says_where_it_was_saved_from():
    configs = Path(BUNDLED_MODEL).parent.rglob("*.json")
    assert not [path for path in configs if "_name_or_path" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("folder", [BUNDLED_MODEL, BUNDLED_INPAINT_MODEL, BUNDLED_UPSCALER])
def test_card_states_the_license(folder):
    assert "license: cc-by-nc-sa-4.0" in (Path(folder) / "README.md").read_text()


@pytest.mark.parametrize("folder", [BUNDLED_MODEL, BUNDLED_INPAINT_MODEL])
def test_every_scheduler_finds_what_it_needs_in_the_config(folder):
    config = json.loads((Path(folder) / "scheduler" / "scheduler_config.json").read_text())
    assert config["timestep_spacing"] == "leading" and config["prediction_type"] == "epsilon"


def test_the_restoration_is_nearer_the_person_than_the_input(result):
    """dlib takes less than 0.6 for the same person; two different faces are 0.8 apart."""
    pytest.importorskip("dlib")
    clean, restored = result["clean"], result["restored"]
    before, after = identity_distance(result["input"], clean), identity_distance(restored, clean.expand_as(restored))
    assert after.mean() < before - 0.01 and after.max() < 0.6


def test_the_restoration_is_as_sharp_as_a_photograph(result):
    estimate, restored = (gradient_ratio(result[name][:1], result["clean"]) for name in ("estimate", "restored"))
    assert estimate < 0.7 and 0.85 < restored < 1.15


def test_the_estimate_is_nearer_the_pixels_than_the_input(result):
    assert psnr(result["estimate"], result["clean"]) > psnr(result["input"], result["clean"])


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_the_inpainting_model_borrows_the_prior(dtype):
    pipe = DifFaceInpaintPipeline.from_pretrained(BUNDLED_INPAINT_MODEL, dtype=dtype)
    assert pipe.unet.dtype == pipe.estimator.dtype == (dtype or torch.float32)
    prior = DifFacePipeline.from_pretrained(BUNDLED_MODEL, dtype=dtype).unet
    for own, borrowed in zip(prior.parameters(), pipe.unet.parameters(), strict=True):
        assert torch.equal(own, borrowed)


def test_the_inpainting_model_shares_a_prior_that_is_there():
    unet = DifFacePipeline.from_pretrained(BUNDLED_MODEL).unet
    assert DifFaceInpaintPipeline.from_pretrained(BUNDLED_INPAINT_MODEL, unet=unet).unet is unet


def test_the_inpainting_model_draws_what_opencv_cannot():
    """An eye is missing."""
    pipe = DifFaceInpaintPipeline.from_pretrained(BUNDLED_INPAINT_MODEL)
    pipe.set_progress_bar_config(disable=True)
    clean = pil_to_tensor(load_image(EXAMPLES / "astronaut_clean.png"))[None]
    clean = resize(clean, pipe.model_size).clamp(0, 1)
    mask = torch.zeros(1, 1, *pipe.model_size)
    mask[..., 100:148, 128:192] = 1
    damaged = clean * (1 - mask)
    filled = pipe(damaged, mask, generator=torch.Generator().manual_seed(0), output_type="pt").images
    plain = [fill(damaged[0], mask[0])[None] for fill in PLAIN_FILLS.values()]
    best, *others = (psnr_of_holes(picture, clean, mask).item() for picture in (filled, *plain))
    assert best > max(others) + 1


@pytest.mark.parametrize("recipe", ["good", "mild"])
def test_the_upscaler_is_sharper_and_nearer_the_pixels_than_lanczos(recipe):
    clean = np.array(load_image(EXAMPLES / "astronaut_clean.png").convert("RGB").resize((128, 128)))
    small = damage_photo(clean, 2, RECIPES[recipe], np.random.default_rng(0))
    plain = upscale_lanczos(small, (128, 128))
    mixed = mix(load_upscaler(BUNDLED_UPSCALER)(small, (128, 128)), plain, 0.7)
    enlarged, plain, clean = map(to_batch, (mixed, plain, clean))
    assert psnr(enlarged, clean) > psnr(plain, clean) and ssim(enlarged, clean) > ssim(plain, clean)
    assert gradient_ratio(plain, clean) < gradient_ratio(enlarged, clean) < 1.1


def test_the_upscaler_does_not_say_where_it_was():
    config = json.loads((Path(BUNDLED_UPSCALER) / "config.json").read_text())
    assert {name: value for name, value in config.items() if name != "_diffusers_version"} == {
        "_class_name": "SRVGGNetCompact",
        "num_channels": 64,
        "num_convs": 6,
        "scale": 2,
    }


def test_the_upscaler_leaves_plain_areas_alone():
    plain = np.full((40, 40, 3), (30, 120, 220), np.uint8)
    enlarged = load_upscaler(BUNDLED_UPSCALER, dtype=torch.float32)(plain, (80, 80))
    assert np.abs(enlarged[4:-4, 4:-4].astype(int) - plain[0, 0]).max() <= 3


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_scheduler_ends_where_the_fine_chain_does():
    pipe = DifFacePipeline.from_pretrained(BUNDLED_MODEL)
    clean = resize(pil_to_tensor(load_image(EXAMPLES / "astronaut_clean.png"))[None], pipe.model_size).clamp(0, 1)
    names = list(chains.SCHEDULERS)
    figures = chains.report(pipe, BUNDLED_MODEL, clean, 0, 1, start=200, schedulers=names, calls=(5, 41))
    for name, row in figures.rows.items():
        if chains.SCHEDULERS[name]:  # nothing but its own noise keeps it away
            assert row[41] > figures.fine_ddpm - 1.5, (name, row, figures.fine_ddpm)
        else:
            assert row[41] > 30 and row[41] > row[5], (name, row)
