"""Whole photographs: find the faces, restore them together, put them back unseen."""

import itertools
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from PIL import Image

from ..faces import FaceDetector, YuNetDetector
from ..faces.compositing import keeps_tint
from ..faces.crops import AlignedFaces, align_faces, outline_faces
from ..faces.selection import Selection, parse_selection, select_faces
from ..imaging.pixels import join_channels, split_channels, to_uint8
from ..imaging.tensors import from_tensors
from ..models.bundled import BUNDLED_INPAINT_MODEL
from ..pipelines.generators import check_generator_type, one_for_each, split_generator
from ..pipelines.pipeline_difface import DifFacePipeline
from ..pipelines.pipeline_difface_inpaint import DifFaceInpaintPipeline
from ..pipelines.sampling import SAMPLING_ARGUMENTS, Callback
from ..utils.choices import MIN_FACE_SIZE
from ..utils.records import take
from ..utils.warning import warn_user
from .damage import fill_damage
from .enlarging import enlarge, fill_invisible
from .pasting import fit_in, put_back
from .result import PhotoRestoration
from .samples import closest_in_identity
from .settings import RestorationSettings
from .treatment import choose_treatment
from .upscale import Upscaler, as_upscaler, share_of


def restore_photo(
    pipe: DifFacePipeline,
    photo: Image.Image | np.ndarray,
    detector: FaceDetector | None = None,
    upscale: float = 2,
    background: str | Upscaler = "bundled",
    background_blend: float | None = None,
    faces: Selection = "all",
    min_face_size: float = MIN_FACE_SIZE,
    batch_size: int = 8,
    keep_gray: str = "auto",
    draw_box: bool = False,
    blend: float = 1.0,
    keep_clean: bool = True,
    match_grain: str = "auto",
    damage_mask: Any = None,
    inpainter: DifFaceInpaintPipeline | None = None,
    generator: torch.Generator | None = None,
    pick: str | None = None,
    num_samples: int = 1,
    preset: str | None = None,
    num_inference_steps: int | None = None,
    start_timestep: int | str | None = None,
    eta: float | None = None,
    s_noise: float | None = None,
    scheduler: str | None = None,
    callback_on_step_end: Callback | None = None,
    callback_on_step_end_tensor_inputs: list[str] | None = None,
) -> PhotoRestoration:
    """Restore the faces of a photograph and enlarge it; for several photographs see `restore_photos`.

    Every face is aligned, restored at the model's size and put back as a change to the enlarged photograph, so that what
    the model does not touch stays: the background, detail finer than the model's pixels, and the tint of an old print.

    Args:
        pipe: restores the aligned faces.
        photo: PIL image of any mode, or an array `[H,W]`, `[H,W,2]` (gray and alpha), `[H,W,3]` or `[H,W,4]`, uint8, uint16
            or float in [0,1]. Any size.
        detector: finds the faces; `YuNetDetector()` unless given.
        upscale: by how much the whole picture is enlarged, 1 .. 8.
        background: how: "bundled", a small network; "lanczos"; "none", which repeats the pixels as they are; another name
            that `load_upscaler` takes, as "realesr-general-x4v3"; or an `Upscaler`, as `load_upscaler` returns it. The network
            of a name stays in memory.
        background_blend: share of `background`, 0 .. 1; the rest is enlarged by Lanczos. `None` is .7 of the bundled network,
            and all of any other.
        faces: "all", "largest", "center", or a list whose entries are indices of the faces found, counted from the left, or
            faces given by hand: boxes (left, top, right, bottom), landmarks `[5,2]` or `Face`s, in pixels of the photo.
        min_face_size: found faces of a narrower box are left as they are, pixels.
        batch_size: faces that go through the networks together.
        keep_gray: "auto" keeps the faces of a gray or sepia photograph so; "on" leaves every photograph's colors as they
            are, "off" takes what the model paints.
        draw_box: draw the outline of every aligned face into the picture.
        blend: how much of the change to each face is put back, 0 .. 1.
        keep_clean: leave clean faces as they are, and change the others only as far as they are damaged; `treatments` of the
            result say what was done. `False` puts the whole restoration back. Needs a pipeline with `clean_damage`.
        match_grain: "auto" gives restored faces the grain that the photograph has around them, "off" leaves them smooth.
        damage_mask: white is damaged and filled before anything else, faces by the inpainter and the rest from its
            surroundings; PIL image, array or tensor as for `DifFaceInpaintPipeline`, of any size: it is fitted to the
            photograph.
        inpainter: fills damaged faces; the bundled one unless given.
        generator: source of all noise.
        pick: "identity" makes one photograph of the `num_samples`, each of its faces the sample that is nearest in
            identity to the face before; needs the extra `metrics`. `None` makes one photograph of each sample.
        num_samples: restorations of each face.
        preset: see `DifFacePipeline.__call__`, as are the rest.
        num_inference_steps: see there.
        start_timestep: see there.
        eta: see there.
        s_noise: see there.
        scheduler: see there.
        callback_on_step_end: see there. With an interrupting callback the faces that were not reached stay as they were.
        callback_on_step_end_tensor_inputs: see there.

    Returns:
        `PhotoRestoration`. Where no face is found the photograph is only enlarged, and a `UserWarning` says so.

    Raises:
        ImportError, OSError: `background` cannot be loaded; see `load_upscaler`.
        TypeError: `photo` or `generator` is of none of the accepted types.
        ValueError: an argument is out of range; the message names it.
    """
    settings = take(RestorationSettings, locals())
    if isinstance(photo, list | tuple):
        warn_user(
            "`photo` is a list; `restore_photos` is for several photographs, and `restore_photo` will refuse them.",
            DeprecationWarning,
        )
        selections = cast(Any, faces)
        return cast(PhotoRestoration, _restore(pipe, photo, selections, damage_mask, generator, settings))
    if isinstance(damage_mask, list | tuple):
        raise ValueError(f"`damage_mask` is a list of {len(damage_mask)}; one photograph has one mask.")
    selections = faces if isinstance(faces, str) else [faces]
    return _restore(pipe, [photo], selections, damage_mask, generator, settings)[0]


