"""Whole photographs: find the faces, restore them together, put them back unseen."""

import itertools
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import cv2
import numpy as np
import torch
from PIL import Image

from ..faces import FaceDetector, YuNetDetector
from ..faces.compositing import GRAY_CHOICES, keeps_tint, match_colour, to_gray
from ..faces.crops import AlignedFaces, align_faces, put_back
from ..faces.selection import Selection, parse_selection, select_faces
from ..imaging.pixels import join_channels, split_channels, to_uint8
from ..imaging.tensors import from_tensors
from ..models.bundled import BUNDLED_INPAINT_MODEL
from ..pipelines.pipeline_difface import SAMPLING_ARGUMENTS, DifFacePipeline, check_integer, is_number, split_generator
from ..pipelines.pipeline_difface_inpaint import DifFaceInpaintPipeline
from .damage import fill_damage
from .result import PhotoRestoration
from .samples import closest_in_identity
from .upscale import BACKGROUNDS, Upscaler


PICK_CHOICES = (None, "identity")
PIPE_ARGUMENTS = {
    *SAMPLING_ARGUMENTS,
    "preset",
    "num_samples",
    "callback_on_step_end",
    "callback_on_step_end_tensor_inputs",
}


def restore_photo(
    pipe: DifFacePipeline,
    photo: Image.Image | np.ndarray | Sequence[Image.Image | np.ndarray],
    detector: FaceDetector | None = None,
    upscale: float = 2,
    background: str | Upscaler = "lanczos",
    faces: Selection | Sequence[Selection] = "all",
    min_face_size: float = 16,
    batch_size: int = 8,
    keep_gray: str = "auto",
    draw_box: bool = False,
    damage_mask: Any = None,
    inpainter: DifFaceInpaintPipeline | None = None,
    generator: torch.Generator | list[torch.Generator] | None = None,
    pick: str | None = None,
    **pipe_arguments: Any,
) -> PhotoRestoration | list[PhotoRestoration]:
    """Restore the faces of a photograph, or of several, and enlarge it.

    Every face is aligned, restored at the model's size and put back as a change to the enlarged photograph, so that what
    the model does not touch stays: the background, detail finer than the model's pixels, and the tint of an old print.

    Args:
        pipe: restores the aligned faces.
        photo: PIL image of any mode, or an array `[H,W]`, `[H,W,2]` (gray and alpha), `[H,W,3]` or `[H,W,4]`, uint8, uint16
            or float in [0,1]; or a list of these. Any size.
        detector: finds the faces; `YuNetDetector()` unless given.
        upscale: by how much the whole picture is enlarged, 1 .. 8.
        background: how: "lanczos"; "none", which repeats the pixels as they are; or an `upscale.Upscaler`.
        faces: "all", "largest", "center", or a list whose entries are indices of the faces found, counted from the left, or
            faces given by hand: boxes (left, top, right, bottom), landmarks `[5,2]` or `Face`s, in pixels of the photo. For
            several photographs one of the names, or a list with one selection per photograph.
        min_face_size: found faces of a narrower box are left as they are, pixels.
        batch_size: faces that go through the networks together, those of several photographs included.
        keep_gray: "auto" keeps the faces of a gray or sepia photograph so; "on" leaves every photograph's colours as they
            are, "off" takes what the model paints.
        draw_box: draw the outline of every aligned face into the picture.
        damage_mask: white is damaged and filled before anything else, faces by the inpainter and the rest from its
            surroundings; PIL image, array or tensor as for `DifFaceInpaintPipeline`, of any size: it is fitted to the
            photograph. For several photographs one for all, or a list with one each, `None` where nothing is damaged.
        inpainter: fills damaged faces; the bundled one unless given.
        generator: source of all noise: one, or one per photograph.
        pick: "identity" makes one photograph of the `num_samples`, each of its faces the sample that is nearest in
            identity to the face before; needs the extra `metrics`. `None` makes one photograph of each sample.
        **pipe_arguments: handed to the pipeline's call: `num_inference_steps`, `start_timestep`, `eta`, `s_noise`, `num_samples`,
            `callback_on_step_end` and `callback_on_step_end_tensor_inputs`. With an interrupting callback the faces
            that were not reached stay as they were.

    Returns:
        `PhotoRestoration`, or a list of them if `photo` is a list. Where no face is found the photograph is only enlarged,
        and a `UserWarning` says so.

    Raises:
        TypeError: `photo` is neither of the accepted types nor a list of them.
        ValueError: an argument is out of range; the message names it.
    """
    # 0. Lists: photographs, and a selection of faces and a mask of damage for each
    several = isinstance(photo, Sequence)
    photos = list(photo) if several else [photo]
    selections = cast(
        list[Selection], list(faces) if several and not isinstance(faces, str) else [faces] * len(photos)
    )
    masks = list(damage_mask) if several and isinstance(damage_mask, list | tuple) else [damage_mask] * len(photos)

    # 1. Check everything once
    check_arguments(
        pipe,
        num_photos=len(photos),
        upscale=upscale,
        background=background,
        selections=selections,
        batch_size=batch_size,
        keep_gray=keep_gray,
        num_masks=len(masks),
        generator=generator,
        pick=pick,
        pipe_arguments=pipe_arguments,
    )
    channels = [split_channels(picture) for picture in photos]
    detector = YuNetDetector() if detector is None else detector

    # 2. Damage filled
    if any(mask is not None for mask in masks):
        inpainter = inpainter or DifFaceInpaintPipeline.from_pretrained(BUNDLED_INPAINT_MODEL).to(pipe.device)
        fill = partial(fill_damage, inpainter, detector=detector, min_face_size=min_face_size, batch_size=batch_size)
        noise = split_generator(generator, len(photos)) if isinstance(generator, torch.Generator) else generator
        for index, (mask, selection) in enumerate(zip(masks, selections, strict=True)):
            if mask is not None:
                rgb, alpha = channels[index]
                own = None if noise is None else noise[index]
                filled = fill(rgb, mask, faces=selection, keep_gray=keep_gray, generator=own)
                channels[index] = (np.asarray(filled.image), alpha)

    # 3. The faces of every photograph, cut out upright
    aligned: list[AlignedFaces] = []
    for number, ((rgb, _), selection) in enumerate(zip(channels, selections, strict=True), start=1):
        chosen = select_faces(to_uint8(rgb), detector, selection, min_face_size)
        aligned.append(align_faces(rgb, chosen, pipe.model_size[0], keeps_tint(rgb, keep_gray)))
        if not chosen and isinstance(selection, str):
            warnings.warn(f"no face in photograph {number} of {len(photos)}: it is only enlarged", stacklevel=2)

    # 4. All of them restored in batches, the samples of a face next to each other
    answers = restore_faces(pipe, aligned, generator, batch_size, pipe_arguments)

    # 5. Every photograph enlarged, and the changes to its faces added
    num_samples = pipe_arguments.get("num_samples", 1)
    restorations = []
    for picture, (rgb, alpha), each, (restored, estimates) in zip(photos, channels, aligned, answers, strict=True):
        size = (round(rgb.shape[0] * upscale), round(rgb.shape[1] * upscale))
        enlarged = enlarge(rgb, size, background)
        alpha = None if alpha is None else cv2.resize(alpha, size[::-1], interpolation=cv2.INTER_LANCZOS4)
        images = []
        versions = [restored[sample::num_samples] for sample in range(num_samples)]
        if pick is not None:
            versions = [closest_in_identity(each.crops, versions)]
        for version in versions:
            canvas = enlarged if len(versions) == 1 else enlarged.copy()
            put_back(canvas, each, version, draw_box)
            images.append(join_channels(canvas, alpha, like=picture, gray=each.keep_tint and not draw_box))
        restorations.append(
            PhotoRestoration(
                images,
                each.faces,
                *(faces_to_pil(row) for row in (each.crops, estimates, restored)),
                photo_size=each.photo_size,
            )
        )
    return restorations if several else restorations[0]


