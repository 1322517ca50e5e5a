import pytest
import torch
from diffusers import UNet2DModel

from difface_diffusers import BUNDLED_MODEL, DifFaceUNet2DModel, SRCNNEstimator, SwinIREstimator
from difface_diffusers.training.task import build_model
from difface_diffusers.training.widening import widen

from .tiny import SRCNN, UNET


def test_initial_weights_are_taken(tmp_path):
    initial = SRCNNEstimator(**SRCNN)
    initial.save_pretrained(tmp_path)
    model = build_model(SRCNNEstimator, SRCNN, str(tmp_path), "estimator")
    assert all(map(torch.equal, model.parameters(), initial.parameters()))


def test_initial_weights_of_a_pipeline_bring_their_settings():
    bundled = SwinIREstimator.from_pretrained(BUNDLED_MODEL, subfolder="estimator")
    model = build_model(SwinIREstimator, {}, BUNDLED_MODEL, "estimator")
    assert model.config.embed_dim == bundled.config.embed_dim == 192
    assert all(map(torch.equal, model.parameters(), bundled.parameters()))
    assert next(model.parameters()).dtype == torch.float32  # saved in half precision


def test_a_prior_of_the_base_class_starts_ours(tmp_path):
    base = UNet2DModel(**UNET)
    base.save_pretrained(tmp_path)
    model = build_model(DifFaceUNet2DModel, {}, str(tmp_path), "unet", widen)
    torch.testing.assert_close(list(model.parameters()), list(base.parameters()))


def test_initial_weights_of_another_architecture_are_refused(tmp_path):
    SRCNNEstimator(**SRCNN).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"`initial_weights` is .*: a model of another architecture\."):
        build_model(SRCNNEstimator, SRCNN | {"depth": 3}, str(tmp_path), "estimator")
    with pytest.raises(ValueError, match=r"`initial_weights` is .* holds a SRCNNEstimator; it must hold a SwinIREst"):
        build_model(SwinIREstimator, {}, str(tmp_path), "estimator")


def test_missing_initial_weights_are_refused(tmp_path):
    message = "`initial_weights` is some/model; it must be the folder of a saved model or pipeline"
    with pytest.raises(ValueError, match=message):
        build_model(SRCNNEstimator, SRCNN, "some/model", "estimator")
    with pytest.raises(ValueError, match=r"`initial_weights` is .*config\.json"):
        build_model(SRCNNEstimator, SRCNN, str(tmp_path), "estimator")


def test_unknown_model_settings_are_refused():
    with pytest.raises(ValueError, match=r"`model`: .*unexpected keyword argument 'dept'"):
        build_model(SRCNNEstimator, SRCNN | {"dept": 3}, None, "estimator")
