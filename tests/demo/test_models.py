import pytest

from difface_diffusers import BUNDLED_INPAINT_MODEL, BUNDLED_MODEL, DifFaceInpaintPipeline, DifFacePipeline
from difface_diffusers.demo.models import load_models


def test_the_bundled_models_unless_others_are_named(restorer, tmp_path):
    restorer.save_pretrained(tmp_path)
    bundled, inpainter = load_models(device="cpu")
    named, _ = load_models(str(tmp_path), BUNDLED_INPAINT_MODEL, "cpu")
    assert isinstance(inpainter, DifFaceInpaintPipeline)
    assert bundled.config == DifFacePipeline.from_pretrained(BUNDLED_MODEL).config
    assert named.model_size == (32, 32)


def test_a_model_that_is_not_there():
    with pytest.raises(OSError, match="nowhere"):
        load_models("nowhere")