def check_arguments(
    pipe: DifFacePipeline,
    *,
    num_photos: int,
    upscale: float,
    background: str | Upscaler,
    selections: list[Selection],
    batch_size: int,
    keep_gray: str,
    num_masks: int,
    generator: torch.Generator | list[torch.Generator] | None,
    pick: str | None,
    pipe_arguments: dict[str, Any],
) -> None:
    """Raise for whatever `restore_photo` cannot do; see there."""
    if num_photos == 0:
        raise ValueError("`photo` is an empty list; at least one photograph is needed.")
    if not is_number(upscale) or not 1 <= upscale <= 8:
        raise ValueError(f"`upscale` is {upscale!r}; it must be a number within 1 .. 8.")
    if background not in BACKGROUNDS if isinstance(background, str) else not callable(background):
        raise ValueError(f"`background` is {background!r}; it must be {', '.join(BACKGROUNDS)} or an upscaler.")
    if len(selections) != num_photos:
        raise ValueError(f"`faces` has {len(selections)} selections; {num_photos} photographs need one each.")
    for selection in selections:
        parse_selection(selection)
    check_integer("batch_size", batch_size, 1, None)
    _check_choice("keep_gray", keep_gray, GRAY_CHOICES)
    _check_choice("pick", pick, PICK_CHOICES)
    if num_masks != num_photos:
        raise ValueError(f"`damage_mask` holds {num_masks} masks; {num_photos} photographs need one, or None, each.")
    if isinstance(generator, list) and len(generator) != num_photos:
        raise ValueError(f"`generator` is a list of {len(generator)}; {num_photos} photographs need one each.")
    unknown = sorted(set(pipe_arguments) - PIPE_ARGUMENTS)
    if unknown:
        raise TypeError(f"restore_photo does not take {', '.join(unknown)}; for the faces it takes {PIPE_ARGUMENTS}.")
    pipe.check_inputs(
        num_images=1,
        sampling=pipe.with_defaults(**{name: pipe_arguments.get(name) for name in (*SAMPLING_ARGUMENTS, "preset")}),
        num_samples=pipe_arguments.get("num_samples", 1),
        callback_on_step_end_tensor_inputs=pipe_arguments.get("callback_on_step_end_tensor_inputs", ["latents"]),
    )


