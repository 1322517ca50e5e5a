from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import UNet2DModel
from diffusers.training_utils import EMAModel

from difface_diffusers import DifFaceUNet2DModel
from difface_diffusers.training import PriorConfig, build_config, train_prior
from difface_diffusers.training.loop import averaged_weights
from difface_diffusers.training.prior import PriorTask

from .tiny import PRIOR, UNET, changed, write_faces


CLEAN = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(4))
BATCH = {"clean": CLEAN, "pixel_size": torch.ones(2, dtype=torch.int64)}


def task(**changes):
    torch.manual_seed(0)
    return PriorTask(build_config(PriorConfig, changed(PRIOR, **changes)))


def answering(epsilon):
    """Stand in for a network: give an epsilon, and keep what was asked."""
    asked = []

    def model(sample, timestep):
        asked.append((sample, timestep))
        return SimpleNamespace(sample=epsilon)

    return model, asked


# The loss


def test_the_network_sees_the_noised_face_on_minus_1_to_1():
    prior = task()
    model, asked = answering(torch.zeros(2, 3, 16, 16))
    torch.manual_seed(5)
    loss = prior.loss(model, BATCH)
    noisy, timesteps = asked[0]

    product = prior.scheduler.alphas_cumprod[timesteps][:, None, None, None]
    noise = (noisy - product.sqrt() * (2 * CLEAN - 1)) / (1 - product).sqrt()
    assert timesteps.shape == (2,)
    assert loss.item() == pytest.approx(noise.square().mean().item(), rel=1e-3)  # it answered zero
    assert noise.mean().item() == pytest.approx(0, abs=0.1)
    assert noise.std().item() == pytest.approx(1, abs=0.1)


def test_the_right_epsilon_has_no_loss():
    prior = task()
    torch.manual_seed(5)
    noise = torch.randn(2, 3, 16, 16)
    model, _ = answering(noise)
    torch.manual_seed(5)
    assert prior.loss(model, BATCH).item() == 0


def test_six_channels_learn_the_variance():
    prior = task(model={"out_channels": 6})
    prior.loss(prior.model, BATCH).backward()
    gradients = prior.model.conv_out.weight.grad
    assert gradients[:3].abs().max() > 0
    assert gradients[3:].abs().max() > 0


@pytest.mark.parametrize(("probability", "lowest", "highest"), [(1.0, 0, 4), (0.0, 5, 19)])
def test_timesteps_are_focused(probability, lowest, highest):
    prior = task(scheduler={"num_train_timesteps": 20}, focus_timestep=5, focus_probability=probability)
    faces = CLEAN[:1, :, :2, :2].expand(300, -1, -1, -1)
    model, asked = answering(torch.zeros_like(faces))
    prior.loss(model, {"clean": faces, "pixel_size": torch.ones(300, dtype=torch.int64)})
    assert (asked[0][1].min(), asked[0][1].max()) == (lowest, highest)


@pytest.mark.parametrize(("gamma", "weight"), [(None, 1.0), (5.0, 5 * 0.0001 / 0.9999)])
def test_the_error_is_weighed_if_asked_for_but_not_the_validation(gamma, weight):
    prior = task(min_snr_gamma=gamma, focus_timestep=1, focus_probability=1.0)  # t = 0 alone
    model, asked = answering(torch.zeros(2, 3, 16, 16))
    torch.manual_seed(5)
    noise = torch.randn(2, 3, 16, 16)
    torch.manual_seed(5)
    loss = prior.loss(model, BATCH)
    assert asked[0][1].tolist() == [0, 0]
    assert loss.item() == pytest.approx(weight * noise.square().mean().item(), rel=1e-3)

    generators = [torch.Generator().manual_seed(face) for face in range(2)]
    figures = task(min_snr_gamma=gamma).validate(model, BATCH, generators)
    assert figures["loss"].mean() > 0.8  # an epsilon of deviation 1 was answered by zeros


