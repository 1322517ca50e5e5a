import contextlib
import io
import json
import re
import shutil
from dataclasses import asdict, replace

import huggingface_hub
import pytest
import torch

import difface_diffusers.hub.model_info
from difface_diffusers import BUNDLED_INPAINT_MODEL, BUNDLED_MODEL, DifFacePipeline, DifFaceUNet2DModel
from difface_diffusers.cli import main
from difface_diffusers.hub.export_remote_code import export_remote_code
from difface_diffusers.hub.model_info import model_info
from difface_diffusers.hub.push import push_folder
from tests.conftest import ddim, tiny_estimator, tiny_unet
from tests.hub.hub_server import FakeHub


WEIGHTS = "diffusion_pytorch_model.safetensors"
CARD = "---\nlicense: other\nlicense_name: s-lab-license-1.0\nlicense_link: https://example.org/LICENSE\n---\n"


@pytest.fixture
def folder(pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "model")
    pipe.to(torch.float16).save_pretrained(tmp_path / "model", variant="fp16")
    (tmp_path / "model" / "README.md").write_text(CARD)
    return tmp_path / "model"


def test_says_what_a_folder_holds(folder, capsys):
    assert main(["info", str(folder)]) == 0
    captured = capsys.readouterr()
    assert (
        captured.out
        == f"""\
model         {folder}
pipeline      DifFacePipeline: restoration of faces of 32 x 32 pixels
unet          UNet2DModel (diffusers), 45,259 parameters
              float32, 0.2 MB
              float16, 0.1 MB, variant="fp16"
estimator     SRCNNEstimator (difface_diffusers), 3,217 parameters
              float32, 0.0 MB
              float16, 0.0 MB, variant="fp16"
scheduler     DDIMScheduler (diffusers)
              num_train_timesteps 1000, beta_schedule linear, beta_start 0.0001, beta_end 0.02,
              prediction_type epsilon, timestep_spacing leading, clip_sample True
defaults      eta 0.5, num_inference_steps 4, s_noise 1.0, start_timestep 400
license       s-lab-license-1.0, https://example.org/LICENSE
pipeline tag  unknown
"""
    )
    assert captured.err == ""


def test_says_that_the_prior_works_on_patches(pipe, tmp_path, capsys):
    pipe.register_modules(unet=tiny_unet(cls=DifFaceUNet2DModel, patch_size=2))
    pipe.save_pretrained(tmp_path)
    assert main(["info", str(tmp_path)]) == 0
    assert " MB\n              works on patches of 2 x 2 pixels\nestimator " in capsys.readouterr().out


def test_without_a_name_it_is_the_bundled_model(capsys):
    assert main(["info"]) == 0
    output = capsys.readouterr().out
    assert BUNDLED_MODEL in output and "float16, 25.3 MB\n" in output and "cc-by-nc-sa-4.0" in output
    assert "presets       fast: num_inference_steps 3\n              balanced: the defaults\n" in output


def test_the_bundled_inpainting_model_shares_its_prior(capsys):
    assert main(["info", BUNDLED_INPAINT_MODEL]) == 0
    unet = f"DifFaceUNet2DModel (difface_diffusers), 12,627,948 parameters\n{'':14}float16, 25.3 MB\n"
    unet += f"{'':14}shared with {BUNDLED_MODEL}\n{'':14}works on patches of 2 x 2 pixels\n"
    assert f"inpainting of faces of 256 x 256 pixels\nunet          {unet}estimator " in capsys.readouterr().out


def test_says_that_it_carries_its_own_code(folder, tmp_path, capsys):
    export_remote_code(folder, tmp_path / "new")
    assert main(["info", str(tmp_path / "new")]) == 0
    output = capsys.readouterr().out
    assert (
        """
own code      loads with trust_remote_code=True only, which runs
              pipeline.py, estimator/modeling_srcnnestimator.py
unet          UNet2DModel (diffusers), 45,259 parameters
"""
        in output
    )
    assert "\nestimator     SRCNNEstimator (modeling_srcnnestimator), 3,217 parameters\n" in output


