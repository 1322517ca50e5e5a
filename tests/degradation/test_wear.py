import dataclasses
import hashlib
import itertools

import cv2
import numpy as np
import pytest
import torch

from difface_diffusers.degradation import damages
from difface_diffusers.degradation.blind import (
    DegradationRanges,
    apply_degradation,
    degrade,
    degrade_pair,
    draw_degradation,
)
from difface_diffusers.degradation.test_sets import blind_set
from difface_diffusers.degradation.wear import (
    NO_WEAR,
    PARAMETERS,
    RANGES,
    Wear,
    WearRanges,
    WearWeights,
    draw_wear,
    keep_tones,
    wear_after,
    wear_before,
)
from difface_diffusers.training.config import DataConfig, EstimatorConfig, build_config, load_config, save_config
from difface_diffusers.training.data import FaceDataset

from ..training.tiny import face, write_faces


NOTHING = {"blur_sigma": (0.001, 0.001), "downscale": (1, 1), "noise_sigma": (0, 0), "jpeg_quality": (100, 100)}
NAMES = list(PARAMETERS)


def clean(size=64):
    return face(7, size, size).astype(np.float32) / 255


def rng(seed=0):
    return np.random.default_rng(seed)


def only(*names, **ranges):
    return WearRanges(weights=WearWeights(**{name: float(name in names) for name in NAMES}), **ranges)


def worn(size=64, probability=1.0, **settings):
    return DegradationRanges(wear_probability=probability, **settings)


def befallen(wear):
    """Return the names of the damages that a face has."""
    return {
        name
        for name, parameters in PARAMETERS.items()
        if any(getattr(wear, each) != getattr(NO_WEAR, each) for each in parameters if each != "opacity")
    }


def many(ranges=None, relative_size=0.5, count=300):
    return [draw_wear(ranges or WearRanges(), relative_size, rng(seed)) for seed in range(count)]


# Without a share


def test_without_a_share_nothing_is_drawn_otherwise():
    """The digest is that of what was drawn before there was any wear."""
    drawn = [draw_degradation(DegradationRanges(mild_probability=0.3), 64, 64, rng(seed)) for seed in range(200)]
    numbers = [list(vars(each).values())[:8] for each, _ in drawn]
    digest = hashlib.sha256(np.array(numbers, np.float64).tobytes())
    digest.update(b"".join(noise.tobytes() for _, noise in drawn))
    assert digest.hexdigest() == "bf9b5aa9f4a7fd107459e12d5bbdde054815852bc13df7c3e8b1c8aa219c0b49"
    assert all(each.wear is NO_WEAR for each, _ in drawn)


def test_a_face_that_is_not_worn_passes_as_it_is():
    image = clean()
    assert wear_before(image, NO_WEAR) is image and wear_after(image, NO_WEAR) is image
    assert keep_tones(image, NO_WEAR) is image


def test_wear_changes_nothing_of_what_else_happens():
    for seed in range(20):
        plain, noise = draw_degradation(DegradationRanges(), 64, 64, rng(seed))
        with_wear, same = draw_degradation(worn(), 64, 64, rng(seed))
        assert dataclasses.replace(with_wear, wear=NO_WEAR) == plain
        np.testing.assert_array_equal(noise, same)


# Drawing


def test_one_to_three_damages_by_their_weights():
    found = [befallen(wear) for wear in many()]
    assert {len(names) for names in found} == {1, 2, 3}
    assert set().union(*found) == set(NAMES)
    weights = WearWeights(**dict.fromkeys(NAMES, 0.0) | {"grain": 1.0, "dust": 3.0})
    two = [befallen(wear) for wear in many(WearRanges(weights=weights))]
    assert {frozenset(names) for names in two} == {
        frozenset({"grain"}),
        frozenset({"dust"}),
        frozenset({"grain", "dust"}),
    }
    alone = [next(iter(names)) for names in two if len(names) == 1]
    assert alone.count("dust") / len(alone) == pytest.approx(0.75, abs=0.12)


@pytest.mark.parametrize("relative_size", [1.0, 0.25])
def test_lengths_follow_the_size(relative_size):
    ranges = WearRanges()
    drawn = many(relative_size=relative_size, count=1500)
    for name in ("defocus_radius", "motion_length", "grain_size", "scratch_width", "crease_width", "dust_radius"):
        damage = next(each for each, parameters in PARAMETERS.items() if name in parameters)
        values = [getattr(wear, name) for wear in drawn if damage in befallen(wear)]
        low, high = (relative_size * end for end in getattr(ranges, name))
        assert low <= min(values) < low + 0.15 * (high - low) and high - 0.15 * (high - low) < max(values) <= high
    for name in ("grain_sigma", "chroma_sigma", "sharpening"):
        assert getattr(ranges, name)[1] >= max(getattr(wear, name) for wear in drawn) > 0.8 * getattr(ranges, name)[1]
    factors = [wear.thumbnail for wear in drawn]
    assert min(factors) == 1 and max(factors) == pytest.approx(14 * relative_size, rel=0.1)
    shifts = {shift for wear in drawn for save in wear.resaves for shift in save[2:]}
    assert shifts == set(range(8))