@pytest.mark.parametrize("gamma", [0, -1.0, float("inf"), float("nan")])
def test_refuses_a_weight_that_cannot_be(gamma):
    with pytest.raises(ValueError, match=r"`min_snr_gamma` is .*; it must be above 0 and finite, or null"):
        task(min_snr_gamma=gamma)


# Dropout


@pytest.mark.parametrize("layers_per_block", [1, [2, 1]])
def test_dropout_is_in_every_residual_block(layers_per_block):
    model = task(model={"dropout": 0.3, "layers_per_block": layers_per_block}).model
    rates = [module.p for name, module in model.named_modules() if name.endswith(".dropout")]
    blocks = [name for name, module in model.named_modules() if type(module).__name__ == "ResnetBlock2D"]
    assert len(rates) == len(blocks) > 6 and set(rates) == {0.3}


def test_dropout_is_on_while_training_and_off_in_validation_and_sheets():
    prior = task(model={"dropout": 0.5})
    ema = EMAModel(prior.model.parameters(), foreach=True)
    torch.nn.init.normal_(prior.model.conv_out.weight)
    noisy, timesteps = torch.randn(2, 3, 16, 16), torch.tensor([3, 500])

    def differs(call):
        answers = []
        for seed in (1, 2):
            torch.manual_seed(seed)
            answers.append(call())
        return not answers[0].equal(answers[1])

    def validate():
        generators = [torch.Generator().manual_seed(face) for face in range(2)]
        return prior.validate(prior.model, BATCH, generators)["loss"]

    def sheet():
        return torch.from_numpy(np.array(prior.sheet(prior.model, BATCH)))

    prior.model.train()
    ema.step(prior.model.parameters())
    with torch.no_grad():
        assert differs(lambda: prior.model(noisy, timesteps).sample)
    with averaged_weights(prior.model, ema):
        assert not differs(lambda: prior.model(noisy, timesteps).sample)
        assert not differs(validate)
        assert not differs(sheet)
    with torch.no_grad():
        assert differs(lambda: prior.model(noisy, timesteps).sample)  # on again


# The sheet


@pytest.mark.parametrize(("scheduler", "start"), [({}, 380), ({"num_train_timesteps": 40}, 15)])
def test_a_sheet_walks_back_to_the_clean_face(scheduler, start):
    prior = task(scheduler=scheduler)
    noise = torch.randn(CLEAN.shape, generator=torch.Generator().manual_seed(0))
    model, asked = answering(noise)
    picture = np.asarray(prior.sheet(model, BATCH)).astype(int)
    assert (asked[0][1], asked[-1][1]) == (start, 0)

    def column(index):
        left = 4 + index * 20
        return picture[-20:-4, left : left + 16]

    assert np.abs(column(0) - CLEAN[1].permute(1, 2, 0).numpy() * 255).max() <= 1
    assert np.abs(column(1) - column(0)).mean() > 15
    assert np.abs(column(2) - column(0)).max() <= 2  # the true noise was taken away, all of it


# Settings


def test_initial_weights_may_be_of_another_size(tmp_path):
    torch.manual_seed(9)
    initial = DifFaceUNet2DModel(**UNET | {"sample_size": 8})
    initial.save_pretrained(tmp_path)
    prior = task(initial_weights=str(tmp_path))
    assert prior.model.config.sample_size == 16
    assert all(map(torch.equal, prior.model.parameters(), initial.parameters()))


