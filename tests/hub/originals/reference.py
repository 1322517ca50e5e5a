"""The recorded answers of the original DifFace modules, and the weights and images that they were recorded with.

`tests/goldens/*.json` hold an original configuration and the shapes of its checkpoint, `*.safetensors` the answers.
Neither weights nor inputs are stored: both are drawn with NumPy's PCG64, seeded by a name, and are the same anywhere.
"""

import json
import zlib
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open


GOLDENS = Path(__file__).parents[2] / "goldens"
NOT_DRAWN = ("relative_position_index", "attn_mask", "num_batches_tracked")


def load_manifest(name):
    """Return the original configuration and {original key: shape} recorded as `name`."""
    manifest = json.loads((GOLDENS / f"{name}.json").read_text())
    return manifest["config"], manifest["state_dict"]


def load_golden(name):
    """Return the tensors and the metadata (all strings) recorded as `name`."""
    with safe_open(GOLDENS / f"{name}.safetensors", "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata()


def stream(*parts):
    """Return the generator that belongs to a name."""
    return np.random.Generator(np.random.PCG64(zlib.crc32("/".join(["public", *map(str, parts)]).encode())))


def weight(key, shape, gain=1.0):
    """Return the float32 stand-in for an original tensor.

    Kernels and matrices have variance gain**2 / fan-in, scales and running variances lie around 1, all else around 0.
    """
    value = stream(key).standard_normal(shape, dtype=np.float32)
    if len(shape) > 1:
        value = value * np.float32(gain / np.sqrt(np.prod(shape[1:])))
    elif key.endswith("running_var"):
        value = np.abs(1 + 0.1 * value)
    else:
        value = 0.1 * value + (1 if key.endswith(".weight") else 0)
    return torch.from_numpy(np.asarray(value, dtype=np.float32))


def weights(shapes, gain=1.0):
    """Return an original checkpoint for `shapes`, without index buffers."""
    return {key: weight(key, shape, gain) for key, shape in shapes.items() if not key.endswith(NOT_DRAWN)}


def image(name, shape):
    """Return a smooth batch of `shape` [B,C,H,W] in [0,1]."""
    coarse = torch.from_numpy(stream("image", name).random((*shape[:2], 8, 8), dtype=np.float32))
    return F.interpolate(coarse, size=shape[2:], mode="bilinear", align_corners=False)


def noise(name, step, shape):
    """Return the Gaussian noise of a sampling step, counted from 0; step -1 is that of x_N."""
    return torch.from_numpy(stream("noise", name, step).standard_normal(shape, dtype=np.float32))


def estimator_case(name, manifest_name):
    """Return original weights, original configuration, input, answer and the answer's subsampling of an estimator."""
    config, shapes = load_manifest(manifest_name)
    tensors, metadata = load_golden(name)
    source = image(name, json.loads(metadata["shape"].replace("(", "[").replace(")", "]")))
    return weights(shapes), config, source, tensors["output"], int(metadata["subsample"])


def prior_case(name):
    """Return original weights, original configuration, input, the recorded tensors and their subsampling of a prior."""
    config, shapes = load_manifest(name)
    tensors, metadata = load_golden(name)
    shape = (len(tensors["timesteps"]), config["in_channels"], config["image_size"], config["image_size"])
    source = image(name, shape) * 2 - 1 + 0.5 * noise(name, -1, shape)
    return weights(shapes), config, source, tensors, int(metadata["subsample"])
