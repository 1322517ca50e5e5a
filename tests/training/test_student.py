from types import SimpleNamespace

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, EulerDiscreteScheduler

from difface_diffusers import DifFacePipeline, DifFaceUNet2DModel, SRCNNEstimator
from difface_diffusers.cli.main import main
from difface_diffusers.models.estimator import diffuse
from difface_diffusers.pipelines.guidance import imply_noise
from difface_diffusers.training import StudentConfig, build_config, load_config, train_student
from difface_diffusers.training.student import StudentTask

from .tiny import DATA, LOOP, SRCNN, UNET, changed, write_faces, write_yaml


DEGRADED = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(4))
SETTINGS = {
    "default_num_inference_steps": 3,
    "default_start_timestep": 150,
    "default_eta": 0.0,
    "default_s_noise": 1.03,
}


@pytest.fixture
def teacher(tmp_path):
    torch.manual_seed(0)
    pipe = DifFacePipeline(
        DifFaceUNet2DModel(**UNET), SRCNNEstimator(**SRCNN), DPMSolverMultistepScheduler(), **SETTINGS
    )
    pipe.save_pretrained(tmp_path / "teacher")
    return tmp_path / "teacher"


def settings(teacher, **changes):
    return changed({"teacher": str(teacher), "model": UNET, "data": DATA, "loop": LOOP}, **changes)


def task(teacher, **changes):
    return StudentTask(build_config(StudentConfig, settings(teacher, **changes)))


def expected(pipe):
    """Return x_N of the global stream's noise, and the x_0 that the pipeline draws from it."""
    pipe.set_progress_bar_config(disable=True)
    estimates = pipe(DEGRADED, num_inference_steps=1, output_type="pt").estimates
    pipe.scheduler.set_timesteps(timesteps=[150])
    torch.manual_seed(5)
    latents = diffuse(estimates, pipe.scheduler, 150, s_noise=1.03)
    return latents, pipe(DEGRADED, latents=latents, output_type="latent").images


@pytest.mark.parametrize("scheduler", [DPMSolverMultistepScheduler, EulerDiscreteScheduler])
def test_the_teachers_answer_has_no_loss(teacher, scheduler):
    pipe = DifFacePipeline.from_pretrained(teacher)
    pipe.scheduler = scheduler.from_config(pipe.scheduler.config)
    pipe.save_pretrained(teacher)
    latents, target = expected(pipe)
    student, asked = task(teacher), []

    def model(sample, timestep):
        asked.append((sample, timestep))
        return SimpleNamespace(sample=imply_noise(student.teacher.scheduler, target, timestep, sample))

    torch.manual_seed(5)
    assert student.loss(model, {"degraded": DEGRADED}).item() == pytest.approx(0, abs=1e-5)
    ((sample, timestep),) = asked
    assert timestep.tolist() == len(DEGRADED) * [150]
    scaled = latents / (1 + pipe.scheduler.sigmas[0] ** 2).sqrt() if scheduler is EulerDiscreteScheduler else latents
    torch.testing.assert_close(sample, scaled)


def test_other_answers_cost_their_distance(teacher):
    _, target = expected(DifFacePipeline.from_pretrained(teacher))
    student = task(teacher)

    def model(sample, timestep):
        wrong = target.clamp(-0.5, 0.5) + 1.75  # beyond [-1,1], where a clamp would let no gradient through
        return SimpleNamespace(sample=imply_noise(student.teacher.scheduler, wrong, timestep, sample))

    torch.manual_seed(5)
    distance = (target.clamp(-0.5, 0.5) + 1.75 - target).abs().mean().item()
    assert student.loss(model, {"degraded": DEGRADED}).item() == pytest.approx(distance, rel=1e-4)


