"""The official architectures at full size, with random weights: the command, the Hub, and restorations at 512 pixels."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from conversion.convert import main as convert
from difface_diffusers import DifFaceInpaintPipeline, DifFacePipeline
from tests.hub.hub_server import FakeHub
from tests.hub.originals.reference import estimator_case, load_manifest, prior_case, weights


pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]

CONVERT = """
import resource, sys
from conversion.convert import main
status = main(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
sys.exit(status)
"""

ANSWER = """
import sys, torch
from conversion.convert import main as convert
from difface_diffusers import DifFaceInpaintPipeline, DifFacePipeline
inputs = torch.load(sys.argv[1])
pipe = DifFacePipeline.from_pretrained("org/difface")
with torch.no_grad():
    answers = {
        "unet": pipe.unet(inputs["sample"], inputs["timesteps"]).sample,
        "estimator": pipe.estimator(inputs["image"]),
    }
torch.save(answers, sys.argv[2])
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("full")


@pytest.fixture(scope="module")
def hub(work):
    """A Hub with org/difface, which the command has converted and pushed within its limits of time and memory."""
    _, shapes = load_manifest("swinir_full")
    buffers = {
        key: torch.zeros(shape) for key, shape in shapes.items() if key.endswith(("position_index", "attn_mask"))
    }
    estimator = {f"module.{key}": value for key, value in (weights(shapes) | buffers).items()}
    torch.save({"state_dict": estimator}, work / "estimator.pth")
    torch.save(weights(load_manifest("unet_full512")[1]), work / "prior.pth")
    arguments = ["--prior", work / "prior.pth", "--estimator", work / "estimator.pth", "--output", work / "difface"]
    flags = ["--variant", "fp16", "--push-to-hub", "org/difface"]

    with FakeHub(work / "hub") as hub:
        began = time.monotonic()
        result = subprocess.run(
            [sys.executable, "-c", CONVERT, "restoration", *map(str, arguments), *flags],
            cwd=ROOT,
            env=hub.environment(work / "owner", "hf_right"),
            capture_output=True,
            text=True,
            check=True,
        )
        assert time.monotonic() - began < 60
        assert int(result.stdout.split()[-1]) < 6_000_000  # kilobytes
        yield hub


def test_the_trip_over_the_hub_keeps_the_answers_of_the_original(hub, work):
    _, _, sample, golden, step = prior_case("unet_full512")
    _, _, image, expected, estimator_step = estimator_case("swinir_full", "swinir_full")
    torch.save({"sample": sample, "timesteps": golden["timesteps"], "image": image}, work / "inputs.pt")
    subprocess.run(
        [sys.executable, "-c", ANSWER, str(work / "inputs.pt"), str(work / "answers.pt")],
        env=hub.environment(work / "visitor"),
        check=True,
    )
    answers = torch.load(work / "answers.pt")
    torch.testing.assert_close(answers["unet"][..., ::step, ::step], golden["output"], rtol=1e-6, atol=1e-5)
    answer = answers["estimator"][..., ::estimator_step, ::estimator_step]
    torch.testing.assert_close(answer, expected, rtol=0, atol=1e-5)


def test_the_fp16_variant_is_half_the_size(hub, work):
    for part in ("unet", "estimator"):
        full = work / "difface" / part / "diffusion_pytorch_model.safetensors"
        half = work / "difface" / part / "diffusion_pytorch_model.fp16.safetensors"
        assert half.stat().st_size == pytest.approx(full.stat().st_size / 2, rel=0.01)


def test_restores_at_512_in_float32_and_nearly_alike_in_bfloat16(hub, work):
    image = torch.rand(1, 3, 512, 512, generator=torch.Generator().manual_seed(0))
    restored = {}
    for dtype in (torch.float32, torch.bfloat16):
        pipe = DifFacePipeline.from_pretrained(work / "difface", dtype=dtype)
        pipe.set_progress_bar_config(disable=True)
        restored[dtype] = pipe(image, 2, generator=torch.Generator().manual_seed(0), output_type="pt").images
    full, half = restored.values()
    assert full.shape == image.shape and full.std() > 0.1
    assert (full - half).square().mean().sqrt() < 0.02 * full.std()


def test_the_official_inpainting_pair_converts_and_fills_256_pixels(work):
    counters = {key: torch.tensor(1) for key in load_manifest("lama_full")[1] if key.endswith("num_batches_tracked")}
    torch.save(weights(load_manifest("lama_full")[1]) | counters, work / "lama.pth")
    torch.save(weights(load_manifest("unet_full256")[1]), work / "prior256.pth")
    files = ["--prior", str(work / "prior256.pth"), "--estimator", str(work / "lama.pth")]
    assert convert(["inpainting", *files, "--output", str(work / "inpaint")]) == 0

    pipe = DifFaceInpaintPipeline.from_pretrained(work / "inpaint")
    pipe.set_progress_bar_config(disable=True)
    image = torch.rand(1, 3, 300, 200, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(1, 1, 300, 200)
    mask[..., 100:180, 20:90] = 1
    filled = pipe(image, mask, 2, generator=torch.Generator().manual_seed(0), output_type="pt").images
    known = (mask == 0).expand_as(image)
    assert torch.equal(filled[known], image[known])
    assert filled.isfinite().all() and (filled[~known] != image[~known]).float().mean() > 0.9
