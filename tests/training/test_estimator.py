import numpy as np
import pytest
import torch

from difface_diffusers import LaMaEstimator, SRCNNEstimator, SwinIREstimator
from difface_diffusers.training import EstimatorConfig, build_config, train_estimator
from difface_diffusers.training.estimator import EstimatorTask, InpaintingTask

from .tiny import ESTIMATOR, SWINIR, changed, write_faces


LAMA = {"base_channels": 4, "num_downsamples": 1, "num_blocks": 1}
LAMA_CONFIG = {key: value for key, value in ESTIMATOR.items() if key != "model"} | {
    "architecture": "lama",
    "model": LAMA,
}
SWINIR_CONFIG = ESTIMATOR | {"architecture": "swinir", "model": SWINIR}


def task(values=ESTIMATOR, **changes):
    torch.manual_seed(0)
    return EstimatorTask(build_config(EstimatorConfig, changed(values, **changes)))


def pair():
    generator = torch.Generator().manual_seed(1)
    images = {name: torch.rand(2, 3, 16, 16, generator=generator) for name in ("clean", "degraded")}
    return images | {"pixel_size": torch.ones(2, dtype=torch.int64)}


# The loss


def test_the_loss_is_the_mean_absolute_error_of_the_unclamped_answer():
    batch = pair()
    loss = task().loss(lambda degraded: degraded * 3 - 1, batch)
    errors = (batch["degraded"] * 3 - 1 - batch["clean"]).numpy()
    assert loss.item() == pytest.approx(np.abs(errors).mean(), rel=1e-5)


def test_detail_that_an_enlarged_face_cannot_show_has_no_loss():
    batch = pair() | {"pixel_size": torch.tensor([1, 2])}
    stripes = 0.3 * (-1.0) ** torch.arange(16)
    answer = batch["clean"] + stripes + torch.tensor([0.0, 0.1])[:, None, None, None]
    loss = task().loss(lambda degraded: answer, batch)
    assert loss.item() == pytest.approx((0.3 + 0.1) / 2, rel=1e-5)


def test_half_precision_answers_have_a_full_precision_loss():
    batch = pair()
    assert task().loss(lambda degraded: degraded.bfloat16(), batch).dtype == torch.float32


def test_an_architecture_that_enlarges_is_refused():
    enlarging = task(model={"down_scale_factor": None, "sf": 2})
    with pytest.raises(
        ValueError, match=r"`model` answers \[2, 3, 32, 32\] to \[2, 3, 16, 16\]; it must keep the size"
    ):
        enlarging.loss(enlarging.model, pair())


def test_missing_pixels_count_ten_times_when_inpainting():
    clean = torch.full((1, 3, 2, 2), 0.5)
    mask = torch.tensor([[[[1.0, 0], [0, 0]]]])
    answer = clean.clone()
    answer[..., 0, 0] += 0.1  # missing
    answer[:, 0, 1, 1] -= 0.4  # known, one color
    torch.manual_seed(0)
    loss = InpaintingTask(build_config(EstimatorConfig, LAMA_CONFIG)).loss(
        lambda degraded, mask: answer,
        {"clean": clean, "degraded": clean * (1 - mask), "mask": mask, "pixel_size": torch.tensor([1])},
    )
    assert loss.item() == pytest.approx((10 * 3 * 0.1 + 0.4) / (10 + 3))


# The sheet


def test_a_sheet_shows_input_estimate_and_clean_face():
    batch = pair()
    picture = np.asarray(task().sheet(lambda degraded: degraded * 3 - 1, batch)).astype(int)
    expected = [batch["degraded"], (batch["degraded"] * 3 - 1).clamp(0, 1), batch["clean"]]
    for index, images in enumerate(expected):
        left = 4 + index * 20
        column = picture[-20:-4, left : left + 16]
        assert np.abs(column - images[1].permute(1, 2, 0).numpy() * 255).max() <= 0.51


# Settings


