"""The nodes that restore and fill. What they do is the package's: they ask, hand on and give back."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .host import Watch, watching
from .images import to_image, to_mask, to_masks, to_photos
from .inputs import (
    CATEGORY,
    INPAINTING_MODEL_TYPE,
    MODEL_TYPE,
    SEED,
    InputTypes,
    image_input,
    model_input,
    photo_inputs,
)
from .loading import LoadedModel


if TYPE_CHECKING:
    from difface_diffusers import PhotoRestoration

DRAWN_TOGETHER = 8  # faces, of all versions
MOST_VERSIONS = 16


class RestorePhoto:
    """Restore the faces of photographs and enlarge them."""

    RETURN_TYPES = ("IMAGE", "MASK")
    RETURN_NAMES = ("image", "changed")
    OUTPUT_TOOLTIPS = ("The photographs, enlarged, with their faces restored.", "Where faces were changed.")
    FUNCTION = "restore"
    CATEGORY = CATEGORY
    DESCRIPTION = "Finds the faces of photographs, restores them and puts them back; the rest is enlarged."

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:
        """Return what the node asks for."""
        return {"required": photo_inputs() | {"seed": SEED}}

    def restore(
        self, model: LoadedModel, image: torch.Tensor, seed: int, **settings: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return IMAGE and MASK, of the enlarged size; see `restore_photos` of the package."""
        from difface_diffusers.photos.changes import changed_area

        restorations = restore_photographs(model, image, seed, 1, **settings)
        areas = [changed_area(restoration) for restoration in restorations]
        return to_image([np.asarray(restoration.image) for restoration in restorations]), to_mask(areas)


class SeveralVersions:
    """Restore photographs several times, and show where the versions differ."""

    RETURN_TYPES = ("IMAGE", "IMAGE")
    RETURN_NAMES = ("versions", "uncertainty")
    OUTPUT_TOOLTIPS = (
        "The versions of an image next to each other in the batch.",
        "Bright where the versions of an image differ: there the restoration is a guess.",
    )
    FUNCTION = "restore"
    CATEGORY = CATEGORY
    DESCRIPTION = "Restores photographs several times from other noise, and shows where the versions differ."

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:
        """Return what the node asks for."""
        versions = (
            "INT",
            {"default": 4, "min": 2, "max": MOST_VERSIONS, "tooltip": "How often each face is restored."},
        )
        return {"required": photo_inputs() | {"versions": versions, "seed": SEED}}

    def restore(
        self, model: LoadedModel, image: torch.Tensor, versions: int, seed: int, **settings: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the versions as IMAGE `[B*versions,...]`, and where they differ as IMAGE `[B,...]`."""
        from difface_diffusers.photos.samples import photo_uncertainty, uncertainty_picture

        restorations = restore_photographs(model, image, seed, versions, **settings)
        maps = [uncertainty_picture(photo_uncertainty(restoration)) for restoration in restorations]
        pictures = [np.asarray(picture) for restoration in restorations for picture in restoration.images]
        return to_image(pictures), to_image(maps)


class RestoreAligned:
    """Restore aligned faces."""

    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("image",)
    FUNCTION = "restore"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Restores faces that are aligned already, upright and in the middle as in FFHQ, whole and in their size."
    )

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:
        """Return what the node asks for."""
        faces = image_input("Aligned faces of any size.")
        return {"required": {"model": model_input(MODEL_TYPE), "image": faces, "seed": SEED}}

    def restore(self, model: LoadedModel, image: torch.Tensor, seed: int) -> tuple[torch.Tensor]:
        """Return IMAGE, of the size of the faces."""
        from difface_diffusers.photos.aligned import restore_aligned

        faces = to_photos(image)
        restored = []
        with watching(model.pipe) as watch:
            for start in range(0, len(faces), DRAWN_TOGETHER):
                batch = faces[start : start + DRAWN_TOGETHER]
                generators = generators_of(seed, len(batch))
                restored += restore_aligned(model.pipe, batch, generators, preset=model.preset, **watch.callback)
        return (to_image([np.asarray(restoration.image) for restoration in restored]),)


class Inpaint:
    """Fill what a mask marks."""

    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("image",)
    FUNCTION = "fill"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Fills what a mask marks, faces by a DifFace model and the rest from its surroundings. Nothing else changes."
    )

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:
        """Return what the node asks for."""
        aligned = ("BOOLEAN", {"default": False, "tooltip": "The images are aligned faces, not photographs."})
        return {
            "required": {
                "model": model_input(INPAINTING_MODEL_TYPE),
                "image": image_input("Photographs of any size."),
                "mask": (
                    "MASK",
                    {"tooltip": "White is filled. One for all images or one for each; fitted to their size."},
                ),
                "aligned": aligned,
                "seed": SEED,
            }
        }

    def fill(
        self, model: LoadedModel, image: torch.Tensor, mask: torch.Tensor, aligned: bool, seed: int
    ) -> tuple[torch.Tensor]:
        """Return IMAGE, of the size of the images."""
        photos = to_photos(image)
        masks = to_masks(mask, len(photos))
        with watching(model.pipe) as watch:
            filled = [
                fill_one(model, photo, hole, aligned, seed, watch) for photo, hole in zip(photos, masks, strict=True)
            ]
        return (to_image(filled),)


def restore_photographs(
    model: LoadedModel,
    image: torch.Tensor,
    seed: int,
    versions: int,
    background: str,
    **settings: Any,
) -> "list[PhotoRestoration]":
    """Restore the photographs of an IMAGE; see `restore_photos` of the package.

    Args:
        model: restores the faces.
        image: IMAGE.
        seed: every photograph starts from it.
        versions: restorations of each face.
        background: name of what enlarges the photographs.
        **settings: handed on.
    """
    from difface_diffusers import restore_photos
    from difface_diffusers.photos.upscale import as_upscaler, share_of, with_progress

    photos = to_photos(image)
    with watching(model.pipe) as watch:
        return restore_photos(
            model.pipe,
            photos,
            background=with_progress(as_upscaler(background, model.pipe.device), watch.on_tile),
            background_blend=share_of(background, None),
            batch_size=max(1, DRAWN_TOGETHER // versions),
            generator=generators_of(seed, len(photos)),
            num_samples=versions,
            preset=model.preset,
            **settings,
            **watch.callback,
        )


def fill_one(
    model: LoadedModel, photo: np.ndarray, hole: np.ndarray, aligned: bool, seed: int, watch: Watch
) -> np.ndarray:
    """Fill a photograph `[H,W,C]`, or an aligned face, where a mask `[h,w]` is at least 0.5; it keeps its form."""
    from difface_diffusers.photos.aligned import fill_aligned
    from difface_diffusers.photos.damage import fill_damage

    call: dict[str, Any] = {"generator": generators_of(seed, 1)[0], "preset": model.preset, **watch.callback}
    pipe: Any = model.pipe
    if aligned:
        return np.asarray(fill_aligned(pipe, photo, torch.from_numpy(hole)[None], **call).image)
    return np.asarray(fill_damage(pipe, photo, hole, **call).image)


def generators_of(seed: int, count: int) -> list[torch.Generator]:
    """Return a source of noise for each image. All start from the seed, so that each image comes out the same alone."""
    return [torch.Generator().manual_seed(seed) for _ in range(count)]
