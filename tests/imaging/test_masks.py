import numpy as np
import pytest
import torch
from PIL import Image

from difface_diffusers.imaging.masks import black_pixels, fit_masks, resize_known, shrink_mask, to_masks

from .test_tensors import NOT_DENSE, UNUSUAL_ARRAYS


HEIGHT, WIDTH = 6, 9


@pytest.fixture
def picture():
    return torch.rand(3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0)) * 0.9 + 0.1


@pytest.fixture
def mask():
    """Missing in the upper left, different along both axes."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:2, :5] = 255
    return mask


def forms(mask):
    rgba = np.dstack([np.full_like(mask, 255)] * 3 + [mask])
    return {
        "L": Image.fromarray(mask),
        "1": Image.fromarray(mask).convert("1"),
        "RGB": Image.fromarray(mask).convert("RGB"),
        "RGBA, transparent is known": Image.fromarray(rgba),
        "palette": Image.fromarray(mask).convert("P"),
        "[H,W]": mask,
        "[H,W,1]": mask[..., None],
        "[H,W,3]": np.dstack([mask] * 3),
        "[N,H,W,1]": mask[None, ..., None],
        "bool": mask > 0,
        "float": (mask / 255).astype(np.float64),
        "tensor [H,W]": torch.from_numpy(mask),
        "tensor [1,H,W]": torch.from_numpy(mask)[None] > 0,
        "tensor [N,1,H,W]": torch.from_numpy(mask)[None, None] / 255,
        "list": [mask],
    }


# Forms


@pytest.mark.parametrize("form", forms(np.zeros((1, 1), np.uint8)))
def test_every_form_means_the_same(picture, mask, form):
    (result,) = to_masks(forms(mask)[form], [picture], 0.5, False)
    assert result.dtype is torch.float32
    torch.testing.assert_close(result, torch.from_numpy(mask / 255).float()[None])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("form", UNUSUAL_ARRAYS)
@pytest.mark.parametrize("channels", [(), (1,), (3,)])
def test_unusual_arrays(picture, mask, form, channels):
    pixels = np.broadcast_to(mask.reshape(HEIGHT, WIDTH, *(1 for _ in channels)), (HEIGHT, WIDTH, *channels))
    (result,) = to_masks(UNUSUAL_ARRAYS[form](pixels), [picture], None, False)
    assert torch.equal(result, torch.from_numpy(mask / 255).float()[None])


@pytest.mark.parametrize("mode", ["I", "I;16", "I;16B", "La", "PA", "HSV", "CMYK"])
def test_any_mode_of_pillow(picture, mask, mode):
    if mode[0] == "I":
        data = (mask.astype(int) * (1 if mode == "I" else 257)).astype(
            {"I": "<i4", "I;16": "<u2", "I;16B": ">u2"}[mode]
        )
        image = Image.frombytes(mode, (WIDTH, HEIGHT), data.tobytes())
    else:
        image = Image.fromarray(mask).convert({"La": "LA", "PA": "P"}.get(mode, "RGB")).convert(mode)
    (result,) = to_masks(image, [picture], None, False)
    torch.testing.assert_close(result, torch.from_numpy(mask / 255).float()[None])


def test_white_is_missing_at_any_threshold(picture):
    for white in (np.ones((HEIGHT, WIDTH, 3), np.float32), Image.new("RGB", (WIDTH, HEIGHT), "white")):
        assert to_masks(white, [picture], 1.0, False)[0].all()


def test_one_mask_serves_all_pictures_or_each_has_its_own(picture, mask):
    other = np.zeros_like(mask)
    for first, second in (
        to_masks(mask, 2 * [picture], 0.5, False),
        to_masks([mask, other], 2 * [picture], 0.5, False),
    ):
        assert first.sum() == 10 and second.sum() in (10, 0)
    assert to_masks([mask, other], 2 * [picture], 0.5, False)[1].sum() == 0


def test_white_may_mean_known(picture, mask):
    (result,) = to_masks(mask, [picture], 0.5, True)
    torch.testing.assert_close(result, 1 - torch.from_numpy(mask / 255).float()[None])


def test_soft_edges_are_kept_or_cut(picture):
    soft = np.linspace(0, 1, HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH)
    (kept,) = to_masks(soft, [picture], None, False)
    np.testing.assert_array_equal(kept[0].numpy(), soft)
    (cut,) = to_masks(soft, [picture], 0.25, False)
    np.testing.assert_array_equal(cut[0].numpy(), soft >= 0.25)


def test_a_mask_of_another_size_is_fitted(picture, mask):
    large = mask.repeat(4, axis=0).repeat(4, axis=1)
    (result,) = to_masks(large, [picture], 0.5, False)
    torch.testing.assert_close(result, torch.from_numpy(mask / 255).float()[None])


def test_exactly_black_pixels_are_missing_unless_a_mask_is_given(picture):
    picture[:, 1, 2] = 0
    picture[:2, 3, 4] = 0  # still blue
    expected = torch.zeros(1, HEIGHT, WIDTH)
    expected[0, 1, 2] = 1
    torch.testing.assert_close(to_masks(None, [picture], 0.5, False)[0], expected)


# Refusals


@pytest.mark.parametrize(
    ("mask_image", "error", "message"),
    [
        (None, ValueError, "`mask_image` is None and no pixel of `image` is exactly black; give a mask"),
        ("mask.png", TypeError, "`mask_image` is a str; accepted is a PIL image"),
        ([], ValueError, "`mask_image` is an empty list"),
        (np.zeros((2, 3, 4, 5, 6)), ValueError, r"`mask_image` is of shape \[2, 3, 4, 5, 6\]"),
        (np.zeros((6, 9, 2)), ValueError, r"`mask_image` is of shape \[6, 9, 2\]"),
        (np.zeros(9), ValueError, r"`mask_image` is of shape \[9\]"),
        (np.array(1.0), ValueError, r"`mask_image` is of shape \[\]"),
        (torch.zeros(9), ValueError, r"`mask_image` is of shape \[9\]"),
        (np.zeros((6, 9), object), ValueError, "`mask_image` is of object"),
        (np.zeros((6, 9), ">u2"), ValueError, "`mask_image` is of uint16"),
        (np.zeros((6, 9), np.complex64), ValueError, "`mask_image` is of complex64"),
        (np.ma.masked_array(np.zeros((6, 9)), True), TypeError, "`mask_image` is a masked array"),
        (Image.new("I", (9, 6), 70000), ValueError, "`mask_image` cannot be used: its levels, 70000"),
        (Image.new("L", (0, 6)), ValueError, "`mask_image` cannot be used: it has no pixels"),
        (np.zeros((0, 9)), ValueError, r"`mask_image` is of shape \[0, 9\]"),
        (np.full((6, 9), np.nan), ValueError, r"`mask_image` has values from nan to nan; .* \[0,1\]"),
        (np.full((6, 9), 1.5), ValueError, "`mask_image` has values from 1.5 to 1.5"),
        (np.zeros((6, 9), np.int64), ValueError, "`mask_image` is of int64"),
        (np.zeros((3, 6, 9, 1)), ValueError, "`mask_image` holds 3 masks; it must hold 1 or one per image, 2"),
        (Image.new("F", (9, 6)), ValueError, r"`mask_image` cannot be used: .* \(mode F\)"),
    ],
)
def test_refuses(picture, mask_image, error, message):
    with pytest.raises(error, match=message):
        to_masks(mask_image, 2 * [picture], 0.5, False)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", NOT_DENSE)
def test_tensors_that_are_not_dense(picture, kind):
    with pytest.raises(TypeError, match=rf"`mask_image` is a {kind} tensor; accepted is a dense one"):
        to_masks(NOT_DENSE[kind](torch.rand(2, 1, HEIGHT, WIDTH)), 2 * [picture], 0.5, False)


def test_messages_name_the_argument_of_the_caller():
    with pytest.raises(TypeError, match="`damage_mask` is a str"):
        fit_masks("mask.png", [(6, 9)], 0.5, False, name="damage_mask")


# Sizes


def test_masks_are_fitted_to_sizes_of_their_own(mask):
    small, large = fit_masks(mask, [(HEIGHT, WIDTH), (4 * HEIGHT, 4 * WIDTH)], 0.5, False)
    assert small.sum() == 10 and large.shape == (1, 4 * HEIGHT, 4 * WIDTH) and abs(large.sum() - 160) <= 2


def test_a_shrunk_mask_misses_whatever_is_touched():
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 21, 40] = 0.01
    small = shrink_mask(mask, (8, 8))
    assert small[0, 0, 2, 5] == 1
    assert small.sum() < 9 and set(small.unique().tolist()) == {0, 1}
    torch.testing.assert_close(shrink_mask(mask, (64, 64)), (mask > 0).float())


@pytest.mark.parametrize("size", [(16, 16), (48, 48), (40, 56), (96, 70)])
def test_nothing_is_drawn_out_of_the_holes(size):
    mask = torch.zeros(1, 1, 48, 48)
    mask[..., 10:30, 5:25] = 1
    y, x = torch.meshgrid(torch.linspace(0.2, 0.8, 48), torch.linspace(0.3, 0.6, 48), indexing="ij")
    whole = torch.stack([y, x, (x + y) / 2])[None]
    results = [resize_known(torch.where(mask > 0, hole, whole), mask, size) for hole in (0.0, 1.0)]
    assert torch.equal(*results)
    known = shrink_mask(mask, size) == 0
    expected = torch.nn.functional.interpolate(whole, size, mode="bicubic", antialias=True)
    difference = ((results[0] - expected).abs() * known).amax()
    assert difference < 0.02
    assert 0 <= results[0].min() and results[0].max() <= 1


def test_the_model_s_own_size_is_not_resized(picture):
    mask = torch.zeros(1, 1, HEIGHT, WIDTH)
    mask[..., :2, :5] = 1
    result = resize_known(picture[None], mask, (HEIGHT, WIDTH))
    assert torch.equal(result, picture[None] * (1 - mask))


def test_black_pixels_of_a_picture_without_any(picture):
    with pytest.raises(ValueError, match="no pixel of `image` is exactly black"):
        black_pixels(picture)
