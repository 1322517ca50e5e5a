import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest
import torch
from diffusers import PNDMScheduler
from packaging.requirements import Requirement

from conversion.export_remote_code import main
from difface_diffusers import BUNDLED_INPAINT_MODEL, BUNDLED_MODEL, DifFacePipeline
from difface_diffusers.hub.export_remote_code import export_remote_code

from ..conftest import ddim, tiny_estimator, tiny_unet
from ..hub.hub_server import FakeHub
from ..test_public_api import varied_pipeline


CARD = "---\nlicense: other\n---\n\n# A pipeline\n"
FACES = "torch.rand(2, 3, 40, 32, generator=torch.Generator().manual_seed(3))"
ELSEWHERE = f"""
import importlib.util, logging, sys
assert all(importlib.util.find_spec(name) is None for name in ("difface_diffusers", "conversion", "cv2", "accelerate"))

import torch
from diffusers import DiffusionPipeline, ModularPipeline

torch.set_num_threads(1)
warnings = []
handler = logging.Handler()
handler.emit = lambda record: warnings.append(record.getMessage())
logging.getLogger("diffusers").addHandler(handler)
result = {{"warnings": warnings}}


def restore(pipe):
    pipe.set_progress_bar_config(disable=True)
    return list(pipe({FACES}, generator=torch.Generator().manual_seed(0), output_type="pt", return_dict=False))


def restore_by_blocks(repository, **options):
    pipe = ModularPipeline.from_pretrained(repository, trust_remote_code=True)
    pipe.load_components(**options)
    pipe.set_progress_bar_config(disable=True)
    inputs = {{"image": {FACES}, "generator": torch.Generator().manual_seed(0), "output_type": "pt"}}
    return list(pipe(**inputs, output=["images", "estimates"]).values())
"""


def restore(pipe):
    pipe.set_progress_bar_config(disable=True)
    return list(pipe(eval(FACES), generator=torch.Generator().manual_seed(0), output_type="pt", return_dict=False))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder of packages: diffusers, torch and what they need."""
    folder = tmp_path_factory.mktemp("site")
    names = ["diffusers", "torch"]
    for name in names:
        package = distribution(name)
        for top in {path.parts[0] for path in package.files} - {"..", "__pycache__"}:
            if not (folder / top).exists():
                (folder / top).symlink_to(package.locate_file(top))
        for need in map(Requirement, package.requires or []):
            if need.name not in names and (need.marker is None or need.marker.evaluate({"extra": ""})):
                names.append(need.name)
    return folder


@pytest.fixture(scope="module")
def elsewhere(site, tmp_path_factory):
    """Run code in a process of its own that finds no packages but those of `site`; it fills the dictionary `result`."""

    def run(code, environment=None):
        home = tmp_path_factory.mktemp("elsewhere")
        code = f"import sys; sys.path.insert(0, {str(site)!r})\n{ELSEWHERE}\n{code}\ntorch.save(result, 'result.pt')"
        subprocess.run(
            [sys.executable, "-I", "-S", "-c", code],
            cwd=home,
            env=environment or {**os.environ, "HF_HOME": str(home), "HF_MODULES_CACHE": str(home / "modules")},
            check=True,
        )
        return torch.load(home / "result.pt")

    return run


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two pipelines, of different components, as they were saved."""
    root = tmp_path_factory.mktemp("pipelines")
    simple = DifFacePipeline(tiny_unet(), tiny_estimator(), ddim(), default_num_inference_steps=4)
    simple.save_pretrained(root / "simple")
    varied = varied_pipeline()
    varied.scheduler = PNDMScheduler(skip_prk_steps=True)
    varied.save_pretrained(root / "varied")
    varied.to(torch.float16).save_pretrained(root / "varied", variant="fp16")
    (root / "varied" / "README.md").write_text(CARD)
    return {"simple": root / "simple", "varied": root / "varied"}


@pytest.fixture(scope="module")
def exported(folders, tmp_path_factory):
    root = tmp_path_factory.mktemp("exported")
    return {name: export_remote_code(folder, root / name) for name, folder in folders.items()}


