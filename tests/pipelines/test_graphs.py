"""What a GPU asks of a restoration: that nothing waits for it on the way, and that CUDA graphs may reuse their memory."""

import functools

import pytest
import torch
from diffusers import UNet2DModel
from diffusers.models.unets.unet_2d import UNet2DOutput
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from difface_diffusers import (
    DifFaceInpaintPipeline,
    DifFacePipeline,
    DifFaceUNet2DModel,
    LaMaEstimator,
    SRCNNEstimator,
    SwinIREstimator,
)
from difface_diffusers.pipelines.pipeline_difface_inpaint import pull_to_known
from difface_diffusers.pipelines.stages import to_sizes

from ..conftest import SIZE, ddim, tiny_estimator, tiny_unet
from .test_schedulers import ODE, SDE, make


def tiny_lama():
    return LaMaEstimator(base_channels=4, num_downsamples=2, num_blocks=1).eval()


# Waiting


class Waits(TorchFunctionMode):
    """Records the copies between host and device, for which a host waits that launches the work of a GPU.

    The device is "meta", whose tensors have no values, so that whatever reads one raises by itself: `item`, `tolist`, `bool`,
    `nonzero`, a mask as an index, `cpu`.
    """

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        answer = func(*args, **kwargs or {})
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        involved = [*given, *(leaf for leaf in tree_leaves(answer) if isinstance(leaf, torch.Tensor))]
        if any(tensor.is_meta for tensor in involved) and (
            (given and not any(tensor.is_meta for tensor in given))  # a copy to the device
            or any(tensor.ndim for tensor in given if not tensor.is_meta)  # a number is handed over without one
            or func is torch.Tensor.new_tensor
            or (func in (torch.tensor, torch.as_tensor) and not given)
            or (func in (torch.Tensor.__getitem__, torch.Tensor.__setitem__) and _has_list(args[1]))
        ):
            self.found.append(func.__name__)
        return answer


def _has_list(index):
    return any(isinstance(entry, list) for entry in (index if isinstance(index, tuple) else (index,)))


def on_the_device(*shape):
    return torch.empty(*shape, device="meta")


@pytest.mark.parametrize(
    "waiting",
    [
        lambda latents: latents.to("meta") + torch.ones(SIZE).to("meta"),
        lambda latents: latents[[0, 1]],
        lambda latents: latents.__setitem__([1], 0.0),
        lambda latents: latents[torch.tensor([0, 1])],
        lambda latents: latents.copy_(torch.ones(2, 3, SIZE, SIZE)),
        lambda latents: latents.new_tensor([1.0]),
        lambda latents: torch.tensor([1.0], device="meta"),
        lambda latents: torch.tensor(1.0).to("meta"),
    ],
)
def test_a_copy_is_noticed(waiting):
    latents = on_the_device(2, 3, SIZE, SIZE)
    with Waits() as waits:
        latents.clamp(0, 1) * torch.tensor(0.5) + latents[:1]
        assert not waits.found
        waiting(latents)
    assert len(waits.found) == 1


@pytest.mark.parametrize(
    "reading",
    [
        lambda latents: latents.sum().item(),
        lambda latents: latents.tolist(),
        lambda latents: bool(latents.max() > 1),
        lambda latents: float(latents.max()),
        lambda latents: latents.nonzero(),
        lambda latents: latents[latents > 0],
        lambda latents: latents.cpu(),
        lambda latents: latents.to("cpu"),
        lambda latents: latents.numpy(),
    ],
)
def test_a_reading_is_refused(reading):
    with pytest.raises((RuntimeError, NotImplementedError, TypeError), match=r"(?i)meta"):
        reading(on_the_device(2, 3, SIZE, SIZE))


def waits_after_x_n(pipe, starts, guide=None):
    """Walk back on the device, with a preview of each step, and return what waited between x_N and the picture.

    The prior only repeats its input: operators of a network are slow where they have no values.
    """
    pipe.set_progress_bar_config(disable=True)
    pipe.to("meta")
    channels = pipe.unet.config.out_channels // 3
    pipe.unet.forward = lambda sample, timestep: UNet2DOutput(sample.repeat(1, channels, 1, 1))
    previews = []

    def callback(pipe, step, timestep, tensors):
        previews.append(tensors["pred_original_sample"])

    estimates = on_the_device(len(starts), 3, SIZE, SIZE)
    sampling = pipe.with_defaults(num_inference_steps=6)
    chains = pipe.prepare_chains(starts, sampling, estimates.device)
    latents = pipe.prepare_latents(estimates, chains, sampling, None, None)
    to_pictures = functools.partial(to_sizes, sizes=[(SIZE + 8, SIZE)] * len(starts))
    with torch.no_grad(), Waits() as waits:
        latents = pipe.denoise(latents, chains, 0.5, None, callback, ["pred_original_sample"], guide)
        pictures = pipe.finish(latents, estimates, to_pictures, "pt", return_dict=True).images
    assert pictures.is_meta and len(previews) == len(chains.timesteps) > 1
    return waits.found


OPTIONS = {"PNDMScheduler": {"skip_prk_steps": True}}
WAITING = {
    "UniPCMultistepScheduler"
}  # copies noise levels in its own `step`, and solves for its coefficients on the device


