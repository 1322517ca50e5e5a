import math
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator

from difface_diffusers.degradation.blind import DegradationRanges
from difface_diffusers.training import EstimatorConfig, PriorConfig, StudentConfig, build_config, validation
from difface_diffusers.training.config import DataConfig
from difface_diffusers.training.data import FaceDataset
from difface_diffusers.training.estimator import EstimatorTask, InpaintingTask
from difface_diffusers.training.prior import PriorTask
from difface_diffusers.training.student import StudentTask
from difface_diffusers.training.validation import HeldOutFaces, validate

from .test_estimator import LAMA_CONFIG
from .test_student import settings, teacher  # noqa: F401  a fixture
from .tiny import ESTIMATOR, PRIOR, changed, write_faces


BATCH = {
    "clean": torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1)),
    "degraded": torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(2)),
    "pixel_size": torch.ones(3, dtype=torch.int64),
}


FACE_BYTES = 2 * 3 * 16**2 * 4 + 8  # of a pair and the side of its pixels


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def decibels(first, second):
    return -10 * math.log10((first - second).square().mean().item())


def prior(**changes):
    torch.manual_seed(0)
    return PriorTask(build_config(PriorConfig, changed(PRIOR, **changes)))


# What the tasks measure


def test_an_estimator_is_judged_by_the_errors_of_input_and_estimate():
    task = EstimatorTask(build_config(EstimatorConfig, ESTIMATOR))
    figures = task.validate(lambda degraded: degraded * 3 - 1, BATCH, generators(0, 1, 2))
    assert list(figures) == ["loss", "psnr", "ssim", "input_psnr", "input_ssim"]
    for face, (clean, degraded) in enumerate(zip(BATCH["clean"], BATCH["degraded"], strict=True)):
        answer = degraded * 3 - 1
        assert figures["loss"][face].item() == pytest.approx((answer - clean).abs().mean().item(), rel=1e-5)
        assert figures["psnr"][face].item() == pytest.approx(decibels(answer.clamp(0, 1), clean), rel=1e-5)
        assert figures["input_psnr"][face].item() == pytest.approx(decibels(degraded, clean), rel=1e-5)
    assert not figures["ssim"].equal(figures["input_ssim"])


def test_an_inpainting_estimator_is_judged_by_its_own_loss():
    torch.manual_seed(0)
    task = InpaintingTask(build_config(EstimatorConfig, LAMA_CONFIG))
    mask = (torch.rand(3, 1, 16, 16) < 0.3).float()
    batch = BATCH | {"degraded": BATCH["clean"] * (1 - mask), "mask": mask}
    figures = task.validate(task.model.eval(), batch, generators(0, 1, 2))
    for face in range(3):
        alone = {name: images[[face]] for name, images in batch.items()}
        assert figures["loss"][face].item() == pytest.approx(task.loss(task.model, alone).item(), rel=1e-4)


@pytest.mark.parametrize("out_channels", [3, 6])
def test_a_prior_is_judged_at_fixed_timesteps_of_the_range_that_is_visited(out_channels):
    task = prior(focus_timestep=300, model={"out_channels": out_channels})
    asked = []

    def model(sample, timestep):
        asked.append((sample, timestep))
        return task.model(sample, timestep)

    with torch.no_grad():
        figures = task.validate(model, BATCH, generators(5, 6, 7))
        again = task.validate(task.model, {name: values[1:] for name, values in BATCH.items()}, generators(6, 7))
    assert list(figures) == ["loss", "loss_0_100", "loss_100_200", "loss_200_300"]
    for part, (_, timesteps) in enumerate(asked):
        assert len(set(timesteps.tolist())) > 1
        assert all(100 * part <= timestep < 100 * (part + 1) for timestep in timesteps)
    parts = torch.stack([figures[name] for name in list(figures)[1:]])
    torch.testing.assert_close(figures["loss"], parts.mean(0))
    for name in figures:  # a face's figures are its own, whoever is beside it
        torch.testing.assert_close(figures[name][1:], again[name], rtol=1e-4, atol=1e-5)


def test_a_prior_that_knows_the_noise_has_no_loss():
    task = prior()

    def model(sample, timesteps):
        scale = task.scheduler.alphas_cumprod[timesteps][:, None, None, None]
        clean = BATCH["clean"] * 2 - 1
        return SimpleNamespace(sample=(sample - scale.sqrt() * clean) / (1 - scale).sqrt())

    assert all(losses.max() < 1e-6 for losses in task.validate(model, BATCH, generators(0, 1, 2)).values())


def test_a_prior_of_few_timesteps_is_judged_on_all():
    figures = prior(scheduler={"num_train_timesteps": 30}).validate(
        lambda sample, timesteps: SimpleNamespace(sample=sample), BATCH, generators(0, 1, 2)
    )
    assert list(figures)[1:] == ["loss_0_10", "loss_10_20", "loss_20_30"]