def test_faces_are_taught_from_the_teachers_starts(teacher):
    pipe = DifFacePipeline.from_pretrained(teacher)
    pipe.register_to_config(default_start_timestep="auto", noise_margin=100.0)
    pipe.save_pretrained(teacher)
    faces = torch.cat([DEGRADED, DEGRADED[:1] * 0.1])
    _, starts = pipe.prepare_estimates(faces, pipe.with_defaults())
    assert len(set(starts)) > 1
    student, generators = task(teacher), [torch.Generator().manual_seed(seed) for seed in range(len(faces))]
    batch, asked = {"degraded": faces}, []

    def model(sample, timestep):
        asked.append(timestep)
        return student.model(sample, timestep)

    losses = student.validate(model, batch, generators)["loss"]
    assert asked[0].tolist() == starts
    for face, seed, loss in zip(faces, range(len(faces)), losses, strict=True):
        alone = student.validate(student.model, {"degraded": face[None]}, [torch.Generator().manual_seed(seed)])
        torch.testing.assert_close(alone["loss"], loss[None], rtol=1e-4, atol=1e-6)


def test_only_the_student_learns(teacher):
    student = task(teacher)
    student.loss(student.model, {"degraded": DEGRADED}).backward()
    assert all(parameter.grad is not None for parameter in student.model.parameters())
    networks = (student.teacher.unet, student.teacher.estimator)
    assert all(parameter.grad is None for network in networks for parameter in network.parameters())


def test_a_sheet_shows_teacher_and_student(teacher):
    picture = task(teacher).sheet(task(teacher).model, {"degraded": DEGRADED, "clean": DEGRADED})
    assert picture.width == 4 * (16 + 4) + 4


def test_a_student_of_the_teachers_weights_begins_as_its_single_call(teacher):
    student = task(teacher, initial_weights=str(teacher / "unet"))
    pipe = DifFacePipeline.from_pretrained(teacher)
    latents, target = expected(pipe)
    single = pipe(DEGRADED, num_inference_steps=1, latents=latents, output_type="latent").images
    torch.manual_seed(5)
    loss = student.loss(student.model, {"degraded": DEGRADED}).item()
    assert loss == pytest.approx((single - target).abs().mean().item(), rel=1e-3)


def test_settings_that_cannot_work_are_refused(teacher, tmp_path):
    with pytest.raises(ValueError, match=r"`data\.image_size` is 32; it must be the size of `teacher`, \(16, 16\)"):
        task(teacher, data={"image_size": 32})
    with pytest.raises(ValueError, match=r"`teacher` is '.*nowhere': there is no such folder"):
        task(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="`teacher` is missing; it has no default"):
        build_config(StudentConfig, {"model": UNET})
    pipe = DifFacePipeline.from_pretrained(teacher)
    pipe.register_to_config(default_eta=0.5)
    pipe.save_pretrained(teacher)
    with pytest.raises(ValueError, match=r"`teacher` draws fresh noise \(`default_eta` 0\.5\)"):
        task(teacher)


def test_a_student_may_work_on_patches(teacher):
    student = task(teacher, model={"patch_size": 2})
    student.loss(student.model, {"degraded": DEGRADED}).backward()
    assert student.model.conv_in.weight.shape[1] == 12
    assert all(
        parameter.grad.abs().max() > 0 for parameter in (student.model.conv_in.weight, student.model.conv_out.bias)
    )


def test_a_training_ends_with_a_loadable_student(teacher, tmp_path):
    faces = write_faces(tmp_path / "faces")
    config = write_yaml(tmp_path / "student.yaml", settings(teacher, loop={"max_steps": 2, "sheet_every": 2}))
    arguments = ["--config", str(config), "--data", str(faces), "--output", str(tmp_path / "run")]
    assert main(["train", "student", *arguments]) == 0
    student = DifFaceUNet2DModel.from_pretrained(tmp_path / "run" / "student")
    assert (tmp_path / "run" / "sheets" / "00000002.png").is_file()
    assert load_config(StudentConfig, tmp_path / "run" / "config.yaml") == load_config(StudentConfig, config)

    train_student(load_config(StudentConfig, config), faces, tmp_path / "again")
    again = DifFaceUNet2DModel.from_pretrained(tmp_path / "again" / "student")
    assert all(first.equal(second) for first, second in zip(student.parameters(), again.parameters(), strict=True))
