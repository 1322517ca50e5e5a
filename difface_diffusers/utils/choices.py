"""What people choose from and what they get unless they do, apart from the modules that take long to import."""

SCHEDULERS = {  # that people choose by a short name
    "ddim": "DDIMScheduler",
    "ddpm": "DDPMScheduler",
    "dpm-multistep": "DPMSolverMultistepScheduler",
    "dpm-singlestep": "DPMSolverSinglestepScheduler",
    "unipc": "UniPCMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler-ancestral": "EulerAncestralDiscreteScheduler",
    "heun": "HeunDiscreteScheduler",
    "lms": "LMSDiscreteScheduler",
    "deis": "DEISMultistepScheduler",
    "pndm": "PNDMScheduler",
}

MIN_FACE_SIZE = 16  # pixels; in narrower faces there is nothing to go by

FORMATS = {  # of pictures that are written, by suffix
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
}
