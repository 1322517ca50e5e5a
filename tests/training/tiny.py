"""Faces of a few pixels, and configs of models with a few thousand weights."""

import copy

import numpy as np
import yaml
from PIL import Image


UNET = {
    "sample_size": 16,
    "block_out_channels": [4, 8],
    "layers_per_block": 1,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    "attention_head_dim": 4,
    "norm_num_groups": 2,
}
SWINIR = {"embed_dim": 8, "depths": [2], "num_heads": [2], "scale": 2, "window_size": 4, "num_feat": 8}
SRCNN = {"down_scale_factor": 2, "num_channels": 8, "depth": 2}
DATA = {"image_size": 16}
LOOP = {"max_steps": 6, "batch_size": 2, "warmup_steps": 1, "learning_rate": 1e-3, "log_every": 1}
LOOP |= {"mixed_precision": "no"}  # on every processor
PRIOR = {"model": UNET, "data": DATA, "loop": LOOP}
ESTIMATOR = {"architecture": "srcnn", "model": SRCNN, "data": DATA, "loop": LOOP}


def changed(values, **changes):
    """Return a copy of a nested config with some of its values changed, sections key by key."""
    values = copy.deepcopy(values)
    for name, value in changes.items():
        values[name] = values.get(name, {}) | value if isinstance(value, dict) else value
    return values


def write_yaml(path, values):
    path.write_text(yaml.safe_dump(values))
    return path


def face(seed, height=32, width=32):
    """A smooth face-like picture `[H,W,3]`, uint8: no two pixels, channels or orientations are alike."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    slopes = rng.uniform(40, 90, (3, 2))
    pixels = np.stack([30 + 40 * channel + a * x + b * y for channel, (a, b) in enumerate(slopes)], axis=-1)
    for center in ((0.3, 0.4), (0.7, 0.35), (0.45, 0.75)):
        spot = np.exp(-((x - center[0]) ** 2 + (y - center[1]) ** 2) / 0.01)
        pixels += spot[..., None] * rng.uniform(-60, 60, 3)
    return pixels.clip(0, 255).astype(np.uint8)


def write_faces(
    folder, names=("a_0.png", "a_1.png", "a_2.png", "b_0.png", "b_1.jpg", "c_0.png", "sub/d_0.png"), seed=0
):
    """Write one face per name, of the seeds from `seed` on; return the folder."""
    for number, name in enumerate(names, start=seed):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(face(number)).save(path)
    return folder