@pytest.fixture(scope="module")
def result(exported, elsewhere):
    simple, varied = str(exported["simple"]), str(exported["varied"])
    return elsewhere(f"""
pipe = DiffusionPipeline.from_pretrained({simple!r}, trust_remote_code=True)
result["short"] = restore(pipe)
result["classes"] = [type(part).__name__ for part in (pipe, pipe.unet, pipe.estimator, pipe.scheduler)]

pipe = DiffusionPipeline.from_pretrained({varied!r}, custom_pipeline={varied!r}, trust_remote_code=True)
result["long"] = restore(pipe)
pipe.save_pretrained("saved")
saved = DiffusionPipeline.from_pretrained("saved", custom_pipeline={varied!r}, trust_remote_code=True)
result["saved"] = restore(saved)

result["cast"] = DiffusionPipeline.from_pretrained({simple!r}, dtype=torch.float16, trust_remote_code=True).dtype
result["again"] = restore(DiffusionPipeline.from_pretrained({simple!r}, trust_remote_code=True))
half = DiffusionPipeline.from_pretrained({varied!r}, variant="fp16", dtype=torch.float16, trust_remote_code=True)
result["half"] = half.estimator.dtype
result["warnings"] = list(warnings)
result["simple blocks"], result["varied blocks"] = restore_by_blocks({simple!r}), restore_by_blocks({varied!r})
try:
    ModularPipeline.from_pretrained({varied!r})
except ValueError as error:
    result["untrusted blocks"] = str(error)
result["modules"] = sorted({{name.partition(".")[0] for name in sys.modules}})
for name, options in (("untrusted", {{}}), ("untrusted, long", {{"custom_pipeline": {varied!r}}})):
    try:
        DiffusionPipeline.from_pretrained({varied!r}, **options)
    except ValueError as error:
        result[name] = str(error)
""")


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class TestFolder:
    @pytest.mark.parametrize("name", ["simple", "varied"])
    def test_all_but_the_index_and_the_card_is_as_before(self, folders, exported, name):
        before, after = contents(folders[name]), contents(exported[name])
        assert {path for path in before if after[path] != before[path]} == {"model_index.json", "README.md"} & set(
            before
        )
        new = {path for path in after.keys() - before.keys() if not path.endswith(".py")}
        assert new == {"modular_config.json", "modular_model_index.json"}

    def test_the_index_names_the_files_of_code(self, folders, exported):
        before, after = (json.loads((root["varied"] / "model_index.json").read_text()) for root in (folders, exported))
        new = {name: after.pop(name) for name in ("_class_name", "unet", "estimator")}
        assert new["_class_name"] == ["pipeline", "DifFacePipeline"]
        assert after == {name: before[name] for name in after} and len(after) == len(before) - 3
        assert {name: new[name][1] for name in ("unet", "estimator")} == {
            "unet": "DifFaceUNet2DModel", "estimator": "SwinIREstimator",
        }  # fmt: skip
        code = [path for path in contents(exported["varied"]) if path.endswith(".py")]
        assert sorted(code) == sorted(
            ["pipeline.py", "difface_blocks.py", *(f"{name}/{new[name][0]}.py" for name in ("unet", "estimator"))]
        )

    def test_a_component_of_diffusers_gets_no_code(self, exported):
        assert json.loads((exported["simple"] / "model_index.json").read_text())["unet"] == [
            "diffusers",
            "UNet2DModel",
        ]
        assert not list((exported["simple"] / "unet").glob("*.py"))

    def test_the_blocks_have_an_index_of_their_own(self, folders, exported):
        saved, index, config = (
            json.loads((root["varied"] / f"{name}.json").read_text())
            for root, name in (
                (folders, "model_index"),
                (exported, "modular_model_index"),
                (exported, "modular_config"),
            )
        )
        assert config["auto_map"] == {"ModularPipelineBlocks": "difface_blocks.DifFaceBlocks"}
        assert index["estimator"][:2] == ["difface_blocks", "SwinIREstimator"]
        assert index["scheduler"][:2] == saved["scheduler"] == ["diffusers", "PNDMScheduler"]
        settings = {name: value for name, value in saved.items() if name.startswith("default_")}
        assert len(settings) == 4 and settings.items() <= index.items()
        assert {index[name][2]["pretrained_model_name_or_path"] for name in ("unet", "estimator", "scheduler")} == {
            None
        }

    def test_an_inpainting_pipeline_has_no_blocks(self, tmp_path):
        new = contents(export_remote_code(BUNDLED_INPAINT_MODEL, tmp_path / "new"))
        assert "pipeline.py" in new and not [path for path in new if "modular" in path or "blocks" in path]

    def test_the_card_says_how_to_load_it(self, exported):
        card = (exported["varied"] / "README.md").read_text()
        assert card.startswith(CARD) and 'DiffusionPipeline.from_pretrained("path/or/repository", trust' in card
        assert 'ModularPipeline.from_pretrained("path/or/repository", trust' in card
        assert not (exported["simple"] / "README.md").exists()

    def test_the_weights_are_copies(self, folders, exported):
        for name in ("unet", "estimator"):
            path = Path(name, "diffusion_pytorch_model.safetensors")
            assert not (folders["simple"] / path).samefile(exported["simple"] / path)

    def test_the_bundled_inpainting_model_gets_its_prior(self, tmp_path):
        new = contents(export_remote_code(BUNDLED_INPAINT_MODEL, tmp_path / "new"))
        prior = {f"unet/{path}": content for path, content in contents(Path(BUNDLED_MODEL, "unet")).items()}
        assert {path: new.get(path) for path in prior} == prior and "unet/diffusion_pytorch_model.safetensors" in prior

    def test_what_a_download_or_git_keeps_there_is_left_out(self, folders, tmp_path):
        shutil.copytree(folders["simple"], tmp_path / "clone")
        for name in (".git", ".cache"):
            (tmp_path / "clone" / name).mkdir()
            (tmp_path / "clone" / name / "file").touch()
        (tmp_path / "clone" / ".gitattributes").touch()
        assert {path.name for path in export_remote_code(tmp_path / "clone", tmp_path / "new").iterdir()} == {
            ".gitattributes", "difface_blocks.py", "estimator", "modular_config.json", "modular_model_index.json",
            "model_index.json", "pipeline.py", "scheduler", "unet",
        }  # fmt: skip


