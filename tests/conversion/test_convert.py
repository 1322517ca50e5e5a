import dataclasses
import os
import pickle
import re

import pytest
import torch
import yaml
from huggingface_hub import ModelCard

from conversion.convert import main
from difface_diffusers import (
    DifFaceInpaintPipeline,
    DifFacePipeline,
    DifFaceUNet2DModel,
    LaMaEstimator,
    SwinIREstimator,
)
from difface_diffusers.hub import convert
from difface_diffusers.hub.convert import convert_pipeline
from difface_diffusers.hub.originals.official import TASKS
from difface_diffusers.pipelines.sampling import Sampling
from tests.hub.originals.reference import estimator_case, image, load_golden, load_manifest, prior_case, weights


@pytest.fixture(autouse=True)
def small_check(monkeypatch):
    monkeypatch.setattr(convert, "CHECK_SIZE", 32)


@pytest.fixture
def task(monkeypatch):
    """The official task with tiny architectures, which `main` then knows as "restoration" too."""
    official = TASKS["restoration"]
    prior = dataclasses.replace(official.prior, config=load_manifest("unet_tiny_varied")[0])
    estimator = dataclasses.replace(official.estimator, config=load_manifest("swinir_tiny")[0])
    task = dataclasses.replace(official, prior=prior, estimator=estimator)
    monkeypatch.setitem(TASKS, "restoration", task)
    return task


def save(path, manifest, prefix="", **changes):
    _, shapes = load_manifest(manifest)
    state_dict = weights(shapes) | changes
    torch.save({prefix + key: value for key, value in state_dict.items() if value is not None}, path)
    return path


@pytest.fixture
def prior(tmp_path):
    return save(tmp_path / "prior.pth", "unet_tiny_varied")


@pytest.fixture
def estimator(tmp_path):
    return save(tmp_path / "estimator.pth", "swinir_tiny", prefix="module.")


@pytest.fixture
def arguments(task, prior, estimator, tmp_path):
    return ["restoration", "--prior", f"{prior}", "--estimator", f"{estimator}", "--output", f"{tmp_path / 'out'}"]