def restore_photos(
    pipe: DifFacePipeline,
    photos: Sequence[Image.Image | np.ndarray],
    detector: FaceDetector | None = None,
    upscale: float = 2,
    background: str | Upscaler = "bundled",
    background_blend: float | None = None,
    faces: str | Sequence[Selection] = "all",
    min_face_size: float = MIN_FACE_SIZE,
    batch_size: int = 8,
    keep_gray: str = "auto",
    draw_box: bool = False,
    blend: float = 1.0,
    keep_clean: bool = True,
    match_grain: str = "auto",
    damage_mask: Any = None,
    inpainter: DifFaceInpaintPipeline | None = None,
    generator: torch.Generator | list[torch.Generator] | None = None,
    pick: str | None = None,
    num_samples: int = 1,
    preset: str | None = None,
    num_inference_steps: int | None = None,
    start_timestep: int | str | None = None,
    eta: float | None = None,
    s_noise: float | None = None,
    scheduler: str | None = None,
    callback_on_step_end: Callback | None = None,
    callback_on_step_end_tensor_inputs: list[str] | None = None,
) -> list[PhotoRestoration]:
    """Restore the faces of several photographs, in common batches, and enlarge them.

    Args:
        pipe: see `restore_photo`, as are all but those below.
        photos: each as `restore_photo` takes it, of any size.
        detector: see `restore_photo`.
        upscale: see `restore_photo`.
        background: see `restore_photo`.
        background_blend: see `restore_photo`.
        faces: "all", "largest" or "center", or one selection for each photograph.
        min_face_size: see `restore_photo`.
        batch_size: faces of all photographs that go through the networks together.
        keep_gray: see `restore_photo`.
        draw_box: see `restore_photo`.
        blend: see `restore_photo`.
        keep_clean: see `restore_photo`.
        match_grain: see `restore_photo`.
        damage_mask: one for all, or a list with one for each photograph, `None` where nothing is damaged.
        inpainter: see `restore_photo`.
        generator: source of all noise: one, or one for each photograph.
        pick: see `restore_photo`.
        num_samples: see `restore_photo`.
        preset: see `restore_photo`.
        num_inference_steps: see `restore_photo`.
        start_timestep: see `restore_photo`.
        eta: see `restore_photo`.
        s_noise: see `restore_photo`.
        scheduler: see `restore_photo`.
        callback_on_step_end: see `restore_photo`.
        callback_on_step_end_tensor_inputs: see `restore_photo`.

    Returns:
        One `PhotoRestoration` for each photograph.

    Raises:
        ImportError, OSError: see `restore_photo`.
        TypeError: a photograph or `generator` is of none of the accepted types.
        ValueError: an argument is out of range; the message names it.
    """
    return _restore(pipe, photos, faces, damage_mask, generator, take(RestorationSettings, locals()))


