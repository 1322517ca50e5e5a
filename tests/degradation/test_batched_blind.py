import numpy as np
import pytest
import torch

from difface_diffusers.degradation import batched_blind as batched_degradation
from difface_diffusers.degradation.batched_blind import (
    Degradations,
    apply_degradations,
    by_canvas,
    compress_small,
    draw_degradations,
    halftones,
)
from difface_diffusers.degradation.batched_jpeg import jpeg_tables
from difface_diffusers.degradation.blind import (
    DegradationRanges,
    apply_degradation,
    draw_degradation,
    halftone,
    shrunk_size,
)

from ..training.statistics import assert_same_distribution
from ..training.tiny import face


TABLES = jpeg_tables(torch.device("cpu"))


def clean(count, size):
    return [face(seed, size, size).astype(np.float32) / 255 for seed in range(count)]


def batch(images):
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


def pictures(batch):
    return batch.permute(0, 2, 3, 1).numpy()


def together(draws):
    """Return the degradations of the one-by-one path, with their noise, as a batch's."""
    fields = [name for name in Degradations.__dataclass_fields__ if name != "size"]
    columns = {name: np.array([getattr(drawn, name) for drawn, _ in draws]) for name in fields}
    return Degradations(**columns, size=np.array([len(noise) for _, noise in draws]))


@pytest.fixture
def same_noise(monkeypatch):
    """Let the batch draw the noise of the one-by-one path."""

    def use(draws):
        groups = iter(by_canvas(together(draws).size))

        def randn(shape, generator, device):
            canvas, members = next(groups)
            assert shape == (len(members), 3, canvas, canvas)
            noise = np.zeros(shape, np.float32)
            for image, (_, white) in zip(noise, (draws[member] for member in members), strict=True):
                image[:, : len(white), : len(white)] = white.transpose(2, 0, 1)
            return torch.from_numpy(noise)

        monkeypatch.setattr(batched_degradation.torch, "randn", randn)

    return use


# What happens


@pytest.mark.parametrize("size", [64, 40])
@pytest.mark.parametrize(
    "ranges",
    [
        DegradationRanges(),
        DegradationRanges(downscale=(0.6, 8.0), mild_probability=0.5),
        DegradationRanges(halftone_probability=0.6, jpeg_quality=(90.0, 100.0)),
        DegradationRanges(blur_sigma=(0.1, 0.1), downscale=(0.5, 0.5), noise_sigma=(0.0, 0.0)),
    ],
)
def test_the_same_happens_as_one_by_one(same_noise, size, ranges):
    images, rng = clean(12, size), np.random.default_rng(size)
    draws = [draw_degradation(ranges, size, size, rng) for _ in images]
    expected = np.stack([apply_degradation(image, *draw) for image, draw in zip(images, draws, strict=True)])
    same_noise(draws)
    answer = apply_degradations(batch(images), together(draws), torch.Generator(), TABLES)
    errors = 255 * np.abs(pictures(answer) - expected)
    assert errors.mean() < 0.4  # levels
    assert errors.mean(axis=(1, 2, 3)).max() < 2
    assert (errors > 2.01).mean() < 0.05
    np.testing.assert_allclose(255 * answer, (255 * answer).round(), atol=1e-4)


def test_the_noise_comes_from_the_generator_alone_and_is_counted_in_levels():
    count, size = 20, 64
    drawn = Degradations(
        *(np.full(count, value) for value in (0.1, 0.1, 0.0)),
        np.full(count, size),
        np.linspace(2, 14, count),
        np.full(count, 100),
        *(np.zeros(count),) * 2,
    )
    gray = torch.full((count, 3, size, size), 0.5)
    first, again, other = (
        apply_degradations(gray, drawn, torch.Generator().manual_seed(seed), TABLES) for seed in (1, 1, 2)
    )
    assert first.equal(again) and not first.equal(other)
    deviations = 255 * (first - 0.5).mean(dim=1).std(dim=(1, 2)) * np.sqrt(3)  # of luma-like means: chroma is halved
    assert np.corrcoef(deviations, drawn.noise_sigma)[0, 1] > 0.99
    assert abs(255 * (first - 0.5).mean()) < 0.2


