import threading
import warnings
from concurrent.futures import Future
from types import SimpleNamespace

import pytest
import yaml
from huggingface_hub import ModelCard
from PIL import Image
from safetensors.torch import load_file

from difface_diffusers import SRCNNEstimator
from difface_diffusers.cli import main
from difface_diffusers.training import publishing
from difface_diffusers.training.loop import train
from tests.conftest import warned_at
from tests.hub.hub_server import FakeHub

from .test_loop import assert_same_checkpoints, prepare, signaled
from .tiny import ESTIMATOR, changed, write_faces, write_yaml


REPO = "org/difface-estimator"


@pytest.fixture
def folder(tmp_path):
    return write_faces(tmp_path / "faces")


# Over HTTP


def run(hub, tmp_path, *options, token="hf_right", **loop_settings):
    settings = {"checkpoint_every": 2, "sheet_every": 2, "validate_every": 3} | loop_settings
    config = write_yaml(tmp_path / "config.yaml", changed(ESTIMATOR, loop=settings))
    faces = str(write_faces(tmp_path / "faces"))
    command = ["train", "estimator", "--config", str(config), "--data", faces, "--output", str(tmp_path / "run")]
    with hub.client(tmp_path / "home", token):
        return main([*command, "--push-to-hub", REPO, *options])


def download(hub, target):
    """Write what the repository holds to a folder."""
    repository = hub.repositories[REPO]
    for path, file in repository.commits[repository.names["main"]].items():
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        (target / path).write_bytes(file.content.read_bytes())
    return target


def test_the_last_averaged_weights_are_on_the_hub(tmp_path):
    with FakeHub(tmp_path / "hub") as hub:
        held_out = write_faces(tmp_path / "held_out", ["v.png"], seed=50)
        assert run(hub, tmp_path, "--private", "--validation", str(held_out)) == 0
    assert hub.repositories[REPO].private
    published = download(hub, tmp_path / "published")
    names = [
        "README.md",
        "config.json",
        "config.yaml",
        "diffusion_pytorch_model.safetensors",
        "log.jsonl",
        "sheet.png",
    ]
    assert sorted(path.name for path in published.iterdir()) == names

    finished = load_file(tmp_path / "run" / "estimator" / "diffusion_pytorch_model.safetensors")
    weights = SRCNNEstimator.from_pretrained(published).state_dict()
    assert finished.keys() == weights.keys() and all(finished[name].equal(weights[name]) for name in finished)
    assert (published / "log.jsonl").read_text() == (tmp_path / "run" / "log.jsonl").read_text()
    with (
        Image.open(published / "sheet.png") as sheet,
        Image.open(tmp_path / "run" / "sheets" / "00000006.png") as last,
    ):
        assert sheet.tobytes() == last.tobytes()
    assert yaml.safe_load((published / "config.yaml").read_text())["monitoring"]["push_to_hub"] == REPO
    card = ModelCard.load(published / "README.md")
    assert card.data.library_name == "diffusers"
    assert "after step 6 of 6" in card.text
    assert f'SRCNNEstimator.from_pretrained("{REPO}")' in card.text
    assert "| psnr | " in card.text


@pytest.mark.parametrize("token", [None, "hf_wrong"])
def test_without_a_good_token_no_step_is_taken(tmp_path, token, capfd):
    with FakeHub(tmp_path / "hub") as hub:
        assert run(hub, tmp_path, token=token) == 2
    errors = capfd.readouterr().err
    assert f"`monitoring.push_to_hub` is '{REPO}': " in errors
    assert "Traceback" not in errors
    assert not list((tmp_path / "run").iterdir())


@pytest.mark.filterwarnings("ignore:an upload to")
def test_an_upload_that_never_succeeds_is_told_at_the_end(tmp_path, capfd):
    with FakeHub(tmp_path / "hub") as hub:
        hub.break_upload = 1
        assert run(hub, tmp_path) == 1
        assert f"run: hf upload {REPO} {tmp_path / 'run' / 'hub'} ." in capfd.readouterr().err
        assert (tmp_path / "run" / "estimator").is_dir()
        hub.break_upload = None
        assert run(hub, tmp_path) == 0  # the same command makes up for it
    assert SRCNNEstimator.from_pretrained(download(hub, tmp_path / "published"))