def _restore(
    pipe: DifFacePipeline,
    photos: Sequence[Image.Image | np.ndarray],
    faces: str | Sequence[Selection],
    damage_mask: Any,
    generator: torch.Generator | list[torch.Generator] | None,
    settings: RestorationSettings,
) -> list[PhotoRestoration]:
    """Restore photographs; see `restore_photos`."""
    # 0. A selection of faces and a mask of damage for each photograph
    photos = list(photos)
    selections = cast(list[Selection], [faces] * len(photos) if isinstance(faces, str) else list(faces))
    masks = list(damage_mask) if isinstance(damage_mask, list | tuple) else [damage_mask] * len(photos)

    # 1. Check everything once
    check_arguments(pipe, len(photos), selections, len(masks), generator, settings)
    channels = [split_channels(picture) for picture in photos]
    detector = YuNetDetector() if settings.detector is None else settings.detector
    min_face_size, keep_gray = settings.min_face_size, settings.keep_gray
    background = as_upscaler(settings.background, pipe.device)

    # 2. Damage filled
    if any(mask is not None for mask in masks):
        inpainter = settings.inpainter or DifFaceInpaintPipeline.from_pretrained(BUNDLED_INPAINT_MODEL).to(pipe.device)
        fill = partial(
            fill_damage,
            inpainter,
            detector=detector,
            min_face_size=min_face_size,
            batch_size=settings.batch_size,
            keep_gray=keep_gray,
        )
        noise = one_for_each(generator, len(photos))
        for index, (mask, selection) in enumerate(zip(masks, selections, strict=True)):
            if mask is not None:
                rgb, alpha = channels[index]
                own = None if noise is None else noise[index]
                filled = fill(rgb, mask, faces=selection, generator=own)
                channels[index] = (np.asarray(filled.image), alpha)

    # 3. The faces of every photograph, cut out upright
    aligned: list[AlignedFaces] = []
    for number, ((rgb, alpha), selection) in enumerate(zip(channels, selections, strict=True), start=1):
        rgb = fill_invisible(rgb, alpha)
        chosen = select_faces(to_uint8(rgb), detector, selection, min_face_size)
        aligned.append(align_faces(rgb, chosen, pipe.model_size[0], keeps_tint(rgb, keep_gray)))
        if not chosen and isinstance(selection, str):
            warn_user(f"no face in photograph {number} of {len(photos)}: it is only enlarged")

    # 4. All of them restored in batches, the samples of a face next to each other
    answers = restore_faces(pipe, aligned, generator, settings)

    # 5. Every photograph enlarged, and the changes to its faces added
    restorations = []
    for picture, (rgb, alpha), each, (restored, estimates) in zip(photos, channels, aligned, answers, strict=True):
        size = (round(rgb.shape[0] * settings.upscale), round(rgb.shape[1] * settings.upscale))
        enlarged, alpha = enlarge(
            rgb, alpha, size, background, share_of(settings.background, settings.background_blend)
        )
        guesses = estimates[:: settings.num_samples]
        treatments = [
            choose_treatment(crop, guess, pipe.config.get("clean_damage"), settings.keep_clean, settings.blend)
            for crop, guess in zip(each.crops, guesses, strict=True)
        ]
        images = []
        versions = [restored[sample :: settings.num_samples] for sample in range(settings.num_samples)]
        if settings.pick is not None:
            versions = [closest_in_identity(each.crops, versions)]
        for version in versions:
            canvas = enlarged if len(versions) == 1 else enlarged.copy()
            put_back(canvas, each, guesses, version, treatments, settings.match_grain)
            if settings.draw_box:
                outline_faces(canvas, each)
            gray = each.keep_tint and not settings.draw_box
            images.append(join_channels(canvas, alpha, like=picture, gray=gray))
        restorations.append(
            PhotoRestoration(
                images,
                each.faces,
                *(faces_to_pil(row) for row in (each.crops, estimates, restored)),
                photo_size=each.photo_size,
                treatments=treatments,
            )
        )
    return restorations


