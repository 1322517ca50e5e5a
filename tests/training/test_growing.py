import pytest
import torch

from difface_diffusers import SwinIREstimator
from difface_diffusers.training import EstimatorConfig, build_config
from difface_diffusers.training.estimator import EstimatorTask
from difface_diffusers.training.growing import grow

from .test_estimator import SWINIR_CONFIG
from .tiny import SWINIR, changed


SMALL = SWINIR | {"depths": [2, 2], "num_heads": [2, 1], "drop_path_rate": 0.0}
RICH = {"image_skips": True, "refinement_blocks": 1}


def estimator(seed=0, **changes):
    torch.manual_seed(seed)
    model = SwinIREstimator(**SMALL | changes)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    return model.eval()


def grown(small, **changes):
    large = estimator(1, **changes)
    torch.manual_seed(2)
    grow(small, large)
    return large


def image(side=32):
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(3))


def folded_map(model, picture):
    """What is enlarged, `[B,num_feat,h,w]`."""
    seen = []
    handle = model.conv_feat.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        model(picture)
    handle.remove()
    return seen[0]


@pytest.mark.parametrize("extras", [{}, RICH])
@pytest.mark.parametrize("wider", [1, 2, 3])
def test_a_wider_one_computes_the_same(wider, extras):
    small = estimator(**extras)
    large = grown(small, embed_dim=8 * wider, num_heads=[2 * wider, wider], **extras)
    with torch.no_grad():
        expected = small(image())
        torch.testing.assert_close(large(image()), expected, rtol=1e-4, atol=1e-4)
    assert expected.std() > 0.1


def test_copies_have_readers_that_differ():
    large = grown(estimator(), embed_dim=16, num_heads=[4, 2])
    first, second = large.conv_feat.weight.chunk(2, dim=1)
    assert not torch.isclose(first, second).any()
    ratio = first / (first + second)
    assert 0.05 < ratio.min() and ratio.max() < 0.95


@pytest.mark.parametrize("extras", [{}, RICH])
@pytest.mark.parametrize("finer", [2, 4])
def test_the_folded_map_of_a_larger_face_is_that_of_the_small_one(finer, extras):
    small = estimator(**extras)
    large = grown(small, scale=2 * finer, embed_dim=16, num_heads=[4, 2], **extras)
    picture = image(32 * finer)
    expected = folded_map(small, torch.nn.functional.avg_pool2d(picture, finer))
    torch.testing.assert_close(folded_map(large, picture), expected, rtol=1e-3, atol=1e-3)


def test_an_even_face_has_the_same_answer_at_every_size():
    """Away from the border and from edges, where convolutions see the size of a pixel, nothing is lost on the way."""
    small = estimator(image_skips=True)
    large = grown(small, scale=4, image_skips=True)
    even = torch.tensor([0.2, 0.5, 0.7])[:, None, None]
    with torch.no_grad():
        expected = small(even.expand(1, 3, 64, 64))[..., 24:40, 24:40]
        answer = large(even.expand(1, 3, 128, 128))[..., 48:80, 48:80]
    small_means, large_means = expected.mean(dim=(2, 3)), answer.mean(dim=(2, 3))
    torch.testing.assert_close(large_means, small_means, rtol=1e-3, atol=1e-3)


def test_the_small_one_stays_as_it_was():
    small = estimator(**RICH)
    before = {name: weight.clone() for name, weight in small.state_dict().items()}
    grown(small, scale=4, embed_dim=16, num_heads=[4, 2], **RICH)
    assert all(weight.equal(before[name]) for name, weight in small.state_dict().items())


def test_a_grown_one_can_be_trained_further():
    large = grown(estimator(), scale=4, embed_dim=16, num_heads=[4, 2])
    large(image(64)).mean().backward()
    assert all(parameter.grad is not None for parameter in large.parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depths": [2, 4]}, r"`depths` is .*2, 4.*; it must be .*2, 2.*, as in the initial weights"),
        ({"num_feat": 4}, r"`num_feat` is 4; it must be 8"),
        ({"image_skips": True}, r"`image_skips` is True; it must be False"),
        ({"embed_dim": 12}, r"`embed_dim` is 12; it must be a multiple of 8"),
        ({"scale": 1}, r"`scale` is 1; it must be a multiple of 2"),
        ({"embed_dim": 16}, r"`num_heads` is .*2, 1.*; it must be .*2, 1.* times 2"),
    ],
)
def test_refuses_what_does_not_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        grow(estimator(), SwinIREstimator(**SMALL | changes))


def test_a_training_begins_with_a_smaller_estimator(tmp_path):
    small = SwinIREstimator(**SWINIR)
    small.save_pretrained(tmp_path)
    model = SWINIR | {"scale": 4, "embed_dim": 16, "num_heads": [4]}
    config = build_config(EstimatorConfig, changed(SWINIR_CONFIG, model=model, initial_weights=str(tmp_path)))
    picture = image(32)
    expected = folded_map(small.eval(), torch.nn.functional.avg_pool2d(picture, 2))
    torch.testing.assert_close(folded_map(EstimatorTask(config).model.eval(), picture), expected, rtol=1e-3, atol=1e-3)
