import pytest
import torch
import torch.nn.functional as F
from torch import nn

from difface_diffusers import SwinIREstimator
from difface_diffusers.models.swinir import (
    RGB_MEAN,
    StochasticDepth,
    WindowAttention,
    attend,
    relative_position_index,
    shifted_window_mask,
)


TINY = {
    "embed_dim": 12,
    "depths": (2, 1),
    "num_heads": (2, 3),
    "window_size": 4,
    "scale": 2,
    "num_feat": 8,
    "drop_path_rate": 0.3,
}


def tiny(seed=0, **changes):
    model = SwinIREstimator(**TINY | changes).eval()
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        scale = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.3
        nn.init.normal_(parameter, std=scale, generator=generator)
    return model


def picture(*shape, seed=1):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


# Smoke


def test_defaults_are_the_official_network():
    with torch.device("meta"):
        model = SwinIREstimator()
    assert sum(parameter.numel() for parameter in model.parameters()) == 15_792_587
    assert len(model.state_dict()) == 660


def test_holds_no_buffers():
    model = tiny()
    assert list(model.buffers()) == []
    assert model.state_dict().keys() == dict(model.named_parameters()).keys()


def test_initialization():
    torch.manual_seed(0)
    model = SwinIREstimator(embed_dim=60, depths=(2,), num_heads=(6,))
    linears = [module for module in model.modules() if isinstance(module, nn.Linear)]
    drawn = torch.cat([linear.weight.flatten() for linear in linears])
    assert len(linears) == 8
    assert drawn.std().item() == pytest.approx(0.02, rel=0.02)
    assert drawn.mean().item() == pytest.approx(0, abs=1e-3)
    assert all(linear.bias.abs().max() == 0 for linear in linears)
    assert model.groups[0].blocks[1].attn.bias_table.std().item() == pytest.approx(0.02, rel=0.1)


@torch.no_grad()
def test_saves_and_loads(tmp_path):
    model, image = tiny(img_range=2.0), picture(1, 3, 10, 9)
    model.save_pretrained(tmp_path)
    loaded = SwinIREstimator.from_pretrained(tmp_path)
    assert (tmp_path / "diffusion_pytorch_model.safetensors").exists()
    assert {name: loaded.config[name] for name in ("scale", "img_range")} == {"scale": 2, "img_range": 2.0}
    torch.testing.assert_close(loaded(image), model(image), rtol=0, atol=1e-5)


# Shape


@torch.no_grad()
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 13), (8, 8), (33, 32), (50, 50)])
def test_answers_in_the_size_of_any_input(size):
    answer = tiny()(picture(2, 3, *size))
    assert answer.shape == (2, 3, *size)
    assert answer.isfinite().all()


@torch.no_grad()
@pytest.mark.parametrize(
    "changes",
    [
        {"in_channels": 1},
        {"scale": 1},
        {"scale": 4, "window_size": 3},
        {"scale": 1, "image_skips": True},
        {"in_channels": 1, "scale": 4, "image_skips": True},
        {"refinement_blocks": 1},
        {"in_channels": 1, "scale": 4, "window_size": 3, "refinement_blocks": 2},
    ],
)
def test_answers_for_other_arguments(changes):
    image = picture(1, changes.get("in_channels", 3), 11, 14)
    assert tiny(**changes)(image).shape == image.shape


@torch.no_grad()
def test_crops_the_padding_at_the_right_and_bottom():
    model, image = tiny(), picture(1, 3, 13, 20)
    whole = model(F.pad(image, (0, 4, 0, 3), mode="reflect"))
    torch.testing.assert_close(model(image), whole[..., :13, :20], rtol=0, atol=1e-6)


@torch.no_grad()
def test_images_of_a_batch_do_not_meet():
    model, images = tiny(), picture(3, 3, 16, 24)
    separate = torch.cat([model(image[None]) for image in images])
    torch.testing.assert_close(model(images), separate, rtol=0, atol=1e-5)


# Numbers


def test_relative_position_index():
    # Pixels of a window of two: (0,0) (0,1) (1,0) (1,1); the row of offset (dy,dx) is 3*(dy+1) + dx+1.
    expected = [[4, 3, 1, 0], [5, 4, 2, 1], [7, 6, 4, 3], [8, 7, 5, 4]]
    assert relative_position_index(2, torch.device("cpu")).tolist() == expected