def test_says_what_is_in_bin_and_what_is_loaded(folder, pipe, capsys):
    pipe.unet.save_pretrained(folder / "unet", safe_serialization=False)
    for file in (folder / "estimator").glob("*.safetensors"):
        file.rename(file.with_suffix(".bin"))
    assert main(["info", str(folder)]) == 0
    assert (
        """
unet          UNet2DModel (diffusers), 45,259 parameters
              float32, 0.2 MB
              .bin (pickle), precision unknown, 0.1 MB; loaded with use_safetensors=False only
              float16, 0.1 MB, variant="fp16"
estimator     SRCNNEstimator (difface_diffusers)
              .bin (pickle), precision unknown, 0.0 MB
              .bin (pickle), precision unknown, 0.0 MB, variant="fp16"
"""
        in capsys.readouterr().out
    )


def test_says_what_is_missing(folder, capsys):
    shutil.rmtree(folder / "unet")
    index = json.loads((folder / "model_index.json").read_text())
    changes = {"estimator": [None, None], "scheduler": None, "judge": ["mine", "Judge"]}
    (folder / "model_index.json").write_text(json.dumps(index | changes))
    assert main(["info", str(folder)]) == 0
    assert (
        """
pipeline      DifFacePipeline: restoration of faces of unknown size
unet          UNet2DModel (diffusers)
              no weights in safetensors or .bin; from_pretrained(..., unet=...) adds them
estimator     none saved; from_pretrained(..., estimator=...) adds one
scheduler     none saved; from_pretrained(..., scheduler=...) adds one
further part  judge: Judge (mine)
defaults """
        in capsys.readouterr().out
    )


def test_presets_name_their_schedulers(folder, capsys):
    index = json.loads((folder / "model_index.json").read_text())
    presets = {"fast": {"scheduler": "dpm-multistep", "num_inference_steps": 12}, "exact": {}}
    (folder / "model_index.json").write_text(json.dumps(index | {"presets": presets}))
    assert main(["info", str(folder)]) == 0
    output = capsys.readouterr().out
    assert (
        "presets       fast: scheduler dpm-multistep, num_inference_steps 12\n              exact: the def" in output
    )


