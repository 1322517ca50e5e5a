import pytest

from difface_diffusers import BUNDLED_INPAINT_MODEL, BUNDLED_MODEL
from difface_diffusers.hub import named_models
from difface_diffusers.hub.named_models import resolve_model


@pytest.mark.parametrize(
    ("pipeline", "bundled", "official"),
    [
        ("DifFacePipeline", BUNDLED_MODEL, "official_restoration"),
        ("DifFaceInpaintPipeline", BUNDLED_INPAINT_MODEL, "official_inpainting"),
    ],
)
def test_a_word_stands_for_the_folder_of_the_task(monkeypatch, pipeline, bundled, official):
    monkeypatch.setattr(named_models, "official_model", lambda task: f"official_{task}")
    assert resolve_model("bundled", pipeline) == bundled
    assert resolve_model("official", pipeline) == official
    for else_ in ("org/name", "./bundled", "Official"):
        assert resolve_model(else_, pipeline) == else_
