import json
import subprocess
import sys

import pytest
import torch
from diffusers import DiffusionPipeline
from diffusers.pipelines.pipeline_loading_utils import _get_custom_components_and_folders

import difface_diffusers
from difface_diffusers import DifFacePipeline, DifFaceUNet2DModel, SwinIREstimator

from .conftest import SIZE, ddim, tiny_estimator


def varied_pipeline():
    torch.manual_seed(4)
    unet = DifFaceUNet2DModel(
        sample_size=SIZE,
        block_out_channels=(8, 8),
        layers_per_block=(1, 2),
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
        patch_size=2,
    )
    estimator = SwinIREstimator(embed_dim=8, depths=(1,), num_heads=(2,), scale=2, num_feat=4)
    return DifFacePipeline(unet, estimator, ddim(), default_num_inference_steps=3, default_eta=0.25)


def restore(pipe, faces):
    pipe.set_progress_bar_config(disable=True)
    return pipe(faces, generator=torch.Generator().manual_seed(0), output_type="pt").images


def test_the_public_names_are_a_closed_list():
    assert set(difface_diffusers.__all__) == {
        "BUNDLED_INPAINT_MODEL", "BUNDLED_MODEL", "BUNDLED_UPSCALER", "BundledPrior", "DifFaceBlocks",
        "DifFaceInpaintPipeline", "DifFacePipeline", "DifFacePipelineOutput", "DifFaceUNet2DModel", "Face",
        "FaceDetector", "LaMaEstimator", "ModelMixin", "PhotoRestoration", "SRCNNEstimator", "SwinIREstimator",
        "VideoRestoration", "official_model", "restore_photo", "restore_photos", "restore_video",
    }  # fmt: skip
    assert all(hasattr(difface_diffusers, name) for name in difface_diffusers.__all__)


class TestLoading:
    @pytest.fixture
    def folder(self, tmp_path):
        varied_pipeline().save_pretrained(tmp_path)
        return tmp_path

    def test_the_index_names_the_package_not_its_files(self, folder):
        index = json.loads((folder / "model_index.json").read_text())
        assert index["_class_name"] == "DifFacePipeline"
        assert index["unet"] == ["difface_diffusers", "DifFaceUNet2DModel"]
        assert index["estimator"] == ["difface_diffusers", "SwinIREstimator"]
        assert index["scheduler"] == ["diffusers", "DDIMScheduler"]

    def test_the_weights_are_safetensors(self, folder):
        assert {path.suffix for path in folder.rglob("*") if path.is_file()} == {".json", ".safetensors"}

    def test_a_folder_comes_back_whole(self, folder, faces):
        loaded = DifFacePipeline.from_pretrained(folder)
        assert type(loaded.unet) is DifFaceUNet2DModel and type(loaded.estimator) is SwinIREstimator
        assert loaded.unet.config.layers_per_block == (1, 2) or loaded.unet.config.layers_per_block == [1, 2]
        assert loaded.config.default_num_inference_steps == 3 and loaded.config.default_eta == 0.25
        torch.testing.assert_close(restore(loaded, faces), restore(varied_pipeline(), faces))

    def test_the_hubs_component_check_accepts_the_index(self, folder):
        index = json.loads((folder / "model_index.json").read_text())
        components, _ = _get_custom_components_and_folders(str(folder), index, [], None, None)
        assert components == {}

    def test_half_precision_variant(self, tmp_path, faces):
        varied_pipeline().to(torch.float16).save_pretrained(tmp_path, variant="fp16")
        assert (tmp_path / "unet" / "diffusion_pytorch_model.fp16.safetensors").is_file()
        loaded = DifFacePipeline.from_pretrained(tmp_path, variant="fp16", dtype=torch.float32)
        assert loaded.unet.dtype == torch.float32
        torch.testing.assert_close(restore(loaded, faces), restore(varied_pipeline(), faces), atol=2e-2, rtol=0)

    def test_in_another_process_without_extras(self, folder):
        """Neither metrics, demo nor development packages are touched by the import."""
        code = (
            "import sys\n"
            "for name in ('torchmetrics', 'dlib', 'gradio', 'pytest', 'torchvision', 'transformers', 'av'):\n"
            "    sys.modules[name] = None\n"
            "import difface_diffusers.cli\n"
            "from difface_diffusers import DifFacePipeline\n"
            f"print(DifFacePipeline.from_pretrained({str(folder)!r}).config.default_eta)"
        )
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert result.stdout.strip() == "0.25"

    def test_from_pipe_shares_the_components(self):
        pipe = varied_pipeline()
        twin = DifFacePipeline.from_pipe(pipe)
        assert twin.unet is pipe.unet and isinstance(twin, DiffusionPipeline)


def test_an_estimator_made_elsewhere_is_accepted(faces):
    assert restore(DifFacePipeline(varied_pipeline().unet, tiny_estimator(), ddim(), 2), faces).shape == faces.shape