def test_json(folder, capsys):
    assert main(["info", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(asdict(model_info(folder))))


def test_revision(folder, monkeypatch, capsys):
    info = replace(model_info(folder), revision="c0ffee")
    for from_cache, line in ((False, "c0ffee"), (True, "c0ffee, from the cache")):
        answer = replace(info, from_cache=from_cache)
        monkeypatch.setattr(difface_diffusers.hub.model_info, "model_info", lambda model, answer=answer: answer)
        assert main(["info", str(folder)]) == 0
        assert f"\nrevision      {line}\n" in capsys.readouterr().out


def test_several_files_and_none(pipe, tmp_path, capsys):
    pipe.save_pretrained(tmp_path, max_shard_size="20KB")
    for file in (tmp_path / "estimator").glob("*.safetensors"):
        file.unlink()
    assert main(["info", str(tmp_path)]) == 0
    output = capsys.readouterr().out
    sizes = [file.stat().st_size for file in (tmp_path / "unet").glob("*.safetensors")]
    assert f"float32, {sum(sizes) / 1e6:.1f} MB in {len(sizes)} files\n" in output
    assert "SRCNNEstimator (difface_diffusers)\n              no weights in safetensors or .bin; " in output


def test_no_card(folder, capsys):
    (folder / "README.md").unlink()
    assert main(["info", str(folder)]) == 0
    assert capsys.readouterr().out.endswith("license       unknown\npipeline tag  unknown\n")


def test_strangers_cannot_write_to_the_terminal(folder, capsys):
    (folder / "README.md").write_text('---\nlicense: "\\e[2Jmit\\nmodel bundled"\n---\n')
    assert main(["info", str(folder)]) == 0
    assert "license       ?[2Jmit?model bundled\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("/no/such/folder", "neither a folder nor the form of a Hub id"),
        ("nobody/nothing", "not in the cache, and the Hub does not give it"),
        ("{folder}/unet", "has no model_index.json; it must be a saved DifFace pipeline"),
    ],
)
def test_an_error_is_one_line(folder, capsys, model, message):
    assert main(["info", model.format(folder=folder)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("difface info: ") and captured.err.count("\n") == 1 and message in captured.err


# The Hub


def ask(model):
    """Return status, output and errors of `difface info MODEL --json`."""
    with contextlib.redirect_stdout(io.StringIO()) as output, contextlib.redirect_stderr(io.StringIO()) as error:
        status = main(["info", model, "--json"])
    return status, output.getvalue(), error.getvalue()


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    with FakeHub(tmp_path_factory.mktemp("hub") / "server") as hub:
        yield hub


@pytest.fixture(scope="module")
def home(hub):
    return hub.root.parent / "home"


@pytest.fixture(scope="module")
def pushed(hub):
    """A folder that is on the Hub as org/tiny and org/secret, and what its owner is told about the latter."""
    folder, other = hub.root.parent / "model", hub.root.parent / "other"
    DifFacePipeline(tiny_unet(), tiny_estimator(), ddim()).save_pretrained(folder)
    (folder / "README.md").write_text(CARD)
    other.mkdir()
    (other / "model_index.json").write_text('{"_class_name": "DDPMPipeline"}')
    with hub.client(hub.root.parent / "owner", "hf_right"):
        for repository, pushed in (("org/tiny", folder), ("org/secret", folder), ("org/other", other)):
            push_folder(pushed, repository, private=repository == "org/secret")
        return folder, ask("org/secret")


@pytest.fixture(scope="module")
def answers(hub, home, pushed):
    """What a visitor without a token is told."""
    hub.requests.clear()
    with hub.client(home):
        return {model: ask(model) for model in ("org/tiny", "org/secret", "org/none", "org/other")}


@pytest.fixture
def cache(home, answers, tmp_path, monkeypatch):
    """The visitor's cache, for this process, which is offline; the snapshot of org/tiny in it."""
    shutil.copytree(home / "hub", tmp_path / "hub", symlinks=True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    (snapshot,) = tmp_path.glob("hub/models--org--tiny/snapshots/*")
    return snapshot


def as_on_the_hub(folder, model, revision, from_cache=False):
    """What `--json` says of a pushed folder."""
    info = replace(model_info(folder), model=model, revision=revision, from_cache=from_cache)
    return json.loads(json.dumps(asdict(info)))


def test_of_a_repository(hub, pushed, answers):
    status, output, error = answers["org/tiny"]
    assert (status, error) == (0, "")
    assert json.loads(output) == as_on_the_hub(pushed[0], "org/tiny", hub.repositories["org/tiny"].names["main"])


def test_no_weights_are_downloaded(hub, home, pushed, answers):
    assert (pushed[0] / "unet" / WEIGHTS).stat().st_size > 150_000
    fetched = [(path, status) for method, path, status in hub.requests if method == "GET" and "/resolve/" in path]
    whole = [re.sub(".*/resolve/[^/]+/", "", path) for path, status in fetched if status == 200 and "org/tiny" in path]
    assert sorted(whole) == ["README.md", "model_index.json", "scheduler/scheduler_config.json", "unet/config.json"]
    parts = [path for path, status in fetched if status == 206]
    assert len(parts) == 2 and all(path.endswith(WEIGHTS) for path in parts)  # the headers
    assert max(path.stat().st_size for path in home.rglob("*") if path.is_file()) < 5_000


def test_a_private_repository_takes_a_token(hub, pushed, answers):
    folder, (status, output, error) = pushed
    assert (status, error) == (0, "")
    assert json.loads(output) == as_on_the_hub(folder, "org/secret", hub.repositories["org/secret"].names["main"])


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("org/secret", "neither a folder nor a repository of the Hub that may be read; one that is private or gated"),
        ("org/none", "neither a folder nor a repository of the Hub that may be read"),
        ("org/other", "whose model_index.json names the class 'DDPMPipeline'; it must be DifFacePipeline or"),
    ],
)
def test_an_error_of_the_hub_is_one_line(answers, model, message):
    status, output, error = answers[model]
    assert (status, output) == (2, "")
    assert error.startswith("difface info: `model` is ") and error.count("\n") == 1
    assert model in error and message in error


def test_a_hub_that_is_down(hub, home, pushed, answers):
    with hub.client(home, HF_ENDPOINT="http://127.0.0.1:9"):
        status, output, _ = ask("org/tiny")
        assert status == 0 and json.loads(output)["from_cache"] is True
        status, output, error = ask("org/none")
    assert (status, output) == (2, "") and error.count("\n") == 1
    assert "not in the cache, and the Hub does not give it: " in error and "refused" in error


def test_offline(pushed, cache, capsys):
    assert main(["info", "org/tiny", "--json"]) == 0
    expected = as_on_the_hub(pushed[0], "org/tiny", cache.name, from_cache=True)
    for component in ("unet", "estimator"):
        expected[component]["weights"][0] |= {"dtypes": None, "num_parameters": None}
    assert json.loads(capsys.readouterr().out) == expected

    assert main(["info", "org/tiny"]) == 0
    assert "(diffusers)\n              precision unknown, 0.2 MB\n" in capsys.readouterr().out


def store_weights(folder, cache):
    for component in ("unet", "estimator"):
        (cache / component).mkdir(exist_ok=True)
        shutil.copy(folder / component / WEIGHTS, cache / component)


def test_offline_with_the_weights_in_the_cache(pushed, cache, capsys):
    store_weights(pushed[0], cache)
    assert main(["info", "org/tiny", "--json"]) == 0
    expected = as_on_the_hub(pushed[0], "org/tiny", cache.name, from_cache=True)
    assert json.loads(capsys.readouterr().out) == expected


def test_offline_without_the_list_of_the_hubs_files(pushed, cache, capsys):
    store_weights(pushed[0], cache)
    shutil.rmtree(cache.parents[1] / "trees")
    assert main(["info", "org/tiny", "--json"]) == 0
    expected = as_on_the_hub(pushed[0], "org/tiny", cache.name, from_cache=True)
    assert json.loads(capsys.readouterr().out) == expected


def test_offline_without_the_card(cache):
    (cache / "README.md").unlink()
    info = model_info("org/tiny")
    assert info.license is None and info.unet.class_name == "UNet2DModel"


@pytest.fixture(scope="module")
def varied(hub, tmp_path_factory):
    """Folders by repository: with their own code, in .bin, and without the files of the prior."""
    root = tmp_path_factory.mktemp("varied")
    pipe = DifFacePipeline(tiny_unet(), tiny_estimator(), ddim())
    pipe.save_pretrained(root / "whole")
    pipe.save_pretrained(root / "bin", safe_serialization=False, max_shard_size="20KB")
    pipe.save_pretrained(root / "bin", safe_serialization=False, variant="fp16")
    export_remote_code(root / "bin", root / "code")
    shutil.copytree(root / "whole", root / "elsewhere", ignore=shutil.ignore_patterns("unet"))
    folders = {f"org/{name}": root / name for name in ("bin", "code", "elsewhere")}
    for repo_id, folder in folders.items():
        hub.add(folder, repo_id)
    return folders


@pytest.mark.parametrize("repo_id", ["org/bin", "org/code", "org/elsewhere"])
def test_other_forms_of_a_repository(hub, varied, tmp_path, repo_id):
    expected = as_on_the_hub(varied[repo_id], repo_id, hub.repositories[repo_id].names["main"])
    with hub.client(tmp_path):
        status, output, error = ask(repo_id)
    assert (status, error) == (0, "") and json.loads(output) == expected
    assert not hub.requested("GET", rf"{repo_id}/.*\.(bin|py)$")
    with hub.client(tmp_path, HF_ENDPOINT="http://127.0.0.1:9"):
        status, output, error = ask(repo_id)
    assert (status, error) == (0, "")
    if repo_id == "org/elsewhere":
        expected["estimator"]["weights"][0] |= {"dtypes": None, "num_parameters": None}
    assert json.loads(output) == expected | {"from_cache": True}


def test_own_code_that_the_cache_does_not_know(hub, varied, tmp_path):
    with hub.client(tmp_path / "home"):
        ask("org/code")
    shutil.copytree(tmp_path / "home", tmp_path / "old", symlinks=True, ignore=shutil.ignore_patterns("trees"))
    with hub.client(tmp_path / "old", HF_ENDPOINT="http://127.0.0.1:9"):
        info = model_info("org/code")
    assert (info.trust_remote_code, info.code) == (True, ("pipeline.py",))


def test_a_cache_without_the_configs(hub, varied, tmp_path):
    """It is left by `from_pretrained` when it is given a network and a scheduler."""
    with hub.client(tmp_path):
        DifFacePipeline.from_pretrained("org/elsewhere", unet=tiny_unet(), scheduler=ddim())
    for folder in tmp_path.glob("hub/models--org--elsewhere/snapshots/*/scheduler"):
        shutil.rmtree(folder)
    with hub.client(tmp_path, HF_ENDPOINT="http://127.0.0.1:9"):
        info = model_info("org/elsewhere")
    assert info.face_size is None and info.scheduler.class_name == "DDIMScheduler" and info.scheduler_settings == {}
    assert info.estimator.weights[0].dtypes == ("float32",)
