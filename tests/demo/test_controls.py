import gradio as gr
import torch

from benchmarks.reports import saved_defaults
from difface_diffusers import DifFacePipeline
from difface_diffusers.demo.controls import SEEDS, Settings, add_controls, next_seed


def test_they_begin_at_the_defaults_of_the_model(restorer):
    with gr.Blocks():
        controls = add_controls(restorer)
    assert Settings(*(component.value for component in controls.settings)) == Settings(200, 0.5, 1.0, 4, "", 0)


def test_a_preset_moves_them(restorer):
    presets = {"plain": {}, "fast": {"num_inference_steps": 2, "s_noise": 1.05, "scheduler": "unipc"}}
    pipe = DifFacePipeline(**restorer.components, **saved_defaults(restorer) | {"presets": presets})
    with gr.Blocks() as demo:
        controls = add_controls(pipe)
    (event,) = demo.fns.values()
    assert event.outputs == controls.settings[:5]
    assert event.fn(0) == (200, 0.5, 1.0, 4, "") and event.fn(1) == (200, 0.5, 1.05, 2, "unipc")
    (preset,) = event.inputs
    assert preset.choices == [("plain: 4 steps", "plain: 4 steps"), ("fast: 2 steps", "fast: 2 steps")]


def test_a_model_that_tells_damage_finds_the_start_itself(restorer, faces):
    settings = saved_defaults(restorer) | {"default_start_timestep": "auto", "noise_margin": 1.0}
    pipe = DifFacePipeline(**restorer.components, **settings, presets={"firm": {"start_timestep": 200}, "plain": {}})
    with gr.Blocks() as demo:
        controls = add_controls(pipe)
    assert (controls.start.minimum, controls.start.value) == (0, 0)
    (event,) = demo.fns.values()
    assert event.fn(0)[0] == 200 and event.fn(1)[0] == 0
    by_damage = Settings(0, 0.5, 1.0, 4, "", 0)
    assert by_damage.sampling["start_timestep"] == "auto"
    assert len(pipe(faces, **by_damage.sampling).images) == 2
    with gr.Blocks():
        assert add_controls(restorer).start.minimum == 1


def test_without_presets_none_are_offered(restorer):
    with gr.Blocks() as demo:
        add_controls(restorer)
    (event,) = demo.fns.values()
    assert not event.inputs[0].visible


def test_what_they_say_is_what_the_pipeline_takes(restorer, faces):
    settings = Settings(300, 0.2, 1.1, 5.0, "ddpm", 7.0)
    sampling = {"num_inference_steps": 5, "start_timestep": 300, "eta": 0.2, "s_noise": 1.1, "scheduler": "ddpm"}
    assert settings.sampling == sampling
    assert settings.generator.initial_seed() == 7
    restorer(faces, **settings.sampling, generator=settings.generator)
    assert restorer.num_timesteps == 5
    assert Settings(300, 0.2, 1.1, 5.0, "", 7.0).sampling["scheduler"] is None


def test_seeds():
    assert next_seed(5.0, randomize=False) == 5
    drawn = {next_seed(5, randomize=True) for _ in range(10)}
    assert len(drawn) == 10 and all(0 <= seed < SEEDS for seed in drawn)
    torch.Generator().manual_seed(SEEDS - 1)