class Malicious:
    """A pickle that creates a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


# The whole way


@torch.no_grad()
def test_a_converted_pipeline_answers_like_the_original(arguments, tmp_path, capsys):
    assert main([*arguments, "--variant", "fp16"]) == 0
    assert f"saved and checked: {tmp_path / 'out'}" in capsys.readouterr().out

    pipe = DifFacePipeline.from_pretrained(tmp_path / "out")
    _, _, sample, golden, subsample = prior_case("unet_tiny_varied")
    answer = pipe.unet(sample, golden["timesteps"]).sample[..., ::subsample, ::subsample]
    torch.testing.assert_close(answer, golden["output"], rtol=0, atol=1e-5)
    _, _, image, expected, subsample = estimator_case("swinir_tiny", "swinir_tiny")
    answer = pipe.estimator(image)[..., ::subsample, ::subsample]
    torch.testing.assert_close(answer, expected, rtol=0, atol=1e-5)

    assert type(pipe.unet) is DifFaceUNet2DModel and type(pipe.estimator) is SwinIREstimator
    assert (pipe.config.default_num_inference_steps, pipe.config.default_start_timestep) == (100, 400)
    assert pipe.config.default_eta == 0.5
    original = pipe.with_defaults("original")
    assert dataclasses.replace(original, scheduler=None) == pipe.with_defaults() and original.scheduler == "ddim"
    fast = pipe.with_defaults("fast")
    assert fast.num_inference_steps < 10 and fast.scheduler == "dpm-multistep" and fast.start_timestep == 400
    pipe.set_progress_bar_config(disable=True)
    pipe(image[:1], preset="fast", start_timestep=8)
    assert pipe.num_timesteps == fast.num_inference_steps
    assert pipe.scheduler.config.timestep_spacing == "leading"


@torch.no_grad()
def test_inpainting_is_converted_too(tmp_path, monkeypatch):
    official = TASKS["inpainting"]
    prior = dataclasses.replace(official.prior, config=load_manifest("unet_tiny_uniform")[0])
    estimator = dataclasses.replace(official.estimator, config=load_manifest("lama_tiny")[0])
    monkeypatch.setitem(TASKS, "inpainting", dataclasses.replace(official, prior=prior, estimator=estimator))
    arguments = [
        "--prior", str(save(tmp_path / "prior.pth", "unet_tiny_uniform")),
        "--estimator", str(save(tmp_path / "lama.pth", "lama_tiny")),
        "--output", str(tmp_path / "out"), "--variant", "fp16",
    ]  # fmt: skip
    assert main(["inpainting", *arguments]) == 0
    pipe = DifFaceInpaintPipeline.from_pretrained(tmp_path / "out")
    assert type(pipe.estimator) is LaMaEstimator
    assert (pipe.config.default_num_inference_steps, pipe.config.default_start_timestep) == (120, 480)
    assert pipe.with_defaults("original") == Sampling(120, 480, 1.0, 1.0, "ddim")
    assert "pipe(image, mask_image)" in (tmp_path / "out" / "README.md").read_text()
    golden, _ = load_golden("lama_tiny")
    source = image("lama_tiny", (2, 4, 64, 64))
    torch.testing.assert_close(pipe.estimator(source[:, :3], source[:, 3:]), golden["output"], rtol=0, atol=1e-5)


def test_the_fp16_variant_is_half_the_size_and_loads(arguments, tmp_path):
    assert main([*arguments, "--variant", "fp16"]) == 0
    for part in ("unet", "estimator"):
        full = tmp_path / "out" / part / "diffusion_pytorch_model.safetensors"
        half = tmp_path / "out" / part / "diffusion_pytorch_model.fp16.safetensors"
        assert half.stat().st_size < 0.6 * full.stat().st_size  # the headers do not shrink
    pipe = DifFacePipeline.from_pretrained(tmp_path / "out", variant="fp16", dtype=torch.float16)
    reference = DifFacePipeline.from_pretrained(tmp_path / "out")
    assert pipe.unet.dtype is pipe.estimator.dtype is torch.float16
    for key, value in reference.unet.state_dict().items():
        assert torch.equal(pipe.unet.state_dict()[key], value.half())


def test_only_float32_is_stored_unless_asked(arguments, tmp_path):
    assert main(arguments) == 0
    stored = sorted(
        str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()
    )
    assert stored == [
        "README.md",
        "estimator/config.json",
        "estimator/diffusion_pytorch_model.safetensors",
        "model_index.json",
        "scheduler/scheduler_config.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
    ]
    assert os.listdir(tmp_path / "out") and sorted(os.listdir(tmp_path)) == ["estimator.pth", "out", "prior.pth"]


def test_writes_a_card_with_the_sources_and_no_local_path(arguments, tmp_path):
    assert main(arguments) == 0
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert card.data.license_name == "s-lab-license-1.0"
    assert len(re.findall(r"^\| `(?:prior|estimator)\.pth` \| [\d,]+ \| `[0-9a-f]{64}` \|$", card.text, re.M)) == 2
    assert 'from_pretrained("out")' in card.text
    for path in (tmp_path / "out").rglob("*.json"):
        assert str(tmp_path) not in path.read_text()
    assert str(tmp_path) not in card.text


def test_pushes_the_folder_under_its_own_name(arguments, tmp_path, monkeypatch, capsys):
    calls = []

    def push_folder(folder, repo_id, private=False):
        calls.append((folder, repo_id, private))
        return "https://hub/org/difface"

    monkeypatch.setattr("difface_diffusers.hub.push.push_folder", push_folder)
    assert main([*arguments, "--push-to-hub", "org/difface", "--private"]) == 0
    assert calls == [(tmp_path / "out", "org/difface", True)]
    assert "pushed: https://hub/org/difface" in capsys.readouterr().out
    assert 'from_pretrained("org/difface")' in (tmp_path / "out" / "README.md").read_text()


def test_downloads_what_is_not_given(task, prior, tmp_path, monkeypatch):
    calls = []

    def download(url, folder, sha256):
        calls.append((url, folder))
        return save(tmp_path / "downloaded.pth", "swinir_tiny")

    monkeypatch.setattr("difface_diffusers.hub.download.download", download)
    where = ["--download", str(tmp_path / "checkpoints")]
    assert main(["restoration", "--prior", str(prior), *where, "--output", str(tmp_path / "out")]) == 0
    release = "https://github.com/zsyOAOA/DifFace/releases/download/V1.0"
    assert calls == [(f"{release}/swinir_restoration512_L1.pth", tmp_path / "checkpoints")]
    assert (tmp_path / "out" / "model_index.json").exists()


# Refusals


def write_bad(tmp_path, kind):
    """Write a bad prior of the given kind."""
    path = tmp_path / "bad.pth"
    if kind == "malicious":
        torch.save({"input_blocks.0.0.weight": torch.zeros(1), "payload": Malicious(tmp_path / "created")}, path)
    elif kind == "malicious pickle":
        path.write_bytes(pickle.dumps(Malicious(tmp_path / "created")))
    elif kind == "truncated":
        save(path, "unet_tiny_varied")
        path.write_bytes(path.read_bytes()[:-1000])
    elif kind == "text":
        path.write_text("no weights")
    elif kind == "architecture":
        save(path, "unet_tiny_uniform")
    elif kind == "keys":
        save(path, "unet_tiny_varied", **{"out.2.bias": None, "out.3.bias": torch.zeros(1)})
    elif kind == "shape":
        save(path, "unet_tiny_varied", **{"out.2.bias": torch.zeros(7)})
    elif kind == "nan":
        save(path, "unet_tiny_varied", **{"out.2.bias": torch.full((6,), torch.nan)})
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("malicious", r"bad\.pth was refused: .* nothing but tensors .* holds other objects"),
        ("malicious pickle", r"bad\.pth was refused"),
        ("truncated", r"bad\.pth was refused: .* is damaged or cut short"),
        ("text", r"bad\.pth was refused"),
        ("missing", r"No such file or directory: .*bad\.pth"),
        ("architecture", r"bad\.pth is no checkpoint of the kind of iddpm_ffhq512_ema500000\.pth: .*\nmissing: "),
        ("keys", r"bad\.pth .*\nmissing: out\.2\.bias\nunexpected: out\.3\.bias\n"),
        ("shape", r"bad\.pth .*\nmis-shaped: out\.2\.bias \[7\], expected \[6\]"),
        ("nan", r"`unet` answers NaN or infinite values; its checkpoint is damaged"),
    ],
)
def test_refuses_and_leaves_nothing_behind(arguments, tmp_path, capsys, kind, message):
    bad = write_bad(tmp_path, kind)
    before = sorted(os.listdir(tmp_path))
    arguments[arguments.index("--prior") + 1] = str(bad)
    assert main(arguments) == 1
    assert re.search(message, capsys.readouterr().err)
    assert sorted(os.listdir(tmp_path)) == before


def test_the_malicious_file_would_work_elsewhere(tmp_path):
    path = write_bad(tmp_path, "malicious")
    torch.load(path, weights_only=False)
    assert (tmp_path / "created").exists()


def test_names_the_estimator_where_that_is_the_wrong_one(task, prior, tmp_path):
    with pytest.raises(ValueError, match=r"prior\.pth is no checkpoint of the kind of swinir_restoration512_L1\.pth"):
        convert_pipeline(task, prior, prior, tmp_path / "out")


def test_does_not_overwrite(task, prior, estimator, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").touch()
    with pytest.raises(ValueError, match=r"`output` is .*out, which exists; it must be a new or an empty folder"):
        convert_pipeline(task, prior, estimator, tmp_path / "out")
    assert os.listdir(tmp_path / "out") == ["precious"]
    with pytest.raises(ValueError, match=r"`output` is .*precious, which exists"):
        convert_pipeline(task, prior, estimator, tmp_path / "out" / "precious")


def test_takes_an_empty_folder(task, prior, estimator, tmp_path):
    (tmp_path / "out").mkdir()
    assert convert_pipeline(task, prior, estimator, tmp_path / "out") == tmp_path / "out"
    assert (tmp_path / "out" / "model_index.json").exists()


def test_notices_weights_that_changed_by_being_saved(task, prior, estimator, tmp_path, monkeypatch):
    load = DifFacePipeline.from_pretrained

    def load_changed(*args, **kwargs):
        pipe = load(*args, **kwargs)
        pipe.estimator.conv_in.bias.data[0] += 1e-6
        return pipe

    monkeypatch.setattr(DifFacePipeline, "from_pretrained", load_changed)
    with pytest.raises(RuntimeError, match="`estimator` has other keys, shapes or weights"):
        convert_pipeline(task, prior, estimator, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["colorization", "--output", "x"], "invalid choice: 'colorization'"),
        (["restoration", "--output", "x", "--download", "--variant", "fp8"], "invalid choice: 'fp8'"),
        (["restoration", "--download"], "required: -o/--output"),
    ],
)
def test_refuses_what_it_does_not_know(arguments, message, capsys):
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert raised.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --prior and --estimator, or --download"),
        (["--prior", "p"], "give --prior and --estimator, or --download"),
        (["--download", "--private"], "--private goes with --push-to-hub"),
        (["--download", "--prior-config", "c.yaml"], "--prior-config goes with --prior"),
    ],
)
def test_refuses_what_does_not_fit(arguments, message, capsys):
    assert main(["restoration", "--output", "x", *arguments]) == 2
    assert f"difface convert restoration: {message}" in capsys.readouterr().err


def test_checkpoints_of_ones_own_architecture(prior, estimator, tmp_path, capsys):
    """Without the configs they are no checkpoints of the official kind."""
    arguments = ["restoration", "--prior", f"{prior}", "--estimator", f"{estimator}", "-o", f"{tmp_path / 'out'}"]
    assert main(arguments) == 1
    assert "prior.pth is no checkpoint of the kind of iddpm_ffhq512" in capsys.readouterr().err
    for name, manifest in (("prior", "unet_tiny_varied"), ("estimator", "swinir_tiny")):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(load_manifest(manifest)[0]))
        arguments += [f"--{name}-config", f"{tmp_path / name}.yaml"]
    assert main(arguments) == 0
    assert type(DifFacePipeline.from_pretrained(tmp_path / "out").estimator) is SwinIREstimator


@pytest.mark.parametrize(("text", "message"), [("- a", "must hold names and values"), ("a: [", "is no YAML")])
def test_a_config_that_is_none(arguments, tmp_path, capsys, text, message):
    (tmp_path / "config.yaml").write_text(text)
    assert main([*arguments, "--prior-config", str(tmp_path / "config.yaml")]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
