"""How far each face of a photograph is changed: as far as it is damaged."""

from dataclasses import dataclass

import cv2
import numpy as np

from ..faces.masks import smooth_step


ROWS, COLUMNS = (0.2, 0.86), (0.17, 0.83)  # of an aligned face, shares of its side: what is judged, without the hair
FINEST = 1 / 128  # sigma of the blur that fine detail is what remains beside, share of the side
LEAST_DETAIL = 0.02  # standard deviation of fine detail below which a face has none, on the scale of [0,1]
# From where to where each share rises, in multiples of the damage that the estimator sees in clean faces.
REPAIRED = 1.0, 1.4
DETAILED = 1.2, 2.2
REPAINTED = 4.0, 8.0


@dataclass(frozen=True)
class FaceTreatment:
    """What was done to a face, and why. The shares are 0 .. 1.

    Attributes:
        damage: how much of a face the estimator would change: the root mean square of that change, as a multiple of the face's
            own fine detail; about 0.2 for a clean face, 1 and more for one that is hardly recognized.
        repaired: share of the estimator's change that was put back.
        detailed: share of the fine detail that the prior drew over the estimate.
        repainted: share of what the prior changed in the structure of the estimate.
        reason: a sentence.
    """

    damage: float
    repaired: float
    detailed: float
    repainted: float
    reason: str

    def apply(self, crop: np.ndarray, estimate: np.ndarray, restored: np.ndarray) -> np.ndarray:
        """Return the face as it is put back; all `[S,S,3]` float32 in [0,1]."""
        drawn = restored - estimate
        coarse = drawn - _fine(drawn)
        parts = (self.repaired, estimate - crop), (self.detailed, drawn - coarse), (self.repainted, coarse)
        return crop + sum(np.float32(share) * part for share, part in parts)


def choose_treatment(
    crop: np.ndarray, estimate: np.ndarray, clean_damage: float | None, keep_clean: bool, blend: float
) -> FaceTreatment:
    """Return how far to change a face.

    A clean face is left as it is. One that has lost some detail is repaired as the estimator, which errs little, says, and
    the prior draws the finest detail. Only where so much is lost that the estimate is no more than a blur does the prior
    have its way with the structure too: it is sharp and looks real, but it is a guess.

    Args:
        crop: the face before, `[S,S,3]` float32 in [0,1].
        estimate: the estimator's answer.
        clean_damage: the largest damage that the estimator sees in clean faces; `None` if that has not been measured.
        keep_clean: see `restore_photo`, as is the next.
        blend: see there.
    """
    damage = damage_of(crop, estimate)
    if damage == 0:
        return FaceTreatment(damage, 0, 0, 0, "left as it is: it was not reached")
    if clean_damage is None or not keep_clean:
        return FaceTreatment(damage, blend, blend, blend, f"all of the restoration{_at(blend)}")
    shares = [float(smooth_step(*limits, damage / clean_damage)) for limits in (REPAIRED, DETAILED, REPAINTED)]
    repaired, detailed, repainted = shares
    if repaired == 0:
        reason = "left as it is: it is clean"
    elif detailed == 0:
        reason = f"repaired by {blend * repaired:.0%}, no detail drawn: it is hardly damaged"
    elif repainted == 0:
        reason = f"repaired by {blend * repaired:.0%}, detail drawn by {blend * detailed:.0%}: it is somewhat damaged"
    elif repainted < 1:
        reason = f"repaired, detail drawn, repainted by {blend * repainted:.0%}: it is badly damaged"
    else:
        reason = f"all of the restoration{_at(blend)}: it is badly damaged"
    return FaceTreatment(damage, *(blend * share for share in shares), reason)


def _at(blend: float) -> str:
    return "" if blend == 1 else f" at {blend:.0%}"


def damage_of(crop: np.ndarray, estimate: np.ndarray) -> float:
    """Return how much of a face the estimator would change, see `FaceTreatment.damage`; both `[S,S,3]` float32 in [0,1]."""
    side = len(crop)
    face = tuple(slice(round(start * side), round(stop * side)) for start, stop in (ROWS, COLUMNS))
    change, fine = (np.sqrt(np.mean(np.square(values[face]))) for values in (estimate - crop, _fine(crop)))
    return float(change / (fine + LEAST_DETAIL))


def _fine(face: np.ndarray) -> np.ndarray:
    """Return what of `[S,S,3]` is finer than a blur."""
    return face - cv2.GaussianBlur(face, (0, 0), FINEST * len(face))
