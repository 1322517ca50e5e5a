"""What the nodes ask for, in the form that ComfyUI reads."""

from typing import Any


InputTypes = dict[str, dict[str, tuple[Any, dict[str, Any]]]]

MODEL_TYPE = "DIFFACE_MODEL"
INPAINTING_MODEL_TYPE = "DIFFACE_INPAINTING_MODEL"
CATEGORY = "DifFace"

DTYPES = ["float32", "bfloat16", "float16"]
DEVICES = ["auto", "cpu", "cuda", "mps", "xpu"]
FACES = ["all", "largest", "center"]
BACKGROUNDS = [
    "bundled",
    "lanczos",
    "none",
    "realesr-general-x4v3",
    "realesr-general-wdn-x4v3",
    "realesrgan-x2plus",
    "realesrgan-x4plus",
]
LARGEST_SEED = 2**64 - 1

SEED = (
    "INT",
    {
        "default": 0,
        "min": 0,
        "max": LARGEST_SEED,
        "control_after_generate": True,
        "tooltip": "Of the noise. Every image of a batch starts from it, so that it comes out the same alone.",
    },
)


def model_input(kind: str) -> tuple[str, dict[str, Any]]:
    """Return the input for a loaded model of a type."""
    return kind, {"tooltip": "From a node that loads a DifFace model."}


def image_input(what: str) -> tuple[str, dict[str, Any]]:
    """Return the input for images; `what` says which."""
    return "IMAGE", {"tooltip": what}


def photo_inputs() -> dict[str, tuple[Any, dict[str, Any]]]:
    """Return the inputs of a node that restores photographs, all but the seed."""
    return {
        "model": model_input(MODEL_TYPE),
        "image": image_input("Photographs of any size, with any number of faces."),
        "faces": (FACES, {"default": "all", "tooltip": "Which of the faces that are found are restored."}),
        "upscale": (
            "FLOAT",
            {"default": 2.0, "min": 1.0, "max": 8.0, "step": 0.25, "tooltip": "Times the width and the height."},
        ),
        "background": (
            BACKGROUNDS,
            {
                "default": "bundled",
                "tooltip": "What enlarges the rest of the picture. Networks of Real-ESRGAN are fetched once.",
            },
        ),
        "blend": (
            "FLOAT",
            {
                "default": 1.0,
                "min": 0.0,
                "max": 1.0,
                "step": 0.05,
                "tooltip": "How much of the change to each face is put back.",
            },
        ),
        "keep_clean": (
            "BOOLEAN",
            {
                "default": True,
                "tooltip": "Clean faces stay as they are, others change as far as they are damaged."
                " Off: the whole restoration is put back. For models that know how damaged a face is.",
            },
        ),
    }
