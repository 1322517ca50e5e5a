"""What the original DifFace released: its files, their architectures, and the settings they are run with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from diffusers.models.modeling_utils import ModelMixin
from diffusers.schedulers.scheduling_ddim import DDIMScheduler

from ...pipelines.pipeline_difface import DifFacePipeline
from ...pipelines.pipeline_difface_inpaint import DifFaceInpaintPipeline
from .lama import convert_lama
from .prior import convert_prior
from .swinir import convert_swinir


PROJECT_URL = "https://github.com/zsyOAOA/DifFace"
LICENSE_URL = f"{PROJECT_URL}/blob/master/LICENSE"
RELEASE_URL = f"{PROJECT_URL}/releases/download/V1.0"

FASTER = {  # by a solver of the second order, which draws no noise
    "balanced": {"scheduler": "dpm-multistep", "num_inference_steps": 20},
    "fast": {"scheduler": "dpm-multistep", "num_inference_steps": 8},
}


@dataclass(frozen=True)
class Checkpoint:
    """One file of the release.

    Attributes:
        file: its name.
        num_bytes: about its size.
        sha256: of the file, which it must have once it is fetched; `None` where none is known: its keys and shapes are checked.
        config: the architecture, in the original's argument names.
        convert: from the state dict and `config` to a component of a pipeline.
    """

    file: str
    num_bytes: int
    config: Mapping[str, Any]
    convert: Callable[[Mapping[str, Any], Mapping[str, Any]], ModelMixin]
    sha256: str | None = None


@dataclass(frozen=True)
class Task:
    """What the original does with a pair of checkpoints.

    Attributes:
        pipeline_class: does the same here.
        prior: the diffusion model.
        estimator: guesses the clean face.
        defaults: settings of the original, by the names of `pipeline_class`.
        to_fine_chain: how near each of `FASTER` ends to a fine chain, PSNR in dB.
        fine_chain: which that is, and what it was measured on.
        title: heading of the model card.
        purpose: one sentence of the model card.
        call: how the pipeline is called there.
    """

    pipeline_class: type[DifFacePipeline] | type[DifFaceInpaintPipeline]
    prior: Checkpoint
    estimator: Checkpoint
    defaults: Mapping[str, Any]
    to_fine_chain: Mapping[str, float]
    fine_chain: str
    title: str
    purpose: str
    call: str

    @property
    def num_bytes(self) -> int:
        """About the size of both files."""
        return self.prior.num_bytes + self.estimator.num_bytes

    @property
    def presets(self) -> dict[str, dict[str, Any]]:
        """Settings by name: "original", whatever scheduler the pipeline is given, and those of `FASTER`."""
        original = {name.removeprefix("default_"): value for name, value in self.defaults.items()}
        return {"original": {"scheduler": "ddim"} | original} | FASTER


def ddim_scheduler() -> DDIMScheduler:
    """Return the sampler of the original: linear betas, timesteps from 0 on, the clean face clipped in every step."""
    return DDIMScheduler(beta_start=1e-4, beta_end=0.02, timestep_spacing="leading", clip_sample=True)


PRIOR_512 = Checkpoint(
    file="iddpm_ffhq512_ema500000.pth",
    num_bytes=640_000_000,
    config=MappingProxyType(
        {
            "image_size": 512,
            "in_channels": 3,
            "model_channels": 32,
            "out_channels": 6,
            "attention_resolutions": [32, 16, 8],
            "channel_mult": [1, 2, 4, 8, 8, 16, 16],
            "num_res_blocks": [1, 2, 2, 2, 2, 3, 4],
            "num_head_channels": 64,
            "use_scale_shift_norm": True,
        }
    ),
    convert=convert_prior,
)
SWINIR_512 = Checkpoint(
    file="swinir_restoration512_L1.pth",
    num_bytes=90_000_000,
    config=MappingProxyType(
        {
            "in_chans": 3,
            "embed_dim": 180,
            "depths": 8 * [6],
            "num_heads": 8 * [6],
            "window_size": 8,
            "mlp_ratio": 2,
            "sf": 8,
            "unshuffle_scale": 8,
        }
    ),
    convert=convert_swinir,
)
PRIOR_256 = Checkpoint(
    file="iddpm_ffhq256_ema750000.pth",
    num_bytes=500_000_000,
    config=MappingProxyType(
        {
            "image_size": 256,
            "in_channels": 3,
            "model_channels": 128,
            "out_channels": 6,
            "attention_resolutions": [16, 8],
            "channel_mult": [1, 1, 2, 2, 4, 4],
            "num_res_blocks": 2,
            "num_head_channels": 64,
            "use_scale_shift_norm": True,
        }
    ),
    convert=convert_prior,
)
LAMA_256 = Checkpoint(
    file="lama_inpainting256.pth",
    num_bytes=205_000_000,
    config=MappingProxyType(
        {
            "input_nc": 4,
            "output_nc": 3,
            "ngf": 64,
            "n_downsampling": 3,
            "n_blocks": 18,
            "resnet_conv_kwargs": {"ratio_gin": 0.75, "ratio_gout": 0.75, "enable_lfu": False},
        }
    ),
    convert=convert_lama,
)

TASKS = {
    "restoration": Task(
        pipeline_class=DifFacePipeline,
        prior=PRIOR_512,
        estimator=SWINIR_512,
        defaults=MappingProxyType(
            {"default_num_inference_steps": 100, "default_start_timestep": 400, "default_eta": 0.5}
        ),
        to_fine_chain=MappingProxyType({"balanced": 57.2, "fast": 51.3}),
        fine_chain="DDIM in 400 calls with eta 0, on one validation face (`benchmarks.chains`)",
        title="DifFace, blind face restoration at 512 x 512",
        purpose="Restores aligned faces that are blurred, noisy, compressed or of low resolution.",
        call="pipe(image)",
    ),
    "inpainting": Task(
        pipeline_class=DifFaceInpaintPipeline,
        prior=PRIOR_256,
        estimator=LAMA_256,
        defaults=MappingProxyType(
            {"default_num_inference_steps": 120, "default_start_timestep": 480, "default_eta": 1.0}
        ),
        to_fine_chain=MappingProxyType({"balanced": 63.3, "fast": 49.3}),
        fine_chain="DPM-Solver++ in 200 calls, in a hole of 100 x 100 pixels of one face",
        title="DifFace, face inpainting at 256 x 256",
        purpose="Fills scratches, holes and missing parts of aligned faces; what is known stays as it is.",
        call="pipe(image, mask_image)",
    ),
}