def test_noise_is_clipped_before_the_jpeg():
    black = torch.zeros(1, 3, 16, 16)
    size, sigma, quality = torch.tensor([16]), torch.tensor([30.0]), torch.tensor([100])
    noise = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(0)).expand(-1, 3, -1, -1)
    answer = compress_small(black, size, noise, sigma, quality, TABLES)
    assert 255 * answer.mean() == pytest.approx(30 * np.sqrt(1 / (2 * np.pi)), rel=0.1)


def test_a_print_is_that_of_the_one_by_one_path():
    images = clean(4, 48)
    pitch, angle = torch.tensor([3.1, 4.7, 8.0, 1.9]), torch.tensor([0.1, 0.9, 1.4, 0.0])
    expected = [
        halftone(image, float(one), float(other)) for image, one, other in zip(images, pitch, angle, strict=True)
    ]
    errors = np.abs(pictures(halftones(batch(images), pitch, angle)) - np.stack(expected))
    assert (errors > 1e-6).mean() < 1e-3
    assert errors.max() <= 2 / 16


def test_only_those_that_are_to_be_are_printed():
    images = batch(clean(3, 48))
    nothing = DegradationRanges((0.001, 0.001), (1, 1), (0, 0), (100, 100), halftone_pitch=(40.0, 40.0))
    plain = draw_degradations(nothing, 48, 3, np.random.default_rng(0))
    some = Degradations(**vars(plain) | {"halftone_pitch": np.array([0.0, 5.0, 0.0])})
    printed, unprinted = (
        apply_degradations(images, drawn, torch.Generator().manual_seed(0), TABLES) for drawn in (some, plain)
    )
    changed = (printed - unprinted).abs().mean(dim=(1, 2, 3))
    assert changed[0] == changed[2] == 0 and changed[1] > 0.1


# Sizes


def test_faces_of_about_a_size_share_the_smallest_canvas():
    sizes = np.array([320, 3, 161, 160, 79, 81, 40, 1])
    groups = {canvas: members.tolist() for canvas, members in by_canvas(sizes)}
    assert groups == {320: [0, 2], 160: [3, 5], 80: [4], 48: [1, 6, 7]}


def test_enlarged_faces_have_a_canvas():
    ((canvas, members),) = by_canvas(np.array([1000, 641]))
    assert canvas == 1280 and members.tolist() == [0, 1]


# What is drawn


def drawn_one_by_one(ranges, size, count):
    rng = np.random.default_rng(7)
    rows = []
    for _ in range(count):
        drawn, noise = draw_degradation(ranges, size, size, rng)
        assert noise.shape[:2] == shrunk_size(size, size, drawn.downscale)
        rows.append(vars(drawn) | {"size": len(noise)})
    return {name: np.array([row[name] for row in rows], float) for name in Degradations.__dataclass_fields__}


@pytest.mark.parametrize(
    ("ranges", "size"),
    [
        (DegradationRanges(), 32),
        (DegradationRanges(), 128),
        (DegradationRanges(mild_probability=0.6, halftone_probability=0.3), 64),
        (DegradationRanges((1.0, 4.0), (0.7, 9.0), (5.0, 6.0), (1.0, 40.0), mild_probability=1.0), 48),
    ],
)
def test_the_distributions_are_those_of_the_one_by_one_path(ranges, size):
    count = 2500
    expected = drawn_one_by_one(ranges, size, count)
    drawn = vars(draw_degradations(ranges, size, count, np.random.default_rng(3)))
    for name, values in expected.items():
        assert_same_distribution(drawn[name], values)
    for pair in (("sigma_x", "sigma_y"), ("sigma_x", "noise_sigma"), ("size", "jpeg_quality"), ("size", "sigma_y")):
        one, other = (np.corrcoef(values[pair[0]], values[pair[1]])[0, 1] for values in (drawn, expected))
        assert one == pytest.approx(other, abs=0.08)
    assert drawn["size"].dtype == drawn["jpeg_quality"].dtype == np.int64


def test_draws_repeat_with_the_seed():
    first, again, other = (
        draw_degradations(DegradationRanges(), 64, 9, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    for name in Degradations.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert (first.sigma_x != other.sigma_x).all()