def test_sharpening_does_not_raise_the_grain_above_its_range():
    both = [wear for wear in many(only("grain", "sharpening", grain_sigma=(9.0, 9.0))) if wear.grain_sigma]
    assert {wear.sharpening > 0 for wear in both} == {True, False}
    for wear in both:
        assert wear.grain_sigma * (1 + wear.sharpening) == pytest.approx(9)


def test_a_share_of_faces_is_worn():
    drawn = [draw_degradation(worn(probability=0.4), 64, 64, rng(seed))[0] for seed in range(300)]
    assert sum(bool(befallen(each.wear)) for each in drawn) == pytest.approx(120, abs=30)


def test_mild_faces_are_worn_mildly():
    def severity(probability):
        ranges = worn(mild_probability=probability, wear=only("grain"))
        drawn = [draw_degradation(ranges, 512, 512, rng(seed))[0] for seed in range(150)]
        return np.array([[each.wear.grain_sigma, each.noise_sigma] for each in drawn])

    usual, mild = severity(0.0), severity(1.0)
    assert mild[:, 0].mean() < 0.75 * usual[:, 0].mean()
    assert np.corrcoef(mild.T)[0, 1] > 0.3 > np.corrcoef(usual.T)[0, 1]


def test_ranges_can_be_cut_to_nothing():
    """Whatever rounding does to their ends."""
    for share in [0.0, 1e-17, 1e-9, *np.random.default_rng(0).random(300)]:
        cut = WearRanges().cut(share)
        assert cut.exposure[0] == WearRanges().exposure[0] and cut.resave_quality[1] == WearRanges().resave_quality[1]


def test_cut_ranges_keep_their_harmless_end():
    ranges = WearRanges(grain_sigma=(4.0, 8.0), resave_quality=(20.0, 100.0), ink=(0.0, 0.2))
    cut = ranges.cut(0.25)
    assert cut.grain_sigma == pytest.approx((4.0, 5.0))
    assert cut.resave_quality == pytest.approx((80.0, 100.0))
    assert cut.ink == (0.0, 0.2)
    assert cut.weights == ranges.weights
    assert ranges.cut(1.0) == ranges


# Order


@pytest.fixture
def order(monkeypatch):
    """Note in which order damages are done."""
    done = []
    functions = (
        "defocus motion_blur expose monochrome chroma_noise grain fade crease scratch dust thumbnail sharpen resave"
    )
    for name in functions.split():
        monkeypatch.setattr(damages, name, lambda image, *_, name=name: done.append(name) or image)
    return done


EVERYTHING = Wear(
    defocus_radius=1.0,
    motion_length=2.0,
    exposure=0.5,
    monochrome=True,
    chroma_sigma=3.0,
    grain_sigma=3.0,
    faded_black=(0.1, 0.1, 0.1),
    crease_count=1,
    crease_width=1.0,
    scratch_count=1,
    scratch_width=1.0,
    dust_count=1,
    dust_radius=1.0,
    opacity=0.5,
    thumbnail=2.0,
    sharpening=1.0,
    resaves=((50, 1.0, 0, 0), (60, 1.0, 3, 3)),
)


@pytest.mark.parametrize("late", [False, True])
def test_the_order_is_that_of_a_photographs_life(order, late):
    camera = ["defocus", "motion_blur", "expose", "chroma_noise"]
    worn_print = ["grain", "fade", "crease", "scratch", "dust", "thumbnail"]
    file = ["sharpen", "resave", "resave"]
    wear = dataclasses.replace(EVERYTHING, late=late)
    wear_before(clean(), wear)
    assert order == camera + ([] if late else worn_print)
    order.clear()
    wear_after(clean(), wear)
    assert order == ["monochrome", *(worn_print if late else []), *file]


def test_what_comes_before_the_chain_is_blurred_by_it():
    drawn, noise = draw_degradation(DegradationRanges(**NOTHING | {"blur_sigma": (30, 30)}), 64, 64, rng())
    dusty = Wear(seed=3, dust_count=30, dust_radius=1.0, opacity=1.0)
    plain = apply_degradation(clean(), drawn, noise)
    early, late = (
        apply_degradation(clean(), dataclasses.replace(drawn, wear=dataclasses.replace(dusty, late=late)), noise)
        for late in (False, True)
    )
    assert 0 < np.abs(early - plain).max() < 0.4 < np.abs(late - plain).max()


# The whole