# Timing


class Api:
    """Uploads when it is told to; remembers the message and the weights of each."""

    def __init__(self, automatic=True):
        self.automatic, self.uploads, self.futures, self.errors = automatic, [], [], []

    def create_repo(self, repo_id, private, exist_ok):
        return SimpleNamespace(repo_id=f"me/{repo_id}" if "/" not in repo_id else repo_id)

    def run_as_future(self, function, *arguments, **settings):
        future = Future()
        future.set_result(function(*arguments, **settings))
        return future

    def upload_folder(self, *, repo_id, folder_path, commit_message, run_as_future):
        self.uploads.append((repo_id, commit_message, load_file(folder_path / "diffusion_pytorch_model.safetensors")))
        self.futures.append(Future())
        if self.automatic:
            self.end()
        return self.futures[-1]

    def end(self):
        error = self.errors.pop(0) if self.errors else None
        self.futures[-1].set_exception(error) if error else self.futures[-1].set_result(None)


@pytest.fixture
def api(monkeypatch):
    api = Api()
    monkeypatch.setattr(publishing, "HfApi", lambda: api)
    return api


def published(folder, repo_id=REPO, **loop_settings):
    return prepare(folder, monitoring={"push_to_hub": repo_id}, **{"checkpoint_every": 2} | loop_settings)


def messages(api):
    return [message for _, message, _ in api.uploads]


def test_every_checkpoint_is_uploaded(api, folder, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = train(*published(folder, "estimator"), tmp_path / "run")
    assert result.finished and result.unpublished is None
    assert messages(api) == ["Step 2", "Step 4", "Step 6"]
    assert {repo_id for repo_id, _, _ in api.uploads} == {"me/estimator"}
    averaged = load_file(tmp_path / "run" / "checkpoint-00000004" / "ema.safetensors")
    assert all(api.uploads[1][2][name].equal(weight) for name, weight in averaged.items())


def test_publishing_does_not_change_the_training(api, folder, tmp_path):
    train(*published(folder), tmp_path / "with")
    train(*prepare(folder), tmp_path / "without")
    assert_same_checkpoints(tmp_path / "with", tmp_path / "without", 6)


def test_a_checkpoint_is_passed_over_while_another_is_on_its_way(api, folder, tmp_path):
    api.automatic = False
    task, dataset, config = published(folder, checkpoint_every=1)
    steps, loss = [], task.loss

    def until_the_fifth(model, batch):
        steps.append(loss(model, batch))
        if len(steps) == 5:
            api.end()
            api.automatic = True
        return steps[-1]

    task.loss = until_the_fifth
    train(task, dataset, config, tmp_path / "run")
    assert messages(api) == ["Step 1", "Step 5", "Step 6"]


def test_the_last_weights_wait_for_the_upload_before(api, folder, tmp_path):
    api.automatic = False

    def finish():
        api.automatic = True
        api.end()

    task, dataset, config = published(folder, checkpoint_every=5)
    save = task.model.save_pretrained
    task.model.save_pretrained = lambda target: (
        save(target) or (target.name == "estimator" and threading.Timer(0.5, finish).start())
    )
    train(task, dataset, config, tmp_path / "run")
    assert messages(api) == ["Step 5", "Step 6"]


def test_a_failed_upload_is_warned_of_and_made_up_for(api, folder, tmp_path):
    api.errors = [ConnectionError("no network"), None]
    with warned_at(__file__, rf"an upload to {REPO} failed, and is tried anew: no network"):
        result = train(*published(folder), tmp_path / "run")
    assert result.unpublished is None
    assert messages(api) == ["Step 2", "Step 4", "Step 6"]


def test_a_stopped_training_uploads_no_more(api, folder, tmp_path):
    task, dataset, config = published(folder)
    assert not train(signaled(task, 2), dataset, config, tmp_path / "run").finished
    assert messages(api) == ["Step 2"]


def test_nothing_is_uploaded_unless_asked_for(api, folder, tmp_path):
    train(*prepare(folder), tmp_path / "run")
    assert not api.uploads and not (tmp_path / "run" / "hub").exists()