@pytest.mark.parametrize(("values", "model_class"), [(ESTIMATOR, SRCNNEstimator), (SWINIR_CONFIG, SwinIREstimator)])
def test_architectures(values, model_class):
    assert type(task(values).model) is model_class


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "unet"}, r"`architecture` is 'unet'; it must be one of \['swinir', 'srcnn', 'lama'\]"),
        ({"model": {"width": 3}}, r"`model`: .*'width'"),
        ({"model": {"num_channels": 9}}, r"`num_channels` is 9; it must be a multiple of 4"),
        ({"initial_weights": "nowhere"}, r"`initial_weights` is nowhere"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        task(**changes)


# The whole training


@pytest.mark.parametrize(("values", "model_class"), [(ESTIMATOR, SRCNNEstimator), (SWINIR_CONFIG, SwinIREstimator)])
def test_a_training_ends_with_a_loadable_estimator(tmp_path, values, model_class):
    config = build_config(EstimatorConfig, changed(values, loop={"max_steps": 2, "sheet_every": 2}))
    result = train_estimator(config, write_faces(tmp_path / "faces"), tmp_path / "run")
    assert result.finished
    model = model_class.from_pretrained(tmp_path / "run" / "estimator")
    assert model(torch.rand(1, 3, 16, 16)).shape == (1, 3, 16, 16)
    assert (tmp_path / "run" / "sheets" / "00000002.png").is_file()


def test_an_inpainting_estimator_is_trained_and_resumed(tmp_path):
    folder = write_faces(tmp_path / "faces")
    config = changed(LAMA_CONFIG, loop={"max_steps": 4, "checkpoint_every": 2, "sheet_every": 4})
    first_half = changed(config, loop={"max_steps": 2, "learning_rate": 1e-3, "final_learning_rate": 1e-3})
    whole = changed(config, loop={"learning_rate": 1e-3, "final_learning_rate": 1e-3})
    train_estimator(build_config(EstimatorConfig, whole), folder, tmp_path / "whole")
    train_estimator(build_config(EstimatorConfig, first_half), folder, tmp_path / "resumed")
    train_estimator(build_config(EstimatorConfig, whole), folder, tmp_path / "resumed")
    models = [LaMaEstimator.from_pretrained(tmp_path / name / "estimator") for name in ("whole", "resumed")]
    first, second = (model.state_dict() for model in models)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert first["conv_in.norm_local.num_batches_tracked"] == 4
    assert (tmp_path / "whole" / "sheets" / "00000004.png").is_file()


def test_a_training_goes_on_from_another(tmp_path):
    folder = write_faces(tmp_path / "faces")
    still = changed(ESTIMATOR, loop={"max_steps": 1, "learning_rate": 0.0, "final_learning_rate": 0.0})
    train_estimator(build_config(EstimatorConfig, still | {"initial_weights": None}), folder, tmp_path / "first")
    initial = str(tmp_path / "first" / "estimator")
    other_seed = changed(still, loop={"seed": 8}, initial_weights=initial)
    train_estimator(build_config(EstimatorConfig, other_seed), folder, tmp_path / "second")
    first, second = (
        SRCNNEstimator.from_pretrained(tmp_path / name / "estimator").state_dict() for name in ("first", "second")
    )
    assert all(first[name].equal(second[name]) for name in first)


def test_degradation_settings_arrive(tmp_path):
    folder = write_faces(tmp_path / "faces")
    losses = []
    for sigma in (0, 60):
        degradation = {"noise_sigma": [sigma, sigma], "blur_sigma": [0.001, 0.001], "downscale": [1, 1]}
        values = changed(ESTIMATOR, degradation=degradation, loop={"max_steps": 1})
        config = build_config(EstimatorConfig, values)
        train_estimator(config, folder, tmp_path / str(sigma))
        losses.append((tmp_path / str(sigma) / "log.jsonl").read_text().split('"seconds"')[0])
    assert losses[0] != losses[1]