@pytest.mark.parametrize("starts", [(400, 400), (400, 200, 400)], ids=["together", "apart"])
@pytest.mark.parametrize("name", [*ODE, *SDE])
def test_nothing_waits_between_x_n_and_the_picture(name, starts):
    pipe = DifFacePipeline(tiny_unet(), tiny_estimator(), make(name, **OPTIONS.get(name, {})))
    assert set(waits_after_x_n(pipe, starts)) == ({"to"} if name in WAITING else set())


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("DDIMScheduler", {}),
        ("DDPMScheduler", {}),
        ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
        ("EulerDiscreteScheduler", {"use_karras_sigmas": True}),
    ],
)
def test_nothing_waits_while_holes_are_filled(name, options):
    known, missing = on_the_device(2, 3, SIZE, SIZE), on_the_device(2, 1, SIZE, SIZE)
    pipe = DifFaceInpaintPipeline(tiny_unet(), tiny_lama(), make(name, **options))

    def guide(clean, rows):
        return pull_to_known(clean, known[rows], missing[rows], 0.5)

    assert not waits_after_x_n(pipe, (400, 400), guide)


def test_a_variance_does_not_wait_either():
    scheduler = make("DDPMScheduler", variance_type="learned_range")
    assert not waits_after_x_n(DifFacePipeline(tiny_unet(6), tiny_estimator(), scheduler), (400, 200))


@pytest.mark.parametrize(
    ("network", "others"),
    [
        (lambda: SwinIREstimator(embed_dim=8, depths=(2,), num_heads=(2,), window_size=4, num_feat=8), ()),
        (lambda: SRCNNEstimator(num_channels=8, depth=2), ()),
        (lambda: tiny_lama(), ((2, 1, SIZE, SIZE),)),
        (lambda: tiny_unet(), ((2,),)),
        (lambda: tiny_unet(cls=DifFaceUNet2DModel, patch_size=2), ((2,),)),
    ],
    ids=["SwinIR", "SRCNN", "LaMa", "prior", "prior on patches"],
)
def test_no_network_waits(network, others):
    """Nor could one that does be a CUDA graph."""
    network = network().eval().to("meta")
    with torch.no_grad(), Waits() as waits:
        network(*(on_the_device(*shape) for shape in ((2, 3, SIZE, SIZE), *others)))
    assert not waits.found


# Memory that is used again


def reuse_memory(network):
    """Let a network answer in the same memory each time, as a CUDA graph does."""
    forward, buffers = network.forward, {}

    @functools.wraps(forward)
    def answer(*inputs):
        fresh = forward(*inputs)
        values = getattr(fresh, "sample", fresh)
        buffer = buffers.setdefault(values.shape, torch.empty_like(values)).copy_(values)
        return buffer if fresh is values else UNet2DOutput(buffer)

    network.forward = answer


def assert_memory_may_be_reused(pipe, *inputs, **arguments):
    pipe.set_progress_bar_config(disable=True)

    def run():
        generators = [torch.Generator().manual_seed(seed) for seed in range(2)]
        return pipe(*inputs, generator=generators, output_type="latent", **arguments)

    fresh = run()
    for network in (pipe.unet, pipe.estimator):
        reuse_memory(network)
    reused = run()
    assert torch.equal(reused.estimates, fresh.estimates) and torch.equal(reused.images, fresh.images)


@pytest.mark.parametrize("name", [*ODE, *SDE])
def test_memory_may_be_reused(faces, name):
    pipe = DifFacePipeline(tiny_unet(), tiny_estimator(), make(name, **OPTIONS.get(name, {})))
    assert_memory_may_be_reused(pipe, faces, num_inference_steps=7, start_timestep=400)


def test_memory_may_be_reused_where_the_estimator_is_asked_twice(faces):
    pipe = DifFacePipeline(tiny_unet(), tiny_estimator(), ddim(), noise_margin=30.0)
    assert_memory_may_be_reused(pipe, faces, num_inference_steps=4, start_timestep="auto")


@pytest.mark.parametrize("name", ["DDIMScheduler", "PNDMScheduler"])
def test_memory_may_be_reused_where_holes_are_filled(faces, name):
    mask = torch.zeros(SIZE, SIZE)
    mask[4:20, 10:30] = 1
    estimator = tiny_lama().eval()
    pipe = DifFaceInpaintPipeline(tiny_unet(), estimator, make(name, **OPTIONS.get(name, {})))
    assert_memory_may_be_reused(pipe, faces, mask, num_inference_steps=5, start_timestep=400)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_a_network_answered_is_kept(pipe, faces, dtype):
    pipe.to(dtype)
    for network in (pipe.unet, pipe.estimator):
        reuse_memory(network)
    timesteps = torch.tensor([300, 300])
    with torch.no_grad():
        for ask in (pipe.estimate, lambda inputs: pipe.predict_noise(inputs, timesteps, dtype)):
            first = ask(faces)
            copy = first.clone()
            assert not torch.equal(ask(1 - faces), first) and torch.equal(first, copy)


def test_no_step_asks_the_prior_for_its_precision(pipe, faces, monkeypatch):
    """A large network is searched for it for milliseconds, in which a GPU would wait."""
    asked, dtype = [], UNet2DModel.dtype
    pipe.unet.forward = lambda sample, timestep: UNet2DOutput(sample)  # the network itself asks too, unless compiled
    monkeypatch.setattr(UNet2DModel, "dtype", property(lambda unet: asked.append(unet) or dtype.fget(unet)))
    counts = []
    for steps in (1, 5):
        asked.clear()
        pipe(faces, num_inference_steps=steps)
        counts.append(len(asked))
    assert counts[0] == counts[1] > 0