def test_a_function_of_the_generator_alone():
    for seed in range(30):
        image = clean()
        first = degrade(image, worn(), rng(seed))
        np.testing.assert_array_equal(image, clean())
        np.testing.assert_array_equal(degrade(image, worn(), rng(seed)), first)
        assert first.shape == (64, 64, 3) and first.dtype == np.float32
        np.testing.assert_allclose(first * 255, np.rint(first * 255), atol=1e-4)
        assert first.min() >= 0 and first.max() <= 1


@pytest.mark.parametrize("name", NAMES)
def test_each_damage_is_seen(name):
    ranges, image = worn(wear=only(name), **NOTHING), clean(256)
    pairs = [degrade_pair(image, ranges, rng(seed)) for seed in range(4)]
    untouched = degrade(image, DegradationRanges(**NOTHING), rng())
    assert sum(np.abs(degraded - untouched).max() > 2 / 255 for _, degraded in pairs) >= 3
    if name in ("exposure", "fading", "monochrome"):
        assert all(np.abs(target - degraded).mean() < 0.01 for target, degraded in pairs)
    else:
        assert all(np.array_equal(target, image) for target, _ in pairs)


def test_both_sides_are_printed_in_the_same_ink():
    ranges = worn(wear=only("monochrome", ink=(0.1, 0.1)))
    inks = set()
    for seed in range(12):
        target, degraded = degrade_pair(clean(), ranges, rng(seed))
        tints = [
            (image[..., 0] - image[..., 2])[(image.mean(-1) > 0.3) & (image.mean(-1) < 0.7)]
            for image in (target, degraded)
        ]
        assert np.sign(tints[0].mean()) == np.sign(tints[1].mean())
        assert tints[0].mean() == pytest.approx(tints[1].mean(), abs=0.03)
        np.testing.assert_allclose(
            target @ np.float32([0.299, 0.587, 0.114]), clean() @ np.float32([0.299, 0.587, 0.114]), atol=1e-5
        )
        inks.add(tints[0].mean() > 0)
    assert inks == {True, False}  # sepia and blue


def test_a_photograph_keeps_its_tones_in_both():
    """Exposure, fading and ink together, before and behind the paper's chain."""
    wear = dataclasses.replace(
        NO_WEAR,
        exposure=-0.5,
        monochrome=True,
        ink_red=0.05,
        ink_blue=-0.08,
        faded_black=(0.1, 0.1, 0.1),
        faded_white=(0.9, 0.9, 0.9),
    )
    for late in (False, True):
        each = dataclasses.replace(wear, late=late)
        target = keep_tones(clean(), each)
        np.testing.assert_allclose(wear_after(wear_before(clean(), each), each), target, atol=2e-3)
        assert np.abs(target - clean()).mean() > 0.05
        assert each.changes_tones
    for name, value in {"grain_sigma": 3.0, "defocus_radius": 2.0}.items():
        assert not dataclasses.replace(NO_WEAR, **{name: value}).changes_tones


def test_a_monochrome_print_fades_without_a_cast():
    ranges = only("monochrome", "fading", cast=(0.1, 0.1))
    both = [wear for wear in many(ranges, count=60) if befallen(wear) == {"monochrome", "fading"}]
    assert both and all(len(set(wear.faded_black)) == len(set(wear.faded_white)) == 1 for wear in both)
    colored = [wear for wear in many(ranges, count=60) if befallen(wear) == {"fading"}]
    assert colored and all(len(set(wear.faded_black + wear.faded_white)) > 2 for wear in colored)


@pytest.mark.parametrize("name", ["defocus", "motion", "thumbnail", "fading", "exposure", "sharpening"])
def test_a_face_wears_alike_at_every_size(name):
    y, x = np.mgrid[0:512, 0:512]
    texture = np.sin(2 * np.pi * x / 60) * np.sin(2 * np.pi * y / 90)
    big = (clean(512) * 0.6 + 0.2 + 0.15 * texture[..., None]).astype(np.float32)
    small = cv2.resize(big, (128, 128), interpolation=cv2.INTER_AREA)
    for seed in range(4):
        ranges = only(name)
        large, little = (draw_wear(ranges, relative_size, rng(seed)) for relative_size in (1.0, 0.25))
        if name == "thumbnail" and little.enlargement == "nearest":
            continue
        expected = cv2.resize(wear_after(wear_before(big, large), large), (128, 128), interpolation=cv2.INTER_AREA)
        assert np.abs(wear_after(wear_before(small, little), little) - expected).mean() < 0.012