def test_narrower_initial_weights_are_widened(tmp_path):
    torch.manual_seed(9)
    narrow = DifFaceUNet2DModel(**UNET).eval()
    narrow.save_pretrained(tmp_path)
    double = [2 * channels for channels in UNET["block_out_channels"]]
    prior = task(initial_weights=str(tmp_path), model={"block_out_channels": double})
    noisy, timestep = torch.randn(1, 3, 16, 16), torch.tensor([300])
    with torch.no_grad():
        expected, answer = narrow(noisy, timestep).sample, prior.model.eval()(noisy, timestep).sample
    torch.testing.assert_close(answer, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("cls", [UNet2DModel, DifFaceUNet2DModel])
def test_initial_weights_on_pixels_begin_a_prior_on_patches(tmp_path, cls):
    torch.manual_seed(9)
    small = cls(**UNET | {"sample_size": 8}).eval()
    small.save_pretrained(tmp_path)
    prior = task(initial_weights=str(tmp_path), model={"patch_size": 2}, focus_timestep=1)
    noisy = torch.randn(1, 3, 16, 16)
    with torch.no_grad():
        expected = small(torch.nn.functional.avg_pool2d(noisy, 2), 0).sample / 2
        answer = prior.model.eval()(noisy, 0).sample
    spread = expected.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert (answer - spread).square().mean() < 0.05 * spread.var()  # the timesteps are nearly what they stood for


def test_a_prior_on_patches_begins_another_one(tmp_path):
    """As between priors on pixels; and with no model in the config it is of the same kind."""
    torch.manual_seed(9)
    initial = DifFaceUNet2DModel(**UNET | {"patch_size": 2})
    initial.save_pretrained(tmp_path)
    for model in ({"patch_size": 2}, None):
        config = changed(PRIOR, initial_weights=str(tmp_path), model=model or {})
        prior = PriorTask(build_config(PriorConfig, config if model else config | {"model": {}}))
        assert prior.model.config.patch_size == 2
        assert all(map(torch.equal, prior.model.parameters(), initial.parameters()))


def test_initial_weights_that_do_not_fit_are_refused(tmp_path):
    DifFaceUNet2DModel(**UNET | {"layers_per_block": 2}).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"`initial_weights` is .*: `layers_per_block` is 1; it must be 2"):
        task(initial_weights=str(tmp_path))
    with pytest.raises(
        ValueError, match=r"`initial_weights` is .*: `sample_size` is 16; with `patch_size` 2 it must be"
    ):
        task(initial_weights=str(tmp_path), model={"patch_size": 2})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"chanels": 3}}, r"`model`: .*'chanels'"),
        ({"model": {"out_channels": 4}}, r"`model\.out_channels` is 4; it must be 3, or 6"),
        ({"scheduler": {"beta": 1}}, r"`scheduler`: .*'beta'"),
        ({"scheduler": {"beta_schedule": "steep"}}, r"`scheduler`: steep is not implemented"),
        ({"scheduler": {"prediction_type": "v_prediction"}}, r'`scheduler\.prediction_type` is "v_prediction"'),
        ({"focus_timestep": 0, "focus_probability": 0.5}, r"`focus_timestep` is 0; it must be within 1 \.\. 999"),
        ({"focus_timestep": 1000, "focus_probability": 0.5}, r"`focus_timestep` is 1000"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        task(**changes)


# The whole training


@pytest.mark.parametrize(("out_channels", "patch_size"), [(3, 1), (6, 1), (6, 2)])
def test_a_training_ends_with_a_loadable_unet(tmp_path, out_channels, patch_size):
    model = {"out_channels": out_channels, "patch_size": patch_size}
    config = build_config(PriorConfig, changed(PRIOR, model=model, loop={"max_steps": 2, "sheet_every": 2}))
    result = train_prior(config, write_faces(tmp_path / "faces"), tmp_path / "run")
    assert result.finished
    model = DifFaceUNet2DModel.from_pretrained(tmp_path / "run" / "unet")
    assert (model.config.out_channels, model.config.patch_size) == (out_channels, patch_size)
    assert (tmp_path / "run" / "sheets" / "00000002.png").is_file()


def test_the_seed_decides_the_initial_weights(tmp_path):
    def first_loss(seed, name):
        config = build_config(PriorConfig, changed(PRIOR, loop={"max_steps": 1, "seed": seed}))
        train_prior(config, write_faces(tmp_path / "faces"), tmp_path / name)
        return (tmp_path / name / "log.jsonl").read_text().split('"seconds"')[0]

    assert first_loss(3, "a") == first_loss(3, "b") != first_loss(4, "c")
