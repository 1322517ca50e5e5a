"""The Space: the demo of `difface_diffusers.demo`, with the models that the Space's variables name."""

import os

import gradio as gr
import spaces  # noqa: F401  before anything that may touch a GPU

import difface_diffusers.demo


def build_demo() -> gr.Blocks:
    """Build the demo of `DIFFACE_MODEL` and `DIFFACE_INPAINT_MODEL`, the bundled models where they are not set."""
    models = difface_diffusers.demo.load_models(
        os.environ.get("DIFFACE_MODEL"), os.environ.get("DIFFACE_INPAINT_MODEL")
    )
    return difface_diffusers.demo.build_demo(*models)


if __name__ == "__main__":
    difface_diffusers.demo.launch(build_demo())