def test_the_default_wear_leaves_faces_to_be_known():
    """Hardly any loses more than the strongest of the paper's range does."""
    strongest = DegradationRanges((15, 15), (32, 32), (20, 20), (30, 30))
    image = clean(128)
    lost = np.abs(degrade(image, strongest, rng()) - image).mean()
    alone = [degrade_pair(image, worn(**NOTHING), rng(seed)) for seed in range(60)]
    errors = [np.abs(target - degraded).mean() for target, degraded in alone]
    assert np.median(errors) < lost and np.mean(np.array(errors) > 2 * lost) < 0.15


# Data sets


def test_pairs_of_a_data_set_are_aligned(tmp_path):
    folder = write_faces(tmp_path / "faces")
    ranges = DegradationRanges(wear_probability=1.0, mild_probability=1.0, **NOTHING)
    dataset, plain = (FaceDataset(folder, DataConfig(image_size=32), 0, each) for each in (ranges, None))
    likenesses, changed = [], 0
    for position in range(60):
        item = dataset[position]
        target, degraded = item["clean"].flatten(), item["degraded"].flatten()
        likenesses.append(torch.corrcoef(torch.stack([target, degraded]))[0, 1].item())
        mirrored = torch.corrcoef(torch.stack([item["clean"].flip(-1).flatten(), degraded]))[0, 1].item()
        assert likenesses[-1] > mirrored
        changed += not torch.equal(item["clean"], plain[position]["clean"])
    assert np.mean(likenesses) > 0.9
    assert 0 < changed < 40  # those of other tones


def test_gray_pairs_stay_gray(tmp_path):
    ranges = DegradationRanges(wear_probability=1.0, gray_probability=1.0)
    dataset = FaceDataset(write_faces(tmp_path / "faces"), DataConfig(image_size=16), 0, ranges)
    for position in range(10):
        item = dataset[position]
        for image in (item["clean"], item["degraded"]):
            assert (image.amax(0) - image.amin(0)).max() < 1e-6


def test_a_test_set_notes_the_wear_and_has_the_ink_in_its_target():
    plain = next(iter(blind_set(64)))
    assert not any(name.startswith("wear") for name in plain.parameters) and plain.target is None
    ranges = worn(wear=only("monochrome", "grain"))
    for index, recipe in enumerate(itertools.islice(blind_set(64, 5, ranges), 8)):
        target, degraded = degrade_pair(clean(), ranges, np.random.default_rng([5, index]))
        np.testing.assert_array_equal(recipe.degrade(clean()), degraded)
        assert (recipe.target is not None) == recipe.parameters["wear_monochrome"]
        np.testing.assert_array_equal(clean() if recipe.target is None else recipe.target(clean()), target)
        assert set(recipe.parameters) == set(plain.parameters) | {f"wear_{name}" for name in vars(NO_WEAR)}


# Settings


def test_configs_state_it(tmp_path):
    values = {"degradation": {"wear_probability": 0.4, "wear": {"grain_sigma": [1, 2], "weights": {"dust": 0}}}}
    config = build_config(EstimatorConfig, values)
    assert config.degradation.wear_probability == 0.4
    assert config.degradation.wear == WearRanges(grain_sigma=(1.0, 2.0), weights=WearWeights(dust=0.0))
    save_config(config, tmp_path / "config.yaml")
    assert load_config(EstimatorConfig, tmp_path / "config.yaml") == config
    with pytest.raises(ValueError, match=r"unknown setting `degradation\.wear\.weights\.rust`"):
        build_config(EstimatorConfig, {"degradation": {"wear": {"weights": {"rust": 1}}}})


@pytest.mark.parametrize("name", RANGES)
@pytest.mark.parametrize("value", [(-1.0, 0.5), (0.2, 0.1), (0.1, float("inf")), (float("nan"), 1.0)])
def test_impossible_ranges_are_refused(name, value):
    with pytest.raises(ValueError, match=rf"`{name}` is \(.*must be \(low, high\) within"):
        WearRanges(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("thumbnail", (0.9, 2.0)),
        ("resave_downscale", (0.9, 2.0)),
        ("resave_quality", (0.0, 50.0)),
        ("resave_quality", (50.0, 101.0)),
        ("opacity", (0.0, 1.1)),
        ("ink", (0.0, 0.3)),
        ("fading", (0.0, 0.7)),
        ("cast", (0.0, 0.3)),
        ("grain_size", (0.0, 1.0)),
        ("exposure", (0.0, 5.0)),
    ],
)
def test_ranges_end_where_a_damage_does(name, value):
    with pytest.raises(ValueError, match=rf"`{name}` is \({value[0]}, {value[1]}\); it must be \(low, high\) within"):
        WearRanges(**{name: value})


def test_impossible_weights_are_refused():
    with pytest.raises(ValueError, match=r"`grain` is -1; it must be at least 0"):
        WearWeights(grain=-1)
    with pytest.raises(ValueError, match="all weights are 0"):
        WearWeights(**dict.fromkeys(NAMES, 0.0))