@pytest.mark.parametrize("window", [4, 3])
def test_mask_parts_what_was_apart_before_the_roll(window):
    height, width, shift = 2 * window, 3 * window, window // 2
    mask = shifted_window_mask(height, width, window, torch.device("cpu"))
    assert mask.shape == (6, window**2, window**2)
    for index in range(6):
        rows = [index // 3 * window + pixel // window for pixel in range(window**2)]
        columns = [index % 3 * window + pixel % window for pixel in range(window**2)]
        wrapped = [
            (y >= height - shift, x >= width - shift) for y, x in zip(rows, columns, strict=True)
        ]  # rolled in from the other side
        expected = [[0.0 if query == key else -100.0 for key in wrapped] for query in wrapped]
        assert mask[index].tolist() == expected


@torch.no_grad()
@pytest.mark.parametrize("masked", [False, True])
def test_window_attention_is_softmax_attention_in_each_window(masked):
    side, heads, dim = 3, 2, 8
    attention = WindowAttention(dim, heads, side)
    generator = torch.Generator().manual_seed(0)
    for parameter in attention.parameters():
        nn.init.normal_(parameter, generator=generator)
    x = torch.randn(2, 6, 9, dim, generator=generator)
    index = relative_position_index(side, x.device)
    mask = shifted_window_mask(6, 9, side, x.device)
    answer = attention(x, index, mask if masked else None)

    for window in range(6):
        top, left = window // 3 * side, window % 3 * side
        tokens = x[1, top : top + side, left : left + side].reshape(side * side, dim)
        query, key, value = attention.qkv(tokens).split(dim, dim=1)
        results = []
        for head in range(heads):
            part = slice(head * dim // heads, (head + 1) * dim // heads)
            logits = query[:, part] @ key[:, part].T * (dim // heads) ** -0.5 + attention.bias_table[index, head]
            results.append((logits + masked * mask[window]).softmax(1) @ value[:, part])
        expected = attention.proj(torch.cat(results, 1)).view(side, side, dim)
        actual = answer[1, top : top + side, left : left + side]
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-4)


def test_attention_written_out_is_torchs_own():
    """That is how gradients in bfloat16 are had on a CPU; the answers differ by its rounding."""
    query, key, value = torch.randn(3, 2, 5, 9, 4)
    bias = torch.randn(1, 5, 9, 9)
    answers = []
    for dtype in (torch.float32, torch.bfloat16):
        inputs = [tensor.to(dtype).requires_grad_() for tensor in (query, key, value)]
        answer = attend(*inputs, bias.to(dtype))
        assert answer.dtype == dtype and answer.shape == query.shape
        answers.append([answer, *torch.autograd.grad(answer.float().square().sum(), inputs)])
    for exact, rounded in zip(*answers, strict=True):
        assert (exact - rounded.float()).norm() < 0.02 * exact.norm()


@torch.no_grad()
def test_mean_is_added_back_channel_by_channel():
    model = tiny()
    nn.init.zeros_(model.conv_out.weight)
    nn.init.zeros_(model.conv_out.bias)
    answer = model(picture(1, 3, 8, 8))
    torch.testing.assert_close(answer[0, :, 3, 5], torch.tensor(RGB_MEAN))


@torch.no_grad()
def test_image_range_scales_what_goes_in_and_out():
    model, image = tiny(), picture(1, 3, 8, 16)
    scaled = SwinIREstimator(**TINY, img_range=4.0).eval()
    scaled.load_state_dict(model.state_dict())
    scaled.conv_in.weight.mul_(0.25)
    scaled.conv_out.weight.mul_(4)
    scaled.conv_out.bias.mul_(4)
    torch.testing.assert_close(scaled(image), model(image), rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("changes", [{}, {"image_skips": True}, {"refinement_blocks": 2}])
def test_every_parameter_matters(changes):
    model, image = tiny(scale=4, **changes), picture(1, 3, 16, 16)
    answer = model(image)
    for name, parameter in model.named_parameters():
        kept = parameter.clone()
        parameter += torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2))
        assert (model(image) - answer).abs().max() > 1e-5, name
        parameter.copy_(kept)


@torch.no_grad()
def test_skips_start_as_nothing():
    plain, skipping = tiny(), SwinIREstimator(**TINY, image_skips=True).eval()
    missing = skipping.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert missing == ["conv_skip.0.weight", "conv_skip.0.bias"]
    image = picture(1, 3, 13, 20)
    assert torch.equal(skipping(image), plain(image))


@torch.no_grad()
def test_skips_bring_the_details_of_their_place():
    model, image = tiny(scale=4, image_skips=True), picture(1, 3, 48, 48)
    for parameter in model.conv_feat.parameters():  # nothing comes through the folded map
        nn.init.zeros_(parameter)
    changed = image.clone()
    changed[..., 20, 24] += 0.1
    rows, columns = ((model(changed) - model(image)).abs().amax(dim=(0, 1)) > 1e-6).nonzero(as_tuple=True)
    assert 20 in rows and 24 in columns
    assert rows.min() > 20 - 16 and rows.max() < 20 + 16 and columns.min() > 24 - 16 and columns.max() < 24 + 16


@torch.no_grad()
def test_refinement_starts_as_nothing():
    plain, refined = tiny(), SwinIREstimator(**TINY, refinement_blocks=2).eval()
    missing = refined.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert missing and all(name.startswith("refinement.") for name in missing)
    image = picture(1, 3, 13, 20)
    assert torch.equal(refined(image), plain(image))


@torch.no_grad()
@pytest.mark.parametrize("img_range", [1.0, 4.0])
def test_refinement_takes_the_image_back_and_adds(img_range):
    model, image = tiny(refinement_blocks=2, img_range=img_range), picture(1, 3, 13, 20)
    weights, bias = model.refinement.conv_out.parameters()
    nn.init.zeros_(weights)
    bias.copy_(
        torch.tensor([0.0, 1, 0, 1] + 4 * [0.0] + 4 * [0.0] + 4 * [0.5 * img_range])
    )  # every second column; blue
    answer = model(image)
    blue = torch.tensor([0, 0, 0.5]).view(3, 1, 1)
    torch.testing.assert_close(answer[..., 1::2], image[..., 1::2] + blue, rtol=0, atol=1e-5)
    bias.zero_()
    torch.testing.assert_close(answer[..., ::2], model(image)[..., ::2] + blue, rtol=0, atol=1e-5)


# Training


def test_stochastic_depth_grows_from_zero_to_the_last_block():
    rates = [block.drop_path.rate for group in tiny().groups for block in group.blocks]
    assert rates == pytest.approx([0, 0.15, 0.3])


def test_stochastic_depth_drops_images_and_keeps_the_mean():
    torch.manual_seed(0)
    branch = StochasticDepth(0.25).train()(torch.full((4000, 2, 3), 3.0))
    kept = branch[:, 0, 0] > 0
    assert torch.equal(branch, torch.where(kept, 4.0, 0.0)[:, None, None].expand(-1, 2, 3))
    assert kept.float().mean().item() == pytest.approx(0.75, abs=0.02)


def test_is_random_in_training_only():
    model, image = tiny(), picture(4, 3, 8, 8)
    assert torch.equal(model(image), model(image))
    torch.manual_seed(0)
    model.train()
    assert not torch.equal(model(image), model(image))


def test_gradient_checkpointing_changes_no_gradient():
    image = picture(2, 3, 16, 16)
    gradients = []
    for checkpointing in (False, True):
        model = tiny().train()
        if checkpointing:
            model.enable_gradient_checkpointing()
        torch.manual_seed(0)
        model(image).square().mean().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(checkpointed, plain)


# Precision and compilation


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_runs_in_half_precision(dtype):
    model, image = tiny(), picture(1, 3, 14, 16)
    expected = model(image)
    answer = model.to(dtype)(image.to(dtype))
    assert answer.dtype == dtype
    assert (answer.float() - expected).abs().mean() < 0.1 * expected.std()


@pytest.mark.slow
@torch.no_grad()
def test_compiles_without_graph_breaks():
    model, image = tiny(), picture(1, 3, 14, 16)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(image), model(image))


