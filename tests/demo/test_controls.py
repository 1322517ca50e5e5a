import gradio as gr
import torch

from difface_diffusers.demo.controls import SEEDS, Settings, add_controls, next_seed


def test_they_begin_at_the_defaults_of_the_model(restorer):
    with gr.Blocks():
        controls = add_controls(restorer)
    assert Settings(*(component.value for component in controls.settings)) == Settings(200, 0.5, 4, "", 0)


def test_what_they_say_is_what_the_pipeline_takes(restorer, faces):
    settings = Settings(300, 0.2, 5.0, "ddpm", 7.0)
    assert settings.sampling == {"num_inference_steps": 5, "start_timestep": 300, "eta": 0.2}
    assert settings.generator.initial_seed() == 7
    pipe = settings.pipe(restorer)
    pipe(faces, **settings.sampling, generator=settings.generator)
    assert pipe.num_timesteps == 5 and type(pipe.scheduler).__name__ == "DDPMScheduler"


def test_seeds():
    assert next_seed(5.0, randomise=False) == 5
    drawn = {next_seed(5, randomise=True) for _ in range(10)}
    assert len(drawn) == 10 and all(0 <= seed < SEEDS for seed in drawn)
    torch.Generator().manual_seed(SEEDS - 1)