def _check_choice(name: str, value: str | None, choices: tuple[str | None, ...]) -> None:
    if value not in choices:
        raise ValueError(f"`{name}` is {value!r}; it must be one of {', '.join(map(str, choices))}.")


def restore_faces(
    pipe: DifFacePipeline,
    aligned: list[AlignedFaces],
    generator: torch.Generator | list[torch.Generator] | None,
    batch_size: int,
    pipe_arguments: dict[str, Any],
) -> list[tuple[list[np.ndarray], list[np.ndarray]]]:
    """Restore the faces of several photographs in common batches.

    Returns:
        Per photograph the restored faces, in the colours of their photograph, and the estimates, `[S,S,3]` float32 in
        [0,1]; the samples of a face next to each other.
    """
    num_samples = pipe_arguments.get("num_samples", 1)
    crops = [crop for each in aligned for crop in each.crops]
    generators = split_over_faces(generator, [len(each.crops) * num_samples for each in aligned])
    restored: list[np.ndarray] = []
    estimates: list[np.ndarray] = []
    for start in range(0, len(crops), batch_size):
        batch = np.stack(crops[start : start + batch_size])
        noise = None if generators is None else generators[start * num_samples : (start + len(batch)) * num_samples]
        answer = pipe(batch, generator=noise, output_type="np", **pipe_arguments)
        if pipe.interrupt:
            break
        restored += list(np.asarray(answer.images))
        estimates += list(np.asarray(answer.estimates))
    unreached = [crop for crop in crops[len(restored) // num_samples :] for _ in range(num_samples)]
    remaining, remaining_estimates = iter(restored + unreached), iter(estimates + unreached)

    answers = []
    for each in aligned:
        sources = [crop for crop in each.crops for _ in range(num_samples)]
        answers.append(
            (
                [fit_in(face, crop, each.keep_tint) for crop, face in zip(sources, remaining, strict=False)],
                list(itertools.islice(remaining_estimates, len(sources))),
            )
        )
    return answers


def split_over_faces(
    generator: torch.Generator | list[torch.Generator] | None, counts: list[int]
) -> list[torch.Generator] | None:
    """Make one generator, or one per photograph, into one per restored face; `counts` are those of the photographs."""
    if generator is None:
        return None
    if isinstance(generator, torch.Generator):
        generator, counts = [generator], [sum(counts)]
    return [
        part
        for own, count in zip(generator, counts, strict=True)
        for part in split_generator(own, max(count, 1))[:count]
    ]


def fit_in(restored: np.ndarray, crop: np.ndarray, keep_tint: bool) -> np.ndarray:
    """Return a restored face `[S,S,3]` in the colours that its photograph has there, within [0,1]."""
    return np.clip(match_colour(to_gray(restored) if keep_tint else restored, crop), 0, 1)


def enlarge(rgb: np.ndarray, size: tuple[int, int], background: str | Upscaler) -> np.ndarray:
    """Enlarge a photograph `[H,W,3]` to `size` (height, width); the result is the caller's to change."""
    upscaler = BACKGROUNDS[background] if isinstance(background, str) else background
    enlarged = upscaler(rgb, size)
    if enlarged.shape != (*size, 3) or enlarged.dtype != rgb.dtype:
        raise ValueError(
            f"`background` answered {enlarged.dtype} {list(enlarged.shape)}; it must be {rgb.dtype} {[*size, 3]}."
        )
    return enlarged.copy() if np.may_share_memory(enlarged, rgb) else enlarged


def faces_to_pil(faces: list[np.ndarray]) -> list[Image.Image]:
    """Convert faces `[S,S,3]`, float32 in [0,1], to pictures of 8 bits."""
    return from_tensors([torch.from_numpy(face).permute(2, 0, 1) for face in faces], "pil")