# Errors


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scale": 6}, r"`scale` is 6; it must be a power of two"),
        ({"refinement_blocks": -1}, r"`refinement_blocks` is -1 .* must be 0 or more"),
        ({"scale": 1, "refinement_blocks": 1}, r"`refinement_blocks` is 1 and `scale` 1; .* at least 2"),
        ({"scale": 0}, r"`scale` is 0; it must be above 0"),
        ({"window_size": 0}, r"`window_size` is 0"),
        ({"img_range": 0.0}, r"`img_range` is 0.0"),
        ({"mlp_ratio": -1.0}, r"`mlp_ratio` is -1.0"),
        ({"depths": (2, 2, 2)}, r"`depths` is \(2, 2, 2\) and `num_heads` is \(2, 3\); both need one entry per group"),
        ({"depths": (), "num_heads": ()}, r"at least one"),
        ({"depths": (2, 0)}, r"`depths` is 0"),
        ({"num_heads": (2, 5)}, r"`embed_dim` is 12; it must be a multiple of each of `num_heads`, \(2, 5\)"),
        ({"drop_path_rate": 1.0}, r"`drop_path_rate` is 1.0; it must lie in \[0,1\)"),
    ],
)
def test_refuses_impossible_arguments(changes, message):
    with pytest.raises(ValueError, match=message):
        SwinIREstimator(**TINY | changes)


@pytest.mark.parametrize("shape", [(1, 1, 8, 8), (3, 8, 8)])
def test_refuses_images_of_another_form(shape):
    with pytest.raises(ValueError, match=r"`image` has shape .*; it must be \[B,3,H,W\]"):
        tiny()(torch.zeros(shape))