def check_arguments(
    pipe: DifFacePipeline,
    num_photos: int,
    selections: list[Selection],
    num_masks: int,
    generator: torch.Generator | list[torch.Generator] | None,
    settings: RestorationSettings,
) -> None:
    """Raise for whatever `restore_photos` cannot do; see there."""
    if num_photos == 0:
        raise ValueError("`photo` is an empty list; at least one photograph is needed.")
    if len(selections) != num_photos:
        raise ValueError(f"`faces` has {len(selections)} selections; {num_photos} photographs need one each.")
    for selection in selections:
        parse_selection(selection)
    if num_masks != num_photos:
        raise ValueError(f"`damage_mask` holds {num_masks} masks; {num_photos} photographs need one, or None, each.")
    check_generator_type(generator)
    if isinstance(generator, list) and len(generator) != num_photos:
        raise ValueError(f"`generator` is a list of {len(generator)}; {num_photos} photographs need one each.")
    call = vars(settings.call)
    tensor_inputs = settings.call.callback_on_step_end_tensor_inputs
    pipe.check_inputs(
        num_images=1,
        sampling=pipe.with_defaults(**{name: call[name] for name in (*SAMPLING_ARGUMENTS, "preset")}),
        num_samples=settings.num_samples,
        callback_on_step_end_tensor_inputs=["latents"] if tensor_inputs is None else tensor_inputs,
    )


def restore_faces(
    pipe: DifFacePipeline,
    aligned: list[AlignedFaces],
    generator: torch.Generator | list[torch.Generator] | None,
    settings: RestorationSettings,
) -> list[tuple[list[np.ndarray], list[np.ndarray]]]:
    """Restore the faces of several photographs in common batches.

    Returns:
        Per photograph the restored faces, in the colors of their photograph, and the estimates, `[S,S,3]` float32 in
        [0,1]; the samples of a face next to each other.
    """
    num_samples, batch_size = settings.num_samples, settings.batch_size
    crops = [crop for each in aligned for crop in each.crops]
    generators = split_over_faces(generator, [len(each.crops) * num_samples for each in aligned])
    restored: list[np.ndarray] = []
    estimates: list[np.ndarray] = []
    for start in range(0, len(crops), batch_size):
        batch = np.stack(crops[start : start + batch_size])
        noise = None if generators is None else generators[start * num_samples : (start + len(batch)) * num_samples]
        answer = pipe(batch, generator=noise, output_type="np", num_samples=num_samples, **vars(settings.call))
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


def faces_to_pil(faces: list[np.ndarray]) -> list[Image.Image]:
    """Convert faces `[S,S,3]`, float32 in [0,1], to pictures of 8 bits."""
    return from_tensors([torch.from_numpy(face).permute(2, 0, 1) for face in faces], "pil")
