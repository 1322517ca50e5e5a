import copy

import diffusers
import pytest
import torch
from diffusers import (
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)

from difface_diffusers.pipelines.guidance import guided_step, imply_noise, predict_clean
from difface_diffusers.pipelines.schedule import plan

from ..conftest import ddim


def schedule(scheduler, steps, start):
    result = plan(scheduler, steps, start)
    return result.timesteps.tolist(), result.noise_timestep


class TestDdim:
    def test_the_original_restoration(self):
        assert schedule(ddim(), 100, 400) == (list(range(396, -1, -4)), 400)

    def test_the_original_inpainting(self):
        assert schedule(ddim(), 120, 480) == (list(range(476, -1, -4)), 480)

    def test_few_steps(self):
        assert schedule(ddim(), 20, 400) == (list(range(380, -1, -20)), 400)
        assert schedule(ddim(), 1, 400) == ([400], 400)

    def test_every_timestep(self):
        assert schedule(ddim(), 40, 40) == (list(range(39, -1, -1)), 40)
        assert schedule(DDPMScheduler(), 40, 40) == (list(range(39, -1, -1)), 40)

    def test_from_the_very_top(self):
        assert schedule(ddim(), 250, 1000) == (list(range(996, -1, -4)), 999)

    def test_the_scale_is_the_schedulers_own(self):
        assert schedule(ddim(num_train_timesteps=500), 50, 200) == (list(range(196, -1, -4)), 200)


class TestOthers:
    def test_x_n_is_taken_where_the_first_call_is(self):
        for scheduler_class in (UniPCMultistepScheduler, EulerAncestralDiscreteScheduler):
            timesteps, noise_timestep = schedule(scheduler_class.from_config(ddim().config), 10, 400)
            assert noise_timestep == timesteps[0] == pytest.approx(380, abs=20)
            assert len(timesteps) == 10

    def test_the_scheduler_that_was_given_stays_as_it_is(self):
        scheduler = EulerAncestralDiscreteScheduler.from_config(ddim().config)
        before = copy.deepcopy(scheduler.__dict__)
        planned = plan(scheduler, 10, 400).scheduler
        assert planned is not scheduler and planned.begin_index == 0
        assert str(before) == str(scheduler.__dict__)

    @pytest.mark.parametrize("steps, calls", [(9, 9), (10, 9), (3, 3), (4, 3)])
    def test_two_calls_a_step(self, steps, calls):
        timesteps, noise_timestep = schedule(HeunDiscreteScheduler.from_config(ddim().config), steps, 400)
        assert len(timesteps) == calls
        assert timesteps[-1] == 0 and noise_timestep == timesteps[0]
        assert timesteps[1::2] == timesteps[2::2]

    @pytest.mark.parametrize("scheduler_class", [HeunDiscreteScheduler, EulerAncestralDiscreteScheduler])
    def test_the_only_step_begins_at_the_start(self, scheduler_class):
        assert schedule(scheduler_class.from_config(ddim().config), 1, 400) == ([400], 400)


class TestSpacedOut:
    @pytest.mark.parametrize("scheduler_class", [DPMSolverMultistepScheduler, EulerDiscreteScheduler])
    def test_from_the_start_to_zero_the_finer_the_cleaner(self, scheduler_class):
        scheduler = scheduler_class.from_config(ddim().config)
        assert schedule(scheduler, 6, 150) == ([150, 96, 54, 24, 6, 0], 150)
        assert schedule(scheduler, 1, 400) == ([400], 400)

    def test_neighbors_do_not_fall_together(self):
        scheduler = DPMSolverMultistepScheduler.from_config(ddim().config)
        assert schedule(scheduler, 9, 16)[0] == [16, 12, 9, 6, 4, 3, 2, 1, 0]
        assert schedule(scheduler, 40, 40)[0] == [40, *range(38, -1, -1)]
        assert schedule(scheduler, 1000, 1000)[0] == list(range(999, -1, -1))

    def test_a_spacing_that_was_chosen_is_kept(self):
        plain, karras = (
            DPMSolverMultistepScheduler.from_config(ddim().config, use_karras_sigmas=flag) for flag in (False, True)
        )
        timesteps, noise_timestep = schedule(karras, 6, 400)
        assert len(timesteps) == 6 and noise_timestep == timesteps[0]
        assert timesteps != schedule(plain, 6, 400)[0]

    def test_the_walk_ends_at_the_clean_face(self):
        """With the exact noise, every state of the chain is the clean face, noised."""
        generator = torch.Generator().manual_seed(0)
        clean, noise = (
            torch.rand(1, 3, 4, 4, generator=generator) * 2 - 1,
            torch.randn(1, 3, 4, 4, generator=generator),
        )
        for scheduler_class in (DPMSolverMultistepScheduler, EulerDiscreteScheduler):
            scheduler = scheduler_class.from_config(ddim().config)
            steps = plan(scheduler, 5, 150)
            scheduler = steps.scheduler
            sample = scheduler.add_noise(clean, noise, torch.tensor([steps.own_noise_timestep]))
            for timestep in steps.own_timesteps:
                scaled = scheduler.scale_model_input(sample, timestep)
                sample = scheduler.step(imply_noise(scheduler, clean, timestep, scaled), timestep, sample).prev_sample
            torch.testing.assert_close(sample, clean, rtol=0, atol=1e-3)