class TestElsewhere:
    """Where there is neither this package nor any but diffusers, torch and what these need."""

    @pytest.mark.parametrize(
        "call, name",
        [
            ("short", "simple"),
            ("again", "simple"),
            ("long", "varied"),
            ("saved", "varied"),
            ("simple blocks", "simple"),
            ("varied blocks", "varied"),
        ],
    )
    def test_it_restores_as_here(self, folders, result, call, name):
        expected = restore(DifFacePipeline.from_pretrained(folders[name]))
        for answer, wanted in zip(result[call], expected, strict=True):
            torch.testing.assert_close(answer, wanted, atol=1e-6, rtol=0)
        assert wanted.std() > 0.01

    def test_classes(self, result):
        assert result["classes"] == ["DifFacePipeline", "UNet2DModel", "SRCNNEstimator", "DDIMScheduler"]

    def test_half_precision_variant(self, result):
        assert result["half"] == result["cast"] == torch.float16

    def test_diffusers_has_nothing_to_warn_of(self, result):
        assert [warning for warning in result["warnings"] if "`accelerate` was not found" not in warning] == []

    def test_it_does_not_run_code_untold(self, result):
        for name in ("untrusted", "untrusted, long"):
            assert re.search(
                r"contains custom code in pipeline\.py.*`trust_remote_code=True`", result[name], re.DOTALL
            )

    def test_blocks_do_not_run_untold(self, result):
        assert "Pass `trust_remote_code=True`" in result["untrusted blocks"]

    def test_nothing_else_was_imported(self, result):
        assert not {"difface_diffusers", "conversion", "cv2", "scipy", "transformers", "accelerate"} & set(
            result["modules"]
        )
        assert "diffusers_modules" in result["modules"]


class TestHub:
    @pytest.fixture(scope="class")
    @staticmethod
    def result(folders, exported, elsewhere, tmp_path_factory):
        root = tmp_path_factory.mktemp("hub")
        with FakeHub(root / "server") as hub:
            export_remote_code(folders["varied"], root / "blocks", repo_id="org/blocks")
            for folder, repo_id in ((exported["varied"], "org/difface"), (root / "blocks", "org/blocks")):
                pushed = hub.push(folder, repo_id, home=root / "author")
                assert pushed.returncode == 0, pushed.stderr
            result = elsewhere(
                """
for name, options in (("untrusted", {}), ("untrusted, long", {"custom_pipeline": "org/difface"})):
    try:
        DiffusionPipeline.from_pretrained("org/difface", **options)
    except ValueError as error:
        result[name] = str(error)
result["ran"] = "diffusers_modules" in sys.modules

result["short"] = restore(DiffusionPipeline.from_pretrained("org/difface", trust_remote_code=True))
result["long"] = restore(
    DiffusionPipeline.from_pretrained("org/difface", custom_pipeline="org/difface", trust_remote_code=True)
)
half = DiffusionPipeline.from_pretrained("org/difface", variant="fp16", dtype=torch.float16, trust_remote_code=True)
result["half"] = half.estimator.dtype
result["warnings"] = list(warnings)
result["blocks"] = restore_by_blocks("org/blocks")
""",
                hub.environment(root / "user"),
            )
            assert hub.requested("GET", r"/estimator/modeling_swinirestimator\.py$")
            return result

    @pytest.mark.parametrize("call", ["short", "long", "blocks"])
    def test_it_restores_as_here(self, folders, result, call):
        expected = restore(DifFacePipeline.from_pretrained(folders["varied"]))
        for answer, wanted in zip(result[call], expected, strict=True):
            torch.testing.assert_close(answer, wanted, atol=1e-6, rtol=0)

    def test_half_precision_variant(self, result):
        assert result["half"] == torch.float16

    @pytest.mark.parametrize("call", ["untrusted", "untrusted, long"])
    def test_it_does_not_run_code_untold(self, result, call):
        assert "`trust_remote_code=True`" in result[call] and not result["ran"]

    def test_diffusers_has_nothing_to_warn_of(self, result):
        assert [warning for warning in result["warnings"] if "`accelerate` was not found" not in warning] == []


