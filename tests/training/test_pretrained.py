"""Starting from models on the Hub: every client is a process of its own, over HTTP on loopback."""

import json
import os

import pytest
import torch

from difface_diffusers import (
    BUNDLED_INPAINT_MODEL,
    BUNDLED_MODEL,
    DifFacePipeline,
    DifFaceUNet2DModel,
    LaMaEstimator,
    SRCNNEstimator,
    SwinIREstimator,
)
from difface_diffusers.training.pretrained import load_pretrained
from tests import forks
from tests.conftest import ddim, tiny_estimator, tiny_unet
from tests.hub.hub_server import FakeHub


LOAD = """
import json, sys, time, torch
time.sleep = lambda seconds: None  # between the client's own retries
from difface_diffusers import DifFaceUNet2DModel, SRCNNEstimator
from difface_diffusers.training.task import build_model

outcomes = {}
for name, (source, component) in json.loads(sys.argv[1]).items():
    model_class = SRCNNEstimator if component == "estimator" else DifFaceUNet2DModel
    try:
        outcomes[name] = build_model(model_class, {}, source, component).state_dict()
    except ValueError as error:
        outcomes[name] = str(error)
torch.save(outcomes, sys.argv[2])
"""
BEGINNING = (
    "; it must be the folder of a saved model or pipeline, or the id of one on the Hub: there is no such folder"
)


def build(hub, home, calls, offline=False):
    answer, log = home.with_suffix(".pt"), home.with_suffix(".txt")
    environment = hub.environment(home) | {"HF_HUB_OFFLINE": str(int(offline))}
    assert forks.run(LOAD, json.dumps(calls), answer, log=log, environment=environment) == 0, log.read_text()
    return torch.load(answer)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def outcomes(work):
    """What a process gets of a Hub with a pipeline, an estimator and a secret; and another one later, without the Hub."""
    DifFacePipeline(tiny_unet(), tiny_estimator(), ddim()).save_pretrained(work / "pipeline")
    tiny_estimator().save_pretrained(work / "component")
    calls = {
        "pipeline": ("org/pipeline", "estimator"),
        "prior": ("org/pipeline", "unet"),
        "component": ("org/component", "estimator"),
        "other": ("org/component", "unet"),
    }
    with FakeHub(work / "hub") as hub:
        for repository in ("pipeline", "component"):
            hub.add(work / repository, f"org/{repository}")
        hub.add(work / "component", "org/secret", private=True)
        refused = {"secret": ("org/secret", "estimator"), "nothing": ("org/nothing", "estimator")}
        online = build(hub, work / "visitor", calls | refused)
        online["requests"] = hub.requested("GET", r"\.safetensors$")
        hub.stop()
        without = build(hub, work / "visitor", calls | {"never": ("org/never", "estimator")}, offline=True)
    return online, without


def test_a_pipeline_or_a_component_of_the_hub_is_taken(outcomes):
    for answers in outcomes:
        for name in ("pipeline", "component"):
            expected = tiny_estimator().state_dict()
            assert answers[name].keys() == expected.keys()
            assert all(torch.equal(answers[name][key], value) for key, value in expected.items())
        assert all(torch.equal(answers["prior"][key], value) for key, value in tiny_unet().state_dict().items())


def test_of_a_pipeline_only_the_part_is_fetched(outcomes):
    assert [
        path.rpartition("/org/")[2].replace("resolve/", "").split("/", 2)[::2] for path in outcomes[0]["requests"]
    ] == [
        ["pipeline", "estimator/diffusion_pytorch_model.safetensors"],
        ["pipeline", "unet/diffusion_pytorch_model.safetensors"],
        ["component", "diffusion_pytorch_model.safetensors"],
    ]


def test_a_model_of_another_class_is_refused(outcomes):
    for answers in outcomes:
        assert "org/component holds a SRCNNEstimator; it must hold a DifFaceUNet2DModel." in answers["other"]


def test_what_may_not_be_read_is_told_in_a_sentence(outcomes):
    for name in ("secret", "nothing"):
        assert outcomes[0][name].startswith(
            f"`initial_weights` is org/{name}{BEGINNING}, nor a repository of the Hub that"
        )


def test_without_the_hub_what_is_not_in_the_cache_is_told_in_a_sentence(outcomes):
    message = outcomes[1]["never"]
    assert message.startswith(
        f"`initial_weights` is org/never{BEGINNING}, it is not in the cache, and the Hub does not give"
    )
    assert "\n" not in message


@pytest.mark.parametrize(
    ("model_class", "component", "folder"),
    [
        (DifFaceUNet2DModel, "unet", BUNDLED_MODEL),
        (SwinIREstimator, "estimator", BUNDLED_MODEL),
        (LaMaEstimator, "estimator", BUNDLED_INPAINT_MODEL),
    ],
)
def test_the_bundled_models_have_a_name(model_class, component, folder):
    named = load_pretrained(model_class, "bundled", component)
    expected = model_class.from_pretrained(folder, subfolder=component)
    assert all(torch.equal(weight, expected.state_dict()[name]) for name, weight in named.state_dict().items())


def test_a_mistyped_folder_is_no_id(tmp_path, monkeypatch):
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    for source in ("runs/estimatr", "./estimator", str(tmp_path / "runs" / "estimator"), "estimator"):
        with pytest.raises(ValueError, match=r"^there is no such folder\.$"):
            load_pretrained(SRCNNEstimator, source, "estimator")
