import sys

import pytest
import torch
from diffusers import DDPMScheduler, EulerDiscreteScheduler

from difface_diffusers import DifFaceInpaintPipeline, DifFacePipeline, DifFaceUNet2DModel, LaMaEstimator
from difface_diffusers.acceleration.runtimes import GRAPH, RUNTIMES, export_onnx, use_runtime
from tests.conftest import ddim, tiny_estimator, tiny_unet


# Out of `make test`: a training that follows in the process that an runtime ran in may crash.
pytestmark = pytest.mark.slow
pytest.importorskip("onnxscript")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A saved pipeline of tiny networks with its graphs."""
    pipe = DifFacePipeline(tiny_unet(), tiny_estimator(), ddim(), default_num_inference_steps=4)
    folder = tmp_path_factory.mktemp("pipeline")
    pipe.save_pretrained(folder)
    export_onnx(pipe, folder)
    return folder


def load(folder):
    pipe = DifFacePipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def restored(pipe, faces):
    generators = [torch.Generator().manual_seed(index) for index in range(len(faces))]
    output = pipe(faces, generator=generators, output_type="pt")
    return output.images, output.estimates


# Numbers


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("count", [1, 2])
def test_an_engine_restores_as_torch_does(folder, faces, runtime, count):
    pytest.importorskip(runtime)
    pipe = load(folder)
    expected = restored(pipe, faces[:count])
    use_runtime(pipe, folder, runtime)
    for answer, wanted in zip(restored(pipe, faces[:count]), expected, strict=True):
        torch.testing.assert_close(answer, wanted, rtol=0, atol=1e-4)


def test_bfloat16_errs_a_little(folder, faces):
    pytest.importorskip("openvino")
    pipe = load(folder)
    expected, _ = restored(pipe, faces)
    use_runtime(pipe, folder, "openvino", torch.bfloat16)
    assert (restored(pipe, faces)[0] - expected).abs().max() < 0.1


@pytest.mark.parametrize("scheduler_class", [EulerDiscreteScheduler, DDPMScheduler])
def test_other_schedulers_run_too(folder, faces, scheduler_class):
    """Euler's timesteps are no integers."""
    pytest.importorskip("onnxruntime")
    pipe = load(folder)
    pipe.scheduler = scheduler_class.from_config(pipe.scheduler.config)
    expected, _ = restored(pipe, faces)
    use_runtime(pipe, folder, "onnxruntime")
    torch.testing.assert_close(restored(pipe, faces)[0], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("patch_size", [1, 2])
def test_the_learned_variance_reaches_the_scheduler(tmp_path, faces, patch_size):
    pytest.importorskip("onnxruntime")
    scheduler = DDPMScheduler(variance_type="learned_range")
    unet = tiny_unet(6, DifFaceUNet2DModel, patch_size=patch_size)
    pipe = DifFacePipeline(unet, tiny_estimator(), scheduler, default_num_inference_steps=4)
    pipe.set_progress_bar_config(disable=True)
    export_onnx(pipe, tmp_path)
    expected, _ = restored(pipe, faces)
    use_runtime(pipe, tmp_path, "onnxruntime")
    torch.testing.assert_close(restored(pipe, faces)[0], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_an_answer_outlives_the_next_one(folder, faces, runtime):
    pytest.importorskip(runtime)
    pipe = load(folder)
    use_runtime(pipe, folder, runtime)
    first = pipe.estimator(faces[:1])
    kept = first.clone()
    pipe.estimator(faces[1:])
    assert torch.equal(first, kept)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_graphs_are_run_and_not_the_weights(folder, faces, runtime, monkeypatch):
    pytest.importorskip(runtime)
    pipe = load(folder)
    use_runtime(pipe, folder, runtime)
    monkeypatch.setattr(torch.nn.Conv2d, "forward", None)
    restored(pipe, faces)


# Export


def test_export_is_quiet_and_leaves_the_pipeline_alone(tmp_path, capfd, recwarn):
    pipe = DifFacePipeline(tiny_unet(), tiny_estimator(), ddim(), 4).to(torch.float16)
    export_onnx(pipe, tmp_path)
    assert pipe.unet.dtype is pipe.estimator.dtype is torch.float16
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*"))
    assert files == [f"estimator/{GRAPH}", f"unet/{GRAPH}"]
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""
    assert not recwarn.list


# Errors


def test_refuses_a_pipeline_that_fills_holes(tmp_path):
    estimator = LaMaEstimator(base_channels=4, num_downsamples=2, num_blocks=1)
    pipe = DifFaceInpaintPipeline(tiny_unet(), estimator, ddim())
    with pytest.raises(TypeError, match="`pipe` fills holes; only a DifFacePipeline can be exported"):
        export_onnx(pipe, tmp_path)


def test_refuses_an_unknown_runtime(pipe, tmp_path):
    with pytest.raises(ValueError, match="`runtime` is 'tensorrt'; it must be one of onnxruntime, openvino"):
        use_runtime(pipe, tmp_path, "tensorrt")


@pytest.mark.parametrize(("runtime", "dtype"), [("onnxruntime", torch.bfloat16), ("openvino", torch.float16)])
def test_refuses_a_dtype_that_the_engine_lacks(pipe, tmp_path, runtime, dtype):
    with pytest.raises(ValueError, match=f"`dtype` is {dtype}; {runtime} takes torch.float32"):
        use_runtime(pipe, tmp_path, runtime, dtype)


def test_refuses_a_folder_without_graphs(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    unet = pipe.unet
    with pytest.raises(FileNotFoundError, match=f"which has no unet/{GRAPH}; export it first"):
        use_runtime(pipe, tmp_path, "onnxruntime")
    assert pipe.unet is unet


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_missing_engine_names_the_install_line(folder, runtime, monkeypatch):
    monkeypatch.setitem(sys.modules, runtime, None)
    with pytest.raises(ImportError, match=r'pip install "difface-diffusers\[runtimes\]"'):
        use_runtime(load(folder), folder, runtime)


def test_a_missing_exporter_names_the_install_line(pipe, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match=r'Export needs `onnxscript`.*pip install "difface-diffusers\[runtimes\]"'):
        export_onnx(pipe, tmp_path)
    assert not list(tmp_path.iterdir())