class TestRefusal:
    def test_no_pipeline_folder(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"`folder` is .*missing, which has no model_index\.json"):
            export_remote_code(tmp_path / "missing", tmp_path / "new")

    @pytest.mark.parametrize(
        "name, entry",
        [
            ("_class_name", "DDIMPipeline"),
            ("_class_name", "SwinIREstimator"),
            ("_class_name", ["pipeline", "DifFacePipeline"]),
            ("estimator", ["mine", "SwinIREstimator"]),
            ("estimator", ["difface_diffusers", "Missing"]),
            ("estimator", ["difface_diffusers", "ModelMixin"]),
            ("estimator", ["difface_diffusers", "Face"]),
            ("unet", ["diffusers", "Missing"]),
        ],
    )
    def test_other_classes(self, folders, tmp_path, name, entry):
        shutil.copytree(folders["simple"], tmp_path / "other")
        index = json.loads((tmp_path / "other" / "model_index.json").read_text())
        (tmp_path / "other" / "model_index.json").write_text(json.dumps(index | {name: entry}))
        what = (
            "pipeline; it must be one of" if name == "_class_name" else f"`{name}`; it must be a class of diffusers or"
        )
        with pytest.raises(ValueError, match=re.escape(f"has {entry!r} as {what}") + ".* difface_diffusers"):
            export_remote_code(tmp_path / "other", tmp_path / "new")
        assert {path.name for path in tmp_path.iterdir()} == {"other"}

    def test_an_output_that_exists(self, folders, tmp_path):
        (tmp_path / "file").touch()
        for output in (tmp_path, tmp_path / "file"):
            with pytest.raises(ValueError, match=f"`output` is {output}, which exists"):
                export_remote_code(folders["simple"], output)
        assert [path.name for path in tmp_path.iterdir()] == ["file"]

    def test_a_malformed_repository(self, folders, tmp_path):
        with pytest.raises(ValueError, match="`repo_id` is 'difface'; it must be ORG/NAME"):
            export_remote_code(folders["simple"], tmp_path / "new", repo_id="difface")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("place", [".", "new", "unet/new"])
    def test_an_output_inside_the_folder(self, folders, place):
        before = contents(folders["simple"])
        with pytest.raises(ValueError, match="inside of `folder`"):
            export_remote_code(folders["simple"], folders["simple"] / place)
        assert contents(folders["simple"]) == before

    def test_it_appears_whole(self, folders, tmp_path, monkeypatch):
        seen, copyfile = [], shutil.copyfile

        def watched(source, target, **options):
            seen.append((tmp_path / "new").exists())
            return copyfile(source, target, **options)

        monkeypatch.setattr(shutil, "copyfile", watched)
        export_remote_code(folders["simple"], tmp_path / "new")
        assert len(seen) == len(contents(folders["simple"])) and not any(seen)
        assert [path.name for path in tmp_path.iterdir()] == ["new"]

    def test_nothing_is_left_of_a_failure(self, folders, tmp_path, monkeypatch):
        def full(source, target):
            raise OSError("disk full")

        monkeypatch.setattr(shutil, "copyfile", full)
        with pytest.raises(OSError, match="disk full"):
            export_remote_code(folders["simple"], tmp_path / "new")
        assert list(tmp_path.iterdir()) == []


class TestCommand:
    def test_the_new_folder_lies_beside_the_old_one_unless_told(self, folders, tmp_path, capsys, monkeypatch):
        shutil.copytree(folders["simple"], tmp_path / "model")
        monkeypatch.chdir(tmp_path / "model")
        assert main(["."]) == 0
        new = tmp_path / "model-remote-code"
        assert capsys.readouterr().out.endswith(
            f'DiffusionPipeline.from_pretrained("{new}", trust_remote_code=True)\n'
        )
        assert main([".", "--output", str(tmp_path / "other")]) == 0
        assert contents(new) == contents(tmp_path / "other")

    def test_the_blocks_are_told_where_they_will_be(self, folders, tmp_path):
        assert main([str(folders["simple"]), "--output", str(tmp_path / "new"), "--repo-id", "org/difface"]) == 0
        index = json.loads((tmp_path / "new" / "modular_model_index.json").read_text())
        assert {index[name][2]["pretrained_model_name_or_path"] for name in ("unet", "estimator", "scheduler")} == {
            "org/difface"
        }

    def test_a_refusal_is_a_line_and_a_status(self, tmp_path, capsys):
        assert main([str(tmp_path), "--output", str(tmp_path / "new")]) == 1
        assert re.fullmatch(r"difface convert remote-code: `folder` is .*\n", capsys.readouterr().err)