def test_a_student_is_judged_by_its_distance_from_the_teacher(teacher):  # noqa: F811
    task = StudentTask(build_config(StudentConfig, settings(teacher)))
    figures = task.validate(task.model, BATCH, generators(3, 4, 5))
    again = task.validate(task.model, BATCH, generators(3, 9, 5))
    assert list(figures) == ["loss"] and figures["loss"].shape == (3,)
    assert figures["loss"].min() > 0.01
    assert figures["loss"][[0, 2]].equal(again["loss"][[0, 2]]) and figures["loss"][1] != again["loss"][1]


# Validation


@pytest.fixture
def faces(tmp_path):
    config = DataConfig(image_size=16, group_pattern="^[a-d]_")
    return FaceDataset(write_faces(tmp_path / "faces"), config, 3, DegradationRanges()).held_out(tmp_path / "faces")


class Recording:
    """A task that remembers the faces it was shown, and answers with a function of each face and its noise."""

    model = None

    def __init__(self):
        self.shown = []

    def validate(self, model, batch, generators):
        noise = torch.cat([torch.rand(1, generator=generator) for generator in generators])
        self.shown.append(batch["degraded"])
        return {"loss": batch["degraded"].mean((1, 2, 3)), "noise": noise}


def loop(batch_size=3, num_workers=0):
    return SimpleNamespace(batch_size=batch_size, num_workers=num_workers)


def test_every_face_counts_once_and_alike(faces):
    task = Recording()
    figures = validate(task, HeldOutFaces(faces, loop(), Accelerator()))
    assert [len(batch) for batch in task.shown] == [3, 3, 1]
    items = torch.stack([faces[position]["degraded"] for position in range(7)])
    assert torch.cat(task.shown).equal(items)
    assert figures["loss"] == pytest.approx(items.mean().item(), rel=1e-6)


@pytest.mark.parametrize(("batch_size", "num_workers"), [(1, 0), (2, 1), (20, 0)])
def test_neither_batches_nor_workers_matter(faces, batch_size, num_workers):
    expected = validate(Recording(), HeldOutFaces(faces, loop(), Accelerator()))
    torch.rand(3)
    assert validate(Recording(), HeldOutFaces(faces, loop(batch_size, num_workers), Accelerator())) == pytest.approx(
        expected
    )


@pytest.mark.parametrize("processes", [2, 9])
def test_processes_share_the_faces(faces, monkeypatch, processes):
    expected = validate(Recording(), HeldOutFaces(faces, loop(), Accelerator()))
    gathered, shares = [], []
    monkeypatch.setattr(validation, "gather_object", lambda rows: gathered.extend(rows) or gathered)
    for process in range(processes):
        task = Recording()
        accelerator = SimpleNamespace(process_index=process, num_processes=processes, device="cpu")
        figures = validate(task, HeldOutFaces(faces, loop(), accelerator))
        shares.append(sum(map(len, task.shown)))
    assert figures == expected
    assert sum(shares) == 7 and max(shares) - min(shares) <= 1


@pytest.mark.parametrize(("memory", "reads"), [(None, 2), (16 * 7 * FACE_BYTES - 1, 2), (16 * 9 * FACE_BYTES, 1)])
def test_faces_stay_on_a_gpu_where_they_fit(faces, monkeypatch, memory, reads):
    loads, load = [], validation.load_batches
    monkeypatch.setattr(validation, "load_batches", lambda *arguments: loads.append(None) or load(*arguments))
    if memory is not None:
        monkeypatch.setattr(validation, "to_device", lambda batch, device: batch)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=memory))
    device = "cpu" if memory is None else "cuda"
    held_out = HeldOutFaces(faces, loop(), SimpleNamespace(process_index=0, num_processes=1, device=device))
    first, again = Recording(), Recording()
    assert validate(first, held_out) == validate(again, held_out)
    assert torch.cat(first.shown).equal(torch.cat(again.shown)) and len(loads) == reads


def test_held_out_faces_are_unchanged_and_degraded_whatever_the_seed(tmp_path, faces):
    folder = tmp_path / "faces"
    other = FaceDataset(folder, DataConfig(image_size=16, horizontal_flip=True), 8, DegradationRanges()).held_out(
        folder
    )
    plain = FaceDataset(folder, DataConfig(image_size=16, horizontal_flip=False), 0)
    for position in range(7):
        assert faces[position]["degraded"].equal(other[position]["degraded"])
        assert faces[position]["clean"].equal(plain[position]["clean"])
    assert "mask" in FaceDataset(folder, DataConfig(image_size=16), 0, holes=True).held_out(folder)[0]


def test_missing_faces_are_refused(tmp_path, faces):
    with pytest.raises(ValueError, match=r"`monitoring\.validation`: .*nowhere: there is no such file"):
        faces.held_out(tmp_path / "nowhere")
