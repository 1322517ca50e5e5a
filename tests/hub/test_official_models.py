import dataclasses
import errno
import hashlib
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from difface_diffusers import DifFaceInpaintPipeline, DifFacePipeline, official_model
from difface_diffusers.hub import convert, official_models
from difface_diffusers.hub import download as download_module
from difface_diffusers.hub.assets import assets_folder, cached_models, free
from difface_diffusers.hub.official_models import cached_official
from difface_diffusers.hub.originals.official import TASKS

from .originals.reference import load_manifest, weights


MANIFESTS = {
    "restoration": ("unet_tiny_varied", "swinir_tiny"),
    "inpainting": ("unet_tiny_uniform", "lama_tiny"),
}


class Release(ThreadingHTTPServer):
    """Serves files by their names, notes what was asked for, and breaks off or waits where it is told to."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.asked = {}, []
        self.break_after = None
        self.gate = threading.Event()
        self.gate.set()


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        name, wanted = self.path.rpartition("/")[2], self.headers["Range"]
        self.server.asked.append((name, wanted))
        self.server.gate.wait()
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        content = self.server.files[name][start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: self.server.break_after])


@pytest.fixture
def release(tmp_path, monkeypatch):
    """A server with tiny weights under the official names, and a cache of its own."""
    monkeypatch.setenv("HF_ASSETS_CACHE", str(tmp_path / "assets"))
    monkeypatch.setattr("huggingface_hub.constants.HF_ASSETS_CACHE", str(tmp_path / "assets"))
    monkeypatch.setattr("huggingface_hub.utils._cache_assets.HF_ASSETS_CACHE", str(tmp_path / "assets"))
    monkeypatch.setattr(official_models, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(convert, "CHECK_SIZE", 32)
    with Release() as server:
        for name, manifests in MANIFESTS.items():
            checkpoints = {}
            for part, manifest in zip(("prior", "estimator"), manifests, strict=True):
                config, shapes = load_manifest(manifest)
                official = getattr(TASKS[name], part)
                torch.save(weights(shapes), tmp_path / "weights")
                server.files[official.file] = (tmp_path / "weights").read_bytes()
                checkpoints[part] = dataclasses.replace(official, config=config, num_bytes=1000)
            monkeypatch.setitem(TASKS, name, dataclasses.replace(TASKS[name], **checkpoints))
        monkeypatch.setattr(official_models, "RELEASE_URL", f"http://127.0.0.1:{server.server_port}/V1.0")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.gate.set()
        server.shutdown()


def with_hash(monkeypatch, digest):
    task = TASKS["restoration"]
    prior = dataclasses.replace(task.prior, sha256=digest)
    monkeypatch.setitem(TASKS, "restoration", dataclasses.replace(task, prior=prior))


@pytest.mark.parametrize(
    ("task", "pipeline_class"), [("restoration", DifFacePipeline), ("inpainting", DifFaceInpaintPipeline)]
)
def test_it_is_fetched_and_converted_once(release, capsys, task, pipeline_class):
    assert cached_official(task) is None
    folder = official_model(task)
    said = capsys.readouterr().err
    assert (
        f"fetching DifFace's official {task} model, 0.0 GB, once, to {folder}. S-Lab License 1.0, for non-commercial use"
        in said
    )
    assert type(pipeline_class.from_pretrained(folder)) is pipeline_class
    assert [name for name, _ in release.asked] == [TASKS[task].prior.file, TASKS[task].estimator.file]
    assert list((folder.parent / "downloads").iterdir()) == []  # the converted weights take their place

    assert official_model(task) == folder == cached_official(task)
    assert len(release.asked) == 2 and "fetching" not in capsys.readouterr().err


def test_there_is_no_other_task():
    with pytest.raises(ValueError, match="`task` is 'colorization'; it must be one of restoration, inpainting"):
        official_model("colorization")


def test_a_known_hash_is_checked(release, monkeypatch):
    content = release.files[TASKS["restoration"].prior.file]
    with_hash(monkeypatch, "0" * 64)
    with pytest.raises(ValueError, match=f"its sha256 is {hashlib.sha256(content).hexdigest()}, not 0000"):
        official_model()
    assert cached_models() == []
    with_hash(monkeypatch, hashlib.sha256(content).hexdigest())
    assert (official_model() / "model_index.json").exists()


def test_half_a_download_goes_on(release):
    prior = TASKS["restoration"].prior.file
    release.break_after = 2000
    with pytest.raises(
        OSError, match=rf"{prior} broke off after 2000 of .* Or fetch .*{prior} and .* into .*downloads\."
    ):
        official_model()
    (part,) = cached_models()
    assert (part.name, part.num_bytes, part.is_whole) == (f"{prior}.part", 2000, False)
    release.break_after = None
    official_model()
    assert release.asked[1] == (prior, "bytes=2000-")


def test_files_put_there_by_hand_are_taken_without_a_network(release, monkeypatch):
    monkeypatch.setattr(official_models, "HF_HUB_OFFLINE", True)
    task = TASKS["restoration"]
    with pytest.raises(
        OSError, match=rf"not in the cache, and HF_HUB_OFFLINE is set; fetch .*{task.prior.file}"
    ) as info:
        official_model()
    folder = Path(str(info.value).rpartition(" into ")[2].removesuffix("."))
    folder.mkdir()
    for checkpoint in (task.prior, task.estimator):
        (folder / checkpoint.file).write_bytes(release.files[checkpoint.file])
    assert (official_model() / "model_index.json").exists()
    assert release.asked == []


def test_weights_of_another_kind_leave_nothing(release):
    release.files[TASKS["restoration"].prior.file] = b"no weights"
    with pytest.raises(ValueError, match=r"iddpm_ffhq512_ema500000\.pth was refused"):
        official_model()
    assert cached_official("restoration") is None


def test_of_two_at_once_one_waits(release):
    release.gate.clear()
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(official_model())) for _ in range(2)]
    for thread in threads:
        thread.start()
    while not release.asked:
        threads[0].join(0.05)
    threads[1].join(0.3)
    assert len(release.asked) == 1
    release.gate.set()
    for thread in threads:
        thread.join()
    assert answers[0] == answers[1] and len(release.asked) == 2


def test_a_full_disk_is_told_before_anything_is_fetched(release, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 7, 3))
    with pytest.raises(OSError, match=r"needs 0\.0 GB in .* while it is converted, .* 0\.0 GB are free\. Make room"):
        official_model()
    assert release.asked == []


def test_a_disk_that_gets_full_keeps_what_came(release, monkeypatch):
    class Full:
        def __init__(self, iterable=None, **settings):
            self.count = 0

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def update(self, count):
            self.count += count
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download_module, "tqdm", Full)
    with pytest.raises(
        OSError, match=r"iddpm_ffhq512_ema500000\.pth cannot be written: No space left on device; mend"
    ):
        official_model()
    assert [model.is_whole for model in cached_models()] == [False]


def test_a_cache_that_cannot_be_written(release, tmp_path):
    (tmp_path / "assets").write_text("no folder")
    with pytest.raises(OSError, match=r"the cache cannot be written \(.*assets.*\); set HF_HOME to a folder that can"):
        official_model()


def test_a_cache_that_can_only_be_read_serves_what_is_there(release, monkeypatch):
    folder = official_model()

    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(official_models, "WeakFileLock", refuse)
    assert official_model() == folder
    with pytest.raises(OSError, match=r"the cache .* cannot be written \(Permission denied\); set HF_HOME"):
        official_model("inpainting")


def test_models_are_listed_and_freed(release):
    folder = official_model()
    (assets_folder("real_esrgan") / "realesrgan-x4plus.pth").write_bytes(b"12345")
    names = [model.name for model in cached_models()]
    assert names == ["official restoration", "realesrgan-x4plus"]
    assert cached_models()[0].num_bytes == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert free("realesrgan-x4plus") == 5
    assert free("official restoration") > 1000
    assert not folder.exists() and cached_models() == []
    with pytest.raises(ValueError, match="'official restoration' is not in the cache; there is nothing"):
        free("official restoration")
