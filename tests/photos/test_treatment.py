import cv2
import numpy as np
import pytest

from difface_diffusers.photos.treatment import FaceTreatment, choose_treatment, damage_of


def face(side=128):
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:side, 0:side] / side
    coarse = 0.5 + 0.2 * np.sin(9 * x) * np.cos(7 * y)
    return (coarse[..., None] + rng.normal(0, 0.03, (side, side, 3))).astype(np.float32)


CLEAN = face()
BLURRED = cv2.GaussianBlur(CLEAN, (0, 0), 3)


def changed_by(crop, damage):
    """An estimate that finds this much damage in a face."""
    pattern = np.random.default_rng(1).normal(0, 1, crop.shape).astype(np.float32)
    return crop + pattern * np.float32(damage / damage_of(crop, crop + pattern))


def test_damage_is_the_change_against_the_fine_detail():
    assert damage_of(CLEAN, CLEAN) == 0
    assert damage_of(CLEAN, changed_by(CLEAN, 0.4)) == pytest.approx(0.4, rel=1e-4)
    same_change = CLEAN - cv2.GaussianBlur(CLEAN, (0, 0), 1)
    assert damage_of(BLURRED, BLURRED + same_change) > 1.5 * damage_of(CLEAN, CLEAN + same_change)


def test_damage_does_not_depend_on_the_models_size():
    larger = cv2.resize(BLURRED, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    assert damage_of(larger, 0.9 * larger) == pytest.approx(damage_of(BLURRED, 0.9 * BLURRED), rel=0.1)


def test_what_happens_in_the_hair_does_not_count():
    estimate = CLEAN.copy()
    estimate[:20] += 0.5
    assert damage_of(CLEAN, estimate) == 0


def test_the_more_damage_the_more_is_changed():
    treatments = [
        choose_treatment(CLEAN, changed_by(CLEAN, 0.2 * excess), 0.2, True, 1) for excess in (0.9, 1.15, 1.7, 6, 9)
    ]
    shares = [(each.repaired, each.detailed, each.repainted) for each in treatments]
    assert shares[0] == (0, 0, 0) and shares[4] == (1, 1, 1)
    assert 0 < shares[1][0] < 1 and shares[1][1:] == (0, 0)
    assert shares[2][0] == 1 > shares[2][1] > 0 == shares[2][2]
    assert shares[3][:2] == (1, 1) and 0 < shares[3][2] < 1
    assert [treatment.reason for treatment in treatments] == [
        "left as it is: it is clean",
        f"repaired by {shares[1][0]:.0%}, no detail drawn: it is hardly damaged",
        f"repaired by 100%, detail drawn by {shares[2][1]:.0%}: it is somewhat damaged",
        f"repaired, detail drawn, repainted by {shares[3][2]:.0%}: it is badly damaged",
        "all of the restoration: it is badly damaged",
    ]


@pytest.mark.parametrize(("clean_damage", "keep_clean"), [(None, True), (0.2, False)])
def test_without_a_limit_all_of_it_is_taken(clean_damage, keep_clean):
    treatment = choose_treatment(CLEAN, changed_by(CLEAN, 0.1), clean_damage, keep_clean, 1)
    assert (treatment.repaired, treatment.detailed, treatment.repainted) == (1, 1, 1)
    assert treatment.reason == "all of the restoration"


@pytest.mark.parametrize("damage", [0.3, 5])
def test_blend_weakens_all(damage):
    whole, half = (choose_treatment(CLEAN, changed_by(CLEAN, damage), 0.2, True, blend) for blend in (1, 0.5))
    for name in ("repaired", "detailed", "repainted"):
        assert getattr(half, name) == getattr(whole, name) / 2
    assert "50%" in half.reason


def test_a_face_that_was_not_reached():
    assert choose_treatment(CLEAN, CLEAN.copy(), 0.2, True, 1).reason == "left as it is: it was not reached"


def test_applied():
    crop, estimate, restored = CLEAN, CLEAN + 0.1, CLEAN + 0.1 + CLEAN[::-1]
    drawn = CLEAN[::-1]
    fine = drawn - cv2.GaussianBlur(drawn, (0, 0), 1)
    for repaired, detailed, repainted in ((1, 1, 1), (0.5, 0, 0), (1, 0.3, 0), (1, 1, 0.2)):
        treatment = FaceTreatment(1.0, repaired, detailed, repainted, "")
        expected = CLEAN + 0.1 * repaired + detailed * fine + repainted * (drawn - fine)
        np.testing.assert_allclose(treatment.apply(crop, estimate, restored), expected, atol=1e-5)