class TestPndm:
    def test_multistep_repeats_the_second_timestep(self):
        scheduler = PNDMScheduler.from_config(ddim().config, skip_prk_steps=True)
        assert schedule(scheduler, 5, 400) == ([300, 200, 200, 100, 0], 300)
        assert schedule(scheduler, 1, 400)[0] == [400]

    def test_runge_kutta_calls_four_times_in_three_steps(self):
        scheduler = PNDMScheduler.from_config(ddim().config)
        timesteps, noise_timestep = schedule(scheduler, 17, 400)
        warm_up = [350, 325, 325, 300, 300, 275, 275, 250, 250, 225, 225, 200]
        assert timesteps == [*warm_up, 200, 150, 100, 50, 0]
        assert noise_timestep == 350

    def test_is_the_schedulers_own_list_from_the_top(self):
        for skip in (True, False):
            scheduler = PNDMScheduler.from_config(ddim().config, skip_prk_steps=skip)
            timesteps, _ = schedule(scheduler, 20 + (1 if skip else 9), 1000)
            scheduler.set_timesteps(20)
            assert timesteps == scheduler.timesteps.tolist()

    def test_too_few_steps_for_runge_kutta(self):
        with pytest.raises(ValueError, match=r"`num_inference_steps` is 12; .* skip_prk_steps=True"):
            schedule(PNDMScheduler.from_config(ddim().config), 12, 400)


def test_predict_clean_inverts_the_noising():
    scheduler = ddim()
    clean, noise = torch.rand(1, 3, 4, 4) * 2 - 1, torch.randn(1, 3, 4, 4)
    timestep = torch.tensor(300)
    noisy = scheduler.add_noise(clean, noise, timestep)
    torch.testing.assert_close(predict_clean(scheduler, noise, timestep, noisy), clean, atol=1e-5, rtol=0)
    assert predict_clean(scheduler, noise + 5, timestep, noisy).abs().max() == 1


class TestGuidance:
    @pytest.fixture
    def state(self):
        generator = torch.Generator().manual_seed(0)
        return torch.randn(2, 2, 3, 4, 4, generator=generator)

    def test_implied_noise_is_the_inverse_of_the_predicted_face(self, state):
        sample, clean = state[0], state[1].clamp(-1, 1)
        scheduler, timestep = ddim(), torch.tensor(300)
        epsilon = imply_noise(scheduler, clean, timestep, sample)
        torch.testing.assert_close(predict_clean(scheduler, epsilon, timestep, sample), clean, rtol=0, atol=1e-5)

    @pytest.mark.parametrize(
        "name", ["DDIMScheduler", "DDPMScheduler", "EulerDiscreteScheduler", "UniPCMultistepScheduler"]
    )
    def test_a_guide_that_changes_nothing_leaves_the_step_alone(self, state, name):
        steps = []
        for guided in (True, False):
            scheduler = getattr(diffusers, name).from_config(ddim().config)
            planned = plan(scheduler, 5, 100)
            scheduler, timestep = planned.scheduler, planned.own_timesteps[0]
            sample = state[0] * getattr(scheduler, "init_noise_sigma", 1)
            epsilon = imply_noise(
                scheduler, state[1].clamp(-0.9, 0.9), timestep, scheduler.scale_model_input(sample, timestep)
            )
            noise = (
                {"generator": torch.Generator().manual_seed(1)} if name in ("DDIMScheduler", "DDPMScheduler") else {}
            )
            if guided:
                steps.append(guided_step(scheduler, epsilon, timestep, sample, lambda clean: clean, **noise))
            else:
                steps.append(scheduler.step(epsilon, timestep, sample, **noise).prev_sample)
        torch.testing.assert_close(*steps, rtol=0, atol=1e-4)

    def test_ddim_keeps_the_predicted_noise(self, state):
        planned = plan(ddim(), 100, 400)
        scheduler, timestep = planned.scheduler, planned.own_timesteps[0]
        sample, target = state[0], torch.full_like(state[0], 0.25)
        epsilon = imply_noise(scheduler, state[1].clamp(-0.9, 0.9), timestep, sample)
        result = guided_step(scheduler, epsilon, timestep, sample, lambda clean: target, eta=0.0)
        alpha = ddim().alphas_cumprod[planned.timesteps[1]]
        torch.testing.assert_close(result, alpha.sqrt() * target + (1 - alpha).sqrt() * epsilon, rtol=0, atol=1e-5)

    def test_the_variance_goes_along(self, state):
        scheduler = diffusers.DDPMScheduler.from_config(ddim().config, variance_type="learned_range")
        results = []
        for value in (-1.0, 1.0):
            planned = plan(scheduler, 20, 20)
            output = torch.cat([state[1], torch.full_like(state[1], value)], dim=1)
            noise = torch.Generator().manual_seed(0)
            timestep = planned.own_timesteps[0]
            results.append(
                guided_step(planned.scheduler, output, timestep, state[0], torch.zeros_like, generator=noise)
            )
        assert not torch.equal(*results)
