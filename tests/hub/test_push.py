import pytest
import torch

from difface_diffusers import DifFacePipeline
from difface_diffusers.hub.push import push_folder
from tests.conftest import ddim, tiny_estimator, tiny_unet
from tests.hub.hub_server import FakeHub


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline")
    pipe = DifFacePipeline(tiny_unet(), tiny_estimator(), ddim())
    pipe.save_pretrained(folder)
    pipe.to(torch.float16).save_pretrained(folder, variant="fp16")
    (folder / "README.md").write_text("---\nlicense: other\n---\n# A pipeline\n")
    return folder


@pytest.fixture
def hub(tmp_path):
    with FakeHub(tmp_path / "hub") as hub:
        yield hub


def contents(hub, repo_id):
    repository = hub.repositories[repo_id]
    files = repository.commits[repository.names["main"]]
    return {path: file.content.read_bytes() for path, file in files.items()}


def files_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_pushes_every_file_in_one_commit(hub, folder, tmp_path):
    result = hub.push(folder, "org/difface", home=tmp_path)
    assert result.returncode == 0, result.stderr
    repository = hub.repositories["org/difface"]
    assert contents(hub, "org/difface") == files_of(folder)
    assert len(repository.commits) == 2  # the first is the empty one of the new repository
    assert not repository.private
    assert result.stdout.strip() == f"{hub.url}/org/difface/commit/{repository.names['main']}"


def test_makes_a_private_repository_and_overwrites_nothing_else(hub, folder, tmp_path):
    assert hub.push(folder, "org/difface", "--private", home=tmp_path).returncode == 0
    assert hub.repositories["org/difface"].private
    uploads = len(hub.requested("PUT", "/lfs/"))
    assert hub.push(folder, "org/difface", home=tmp_path).returncode == 0
    assert hub.repositories["org/difface"].private
    assert len(hub.requested("PUT", "/lfs/")) == uploads


def test_an_interrupted_upload_shows_nothing_and_is_resumed(hub, folder, tmp_path):
    hub.break_upload = 2
    assert hub.push(folder, "org/difface", home=tmp_path).returncode != 0
    assert contents(hub, "org/difface") == {}
    arrived = {request[1] for request in hub.requests if request[0] == "PUT" and request[2] == 200}
    assert len(arrived) == 1

    hub.break_upload = None
    hub.requests.clear()
    assert hub.push(folder, "org/difface", home=tmp_path).returncode == 0
    assert contents(hub, "org/difface") == files_of(folder)
    sent = hub.requested("PUT", "/lfs/")
    assert len(sent) == 3 and not arrived & set(sent)


@pytest.mark.parametrize(
    ("token", "message"), [(None, "No token was found"), ("hf_wrong", "Invalid username or password")]
)
def test_needs_a_token(hub, folder, tmp_path, token, message):
    result = hub.push(folder, "org/difface", home=tmp_path, token=token)
    assert result.returncode != 0 and message in result.stderr
    assert not hub.repositories


def test_refuses_a_folder_without_a_pipeline(tmp_path):
    with pytest.raises(ValueError, match=r"`folder` is .*; it must hold the model_index\.json of a saved pipeline"):
        push_folder(tmp_path, "org/difface")


@pytest.mark.parametrize("repo_id", ["difface", "a/b/c", "org/", "/difface"])
def test_refuses_a_malformed_id(folder, repo_id):
    with pytest.raises(ValueError, match=r"`repo_id` is '.*'; it must be ORG/NAME"):
        push_folder(folder, repo_id)
