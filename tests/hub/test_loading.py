"""What `from_pretrained` does with an id of the Hub, over HTTP on loopback."""

import json

import pytest
import torch
from diffusers import AutoModel, ModularPipeline

from difface_diffusers import DifFacePipeline, SRCNNEstimator
from tests import forks
from tests.conftest import SIZE, ddim, tiny_estimator, tiny_unet
from tests.hub.hub_server import FakeHub


LOAD = """
import json, sys, torch
import diffusers, difface_diffusers

outcomes = {}
for name, arguments in json.loads(sys.argv[1]).items():
    repo_id, loader = arguments.pop("id"), getattr(diffusers, arguments.pop("loader", "DifFacePipeline"))
    try:
        pipe = loader.from_pretrained(repo_id, **arguments)
    except (OSError, ValueError) as error:
        outcomes[name] = f"{type(error).__name__}: {error}"
        continue
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    restored = pipe(image, 2, generator=torch.Generator().manual_seed(0), output_type="pt").images
    outcomes[name] = {"images": restored, "classes": [type(part).__name__ for part in pipe.components.values()]}
torch.save(outcomes, sys.argv[2])
"""


def restored(pipe):
    image = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(3))
    pipe.set_progress_bar_config(disable=True)
    return pipe(image, 2, generator=torch.Generator().manual_seed(0), output_type="pt").images


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def hub(work):
    """A Hub with org/difface, of which v1 is an older commit, and org/secret, a private copy."""
    old, new = work / "old", work / "new"
    pipe = DifFacePipeline(tiny_unet(), tiny_estimator(), ddim())
    pipe.save_pretrained(new)
    DifFacePipeline(tiny_unet(norm_eps=0.1), tiny_estimator(), ddim()).save_pretrained(old)
    pipe.to(torch.float16).save_pretrained(new, variant="fp16")
    with FakeHub(work / "hub") as hub:
        hub.push(old, "org/difface", home=work / "owner").check_returncode()
        names = hub.repositories["org/difface"].names
        names["v1"] = names["main"]
        hub.push(new, "org/difface", home=work / "owner").check_returncode()
        hub.push(new, "org/secret", "--private", home=work / "owner").check_returncode()
        hub.requests.clear()
        yield hub


@pytest.fixture(scope="module")
def visitor(hub, work):
    """What a process of its own without a token gets: what each pipeline restored, or its error as a text."""
    calls = {
        "default": {"id": "org/difface"},
        "v1": {"id": "org/difface", "revision": "v1"},
        "no revision": {"id": "org/difface", "revision": "v2"},
        "no variant": {"id": "org/difface", "variant": "int8"},
        "secret": {"id": "org/secret"},
        "wrong token": {"id": "org/secret", "token": "hf_wrong"},
        "right token": {"id": "org/secret", "token": "hf_right"},
        "nothing": {"id": "org/nothing"},
        "by diffusers": {"id": "org/difface", "loader": "DiffusionPipeline"},
        "by its task": {"id": "org/difface", "loader": "AutoPipelineForImage2Image"},
    }
    answer, log = work / "visitor.pt", work / "visitor.txt"
    status = forks.run(LOAD, json.dumps(calls), answer, log=log, environment=hub.environment(work / "visitor"))
    assert status == 0, log.read_text()
    return torch.load(answer)


def test_an_id_needs_nothing_but_the_package(visitor, work):
    assert torch.equal(visitor["default"]["images"], restored(DifFacePipeline.from_pretrained(work / "new")))
    assert visitor["default"]["classes"] == ["UNet2DModel", "SRCNNEstimator", "DDIMScheduler"]


@pytest.mark.parametrize("name", ["by diffusers", "by its task"])
def test_diffusers_own_loaders_find_it(visitor, name):
    assert torch.equal(visitor[name]["images"], visitor["default"]["images"])
    assert visitor[name]["classes"] == visitor["default"]["classes"]


def test_its_blocks(visitor, hub, work):
    with hub.client(work / "blocks"):
        pipe = ModularPipeline.from_pretrained("org/difface")
        pipe.load_components()
    image = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(3))
    inputs = {"image": image, "num_inference_steps": 2, "generator": torch.Generator().manual_seed(0)}
    assert torch.equal(pipe(**inputs, output_type="pt", output="images"), visitor["default"]["images"])


def test_a_component_alone(hub, work):
    with hub.client(work / "part", "hf_right"):
        estimator = AutoModel.from_pretrained("org/secret", subfolder="estimator", variant="fp16", dtype=torch.float16)
    assert type(estimator) is SRCNNEstimator and estimator.dtype is torch.float16


def test_a_revision_is_an_older_commit(visitor, work):
    assert torch.equal(visitor["v1"]["images"], restored(DifFacePipeline.from_pretrained(work / "old")))
    assert not torch.equal(visitor["v1"]["images"], visitor["default"]["images"])
    assert visitor["no revision"].startswith("OSError") and "org/difface" in visitor["no revision"]


def test_a_variant_that_is_not_there_is_refused(visitor):
    assert visitor["no variant"].startswith("ValueError") and "variant=int8" in visitor["no variant"]


def test_a_private_repository_needs_its_token(visitor, hub):
    assert visitor["secret"].startswith("OSError") and "org/secret" in visitor["secret"]
    assert visitor["wrong token"].startswith("OSError")
    assert torch.equal(visitor["right token"]["images"], visitor["default"]["images"])
    refused = [path for method, path, status in hub.requests if "org/secret" in path and status in (401, 404)]
    assert refused and not any(path.endswith(".safetensors") for path in refused)


def test_an_id_that_does_not_exist_is_named(visitor):
    assert visitor["nothing"].startswith("OSError") and "org/nothing" in visitor["nothing"]


def test_only_the_variant_is_fetched(hub, work):
    hub.requests.clear()
    with hub.client(work / "half", "hf_right"):
        pipe = DifFacePipeline.from_pretrained("org/secret", variant="fp16", dtype=torch.float16)
    fetched = {path.rpartition("/")[2] for path in hub.requested("GET", r"\.safetensors$")}
    assert fetched == {"diffusion_pytorch_model.fp16.safetensors"}
    half = DifFacePipeline.from_pretrained(work / "new", variant="fp16", dtype=torch.float16)
    assert torch.equal(restored(pipe), restored(half))


def test_the_cache_serves_when_the_hub_does_not(visitor, hub, work):
    hub.stop()
    for offline in "10":
        with hub.client(work / "visitor", HF_HUB_OFFLINE=offline):
            again = DifFacePipeline.from_pretrained("org/difface")
        assert torch.equal(restored(again), visitor["default"]["images"])
