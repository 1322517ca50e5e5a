"""DifFace for holes: aligned faces and masks in, whole faces out (Yue and Loy, TPAMI 2024, section 3.4)."""

from functools import partial

import numpy as np
import torch
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from PIL import Image

from ..imaging.masks import resize_known, shrink_mask, to_masks
from ..imaging.tensors import to_tensors
from ..models import DifFaceUNet2DModel, LaMaEstimator
from ..utils.checks import is_number
from .output import DifFacePipelineOutput
from .pipeline_difface import DifFacePipeline
from .runs import as_run
from .sampling import Callback
from .stages import to_sizes


def pull_to_known(clean: torch.Tensor, known: torch.Tensor, mask: torch.Tensor, gamma: float) -> torch.Tensor:
    """Take one gradient step of size gamma on the squared error at the known pixels (DifFace, eq. 14).

    Args:
        clean: predicted clean face, `[B,3,S,S]` in [-1,1].
        known: what is known of it, on the same scale.
        mask: `[B,1,S,S]`, 1 where nothing is known.
        gamma: 0.5 replaces the known pixels, less draws them near.
    """
    return clean - 2 * gamma * (1 - mask) * (clean - known)


class DifFaceInpaintPipeline(DifFacePipeline):
    """Inpainting of aligned faces: pixels that are known stay what they are, those that are missing are invented.

    As in `DifFacePipeline` the estimator guesses the whole face, the guess is noised to x_N and the prior walks back.
    Each face that it predicts on the way is drawn to the known pixels.

    Args:
        unet: see `DifFacePipeline`, as for all but the estimator.
        estimator: answers a whole face for one with holes and its mask.
        scheduler: see `DifFacePipeline`.
        default_num_inference_steps: see `DifFacePipeline`.
        default_start_timestep: see `DifFacePipeline`.
        default_eta: see `DifFacePipeline`.
        default_s_noise: see `DifFacePipeline`.
        presets: see `DifFacePipeline`.
    """

    is_inpainting = True

    def __init__(
        self,
        unet: UNet2DModel | DifFaceUNet2DModel,
        estimator: LaMaEstimator,
        scheduler: SchedulerMixin,
        default_num_inference_steps: int = 120,
        default_start_timestep: int = 480,
        default_eta: float = 1.0,
        default_s_noise: float = 1.0,
        presets: dict | None = None,
    ) -> None:
        super().__init__(
            unet,
            estimator,
            scheduler,
            default_num_inference_steps,
            default_start_timestep,
            default_eta,
            default_s_noise,
            presets,
        )

    @as_run
    @torch.no_grad()
    def __call__(  # ty: ignore[incompatible-method-override]  the mask comes second
        self,
        image: Image.Image | np.ndarray | torch.Tensor | list,
        mask_image: Image.Image | np.ndarray | torch.Tensor | list | None = None,
        num_inference_steps: int | None = None,
        start_timestep: int | None = None,
        eta: float | None = None,
        gamma: float = 0.5,
        mask_threshold: float | None = 0.5,
        invert_mask: bool = False,
        num_samples: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: torch.Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callback | None = None,
        callback_on_step_end_tensor_inputs: list[str] | None = None,
        s_noise: float | None = None,
        preset: str | None = None,
        scheduler: str | None = None,
    ) -> DifFacePipelineOutput | tuple:
        """Fill the holes of aligned faces.

        Args:
            image: see `DifFacePipeline`; what it holds where it is missing does not matter.
            mask_image: white is missing; PIL image, array `[H,W]`, `[H,W,1]`, `[H,W,3]` or `[N,H,W,1]`, tensor `[H,W]`,
                `[1,H,W]` or `[N,1,H,W]`, or a list; bool, uint8 or float in [0,1]. One for all images or one per image,
                of any size: it is fitted to the image. `None`: pixels that are exactly black are missing.
            num_inference_steps: see `DifFacePipeline`, as are the next two.
            start_timestep: see `DifFacePipeline`.
            eta: see `DifFacePipeline`.
            gamma: how firmly each predicted face is drawn to the known pixels, 0 (not at all) .. 0.5 (all the way).
                With DDIM the predicted noise is kept, as in the original; to every other scheduler the correction is
                told as the noise that implies the corrected face.
            mask_threshold: mask values from here on are missing, in (0,1]; `None` keeps soft edges, across which the
                answer is blended into the image.
            invert_mask: white is known instead.
            num_samples: see `DifFacePipeline`, as are the rest.
            generator: see `DifFacePipeline`.
            latents: see `DifFacePipeline`.
            output_type: see `DifFacePipeline`.
            return_dict: see `DifFacePipeline`.
            callback_on_step_end: see `DifFacePipeline`.
            callback_on_step_end_tensor_inputs: see `DifFacePipeline`.
            s_noise: see `DifFacePipeline`.
            preset: see `DifFacePipeline`.
            scheduler: see `DifFacePipeline`.

        Returns:
            `DifFacePipelineOutput`; known pixels of both `images` and `estimates` equal the input's exactly. As "latent",
            nothing has been put back.

        Raises:
            TypeError: `image`, `mask_image`, `generator` or `latents` is of the wrong type.
            ValueError: an argument is out of range, or contradicts another; the message names it.
        """
        # 0. Defaults, pictures as a list of [3,H,W] in [0,1], masks of [1,H,W]; everything is checked once
        pictures = to_tensors(image)
        masks = to_masks(mask_image, pictures, mask_threshold, invert_mask)
        request = self.prepare_request(
            num_images=len(pictures),
            sampling=self.with_defaults(
                preset,
                num_inference_steps=num_inference_steps,
                start_timestep=start_timestep,
                eta=eta,
                s_noise=s_noise,
                scheduler=scheduler,
            ),
            num_samples=num_samples,
            generator=generator,
            latents=latents,
            output_type=output_type,
            callback_on_step_end=callback_on_step_end,
            callback_on_step_end_tensor_inputs=callback_on_step_end_tensor_inputs,
        )
        if not is_number(gamma) or not 0 <= gamma <= 0.5:
            raise ValueError(f"`gamma` is {gamma!r}; it must be a number within 0 .. 0.5.")
        device = self._execution_device

        # 1. What is known and where nothing is, at the model's size, and the estimator's guess: one row per sample
        pairs = [
            (picture[None].to(device), mask[None].to(device)) for picture, mask in zip(pictures, masks, strict=True)
        ]
        known = torch.cat([resize_known(picture, mask, self.model_size) for picture, mask in pairs])
        missing = torch.cat([shrink_mask(mask, self.model_size) for _, mask in pairs])
        estimates = self.estimate(known, missing).repeat_interleave(num_samples, dim=0)

        # 2. The guess noised to the state the chain starts from, and the walk back to x_0, drawn to the known pixels
        known, missing = (batch.repeat_interleave(num_samples, dim=0) for batch in (known, missing))
        latents = self.restore_estimates(
            estimates,
            [int(request.sampling.start_timestep)] * len(estimates),
            request,
            guide=lambda clean, rows: pull_to_known(clean, known[rows] * 2 - 1, missing[rows], gamma),
        )

        # 3. To the size of each input, into its holes, and to the type asked for
        pairs = [pair for pair in pairs for _ in range(num_samples)]
        return self.finish(latents, estimates, partial(into_holes, pairs=pairs), output_type, return_dict)


def into_holes(batch: torch.Tensor, pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> list[torch.Tensor]:
    """Put each row of `[B,3,S,S]` into the holes of its picture `[1,3,H,W]`, which a mask `[1,1,H,W]` shows."""
    answers = to_sizes(batch, [picture.shape[-2:] for picture, _ in pairs])
    return [
        torch.where(mask[0] > 0, picture[0] + mask[0] * (answer - picture[0]), picture[0])
        for answer, (picture, mask) in zip(answers, pairs, strict=True)
    ]
