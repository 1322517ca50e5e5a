import sys
import warnings
from importlib import import_module

import numpy as np
import pytest

import difface_diffusers
from difface_diffusers import DifFacePipeline, Face, evaluation
from difface_diffusers.imaging.grids import image_grid
from difface_diffusers.utils.moved import MOVED
from tests.conftest import warned_at


OLD = {  # what README and guides of the last release imported
    "bundled": ["BUNDLED_MODEL", "BUNDLED_INPAINT_MODEL"],
    "channels_last": ["to_channels_last"],
    "engines": ["export_onnx", "use_engine"],
    "image_processing": ["load_image", "to_tensors", "split_channels"],
    "int8": ["count_in_int8"],
    "model_info": ["model_info"],
    "photo": ["restore_photo", "PhotoRestoration"],
    "photo_files": ["read_photo", "PhotoFile", "Metadata", "to_uint8", "whole_file"],
    "pipeline_difface": ["DifFacePipeline", "DifFacePipelineOutput", "Sampling", "split_generator"],
    "quantisation": ["quantise_graph"],
    "samples": ["face_fidelities", "face_uncertainties", "photo_uncertainty"],
    "training.degradation": ["DegradationRanges"],
    "upscale": ["Swin2SRUpscaler"],
}


@pytest.fixture(autouse=True)
def not_yet_imported():
    for name in MOVED:
        sys.modules.pop(f"difface_diffusers.{name}", None)


@pytest.mark.parametrize("name", MOVED)
def test_modules_are_found_where_they_were(name):
    with warned_at(__file__, f"difface_diffusers.{name} is difface_diffusers", DeprecationWarning):
        old = import_module(f"difface_diffusers.{name}")
    for attribute in OLD.get(name, []):
        assert hasattr(old, attribute)


def test_they_are_the_same_things():
    with warned_at(__file__, "difface_diffusers.photo is", DeprecationWarning):
        from difface_diffusers.photo import restore_photo
    assert restore_photo is difface_diffusers.restore_photo


def test_the_warning_is_at_the_line_that_imports():
    code = "import difface_diffusers\nfrom difface_diffusers.samples import heat_map\n"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.filterwarnings("default", category=DeprecationWarning, module="__main__")  # as Python does by itself
        exec(code, {"__name__": "__main__"})
    (shown,) = caught
    assert (shown.filename, shown.lineno) == ("<string>", 2) and "difface_diffusers.samples is" in str(shown.message)


def test_a_renamed_function_is_found():
    with warned_at(__file__, r"evaluation\.sheet is called image_grid now", DeprecationWarning):
        assert evaluation.sheet is image_grid
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        evaluation.nothing  # noqa: B018


def test_renamed_properties_are_found():
    face = Face((0, 0, 2, 4), np.zeros((5, 2)), 1.0)
    with warned_at(__file__, "`Face.centre` is called `center` now", DeprecationWarning):
        assert face.centre.tolist() == face.center.tolist() == [1, 2]
    with warned_at(__file__, "`fills_holes` is called `is_inpainting` now", DeprecationWarning):
        assert not DifFacePipeline.fills_holes.fget(DifFacePipeline)


def test_others_are_still_missing():
    with pytest.raises(ModuleNotFoundError):
        import_module("difface_diffusers.nothing")
