import argparse

import pytest

from benchmarks.models import add_model_option, load_pipeline
from difface_diffusers import BUNDLED_INPAINT_MODEL, BUNDLED_MODEL, DifFaceInpaintPipeline, DifFacePipeline


@pytest.mark.parametrize(
    ("pipeline_class", "folder"),
    [(DifFacePipeline, BUNDLED_MODEL), (DifFaceInpaintPipeline, BUNDLED_INPAINT_MODEL)],
)
def test_unless_told_otherwise_the_bundled_one_is_loaded(pipeline_class, folder):
    parser = argparse.ArgumentParser()
    add_model_option(parser)
    pipe = load_pipeline(parser.parse_args([]).model, pipeline_class)
    assert type(pipe) is pipeline_class and pipe.config._name_or_path == folder
