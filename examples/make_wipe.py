"""Draw a part of a photograph as an animation: a line sweeps over it, before on its right and after on its left.

    python -m examples.make_wipe PHOTO --box LEFT TOP RIGHT BOTTOM --output WIPE.gif [--model FOLDER]

The box is in pixels of PHOTO.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.models import add_model_option, load_pipeline
from difface_diffusers import DifFacePipeline
from difface_diffusers.imaging.files import load_image

from .make_contact_sheet import restore


UPSCALE = 4  # so that faces are large enough to be looked at
STEPS = 24  # of the line, from one edge to the other
STEP_TIME, REST_TIME = 60, 1500  # of a frame and at the edges, ms
LINE = 3  # width, pixels


def frames(before: np.ndarray, after: np.ndarray) -> Iterator[Image.Image]:
    """Yield the pictures of a sweep there and back of two of `[H,W,3]`, uint8."""
    width = before.shape[1]
    there = [round(width * step / STEPS) for step in range(STEPS + 1)]
    for edge in (*there, *there[-2:0:-1]):
        frame = np.concatenate([after[:, :edge], before[:, edge:]], axis=1)
        if 0 < edge < width:
            frame[:, edge - LINE // 2 : edge + LINE // 2 + 1] = 255
        yield Image.fromarray(frame)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the animation."""
    parser = argparse.ArgumentParser(description="Draw a line that sweeps over a photograph and restores it.")
    parser.add_argument("photo", type=Path, help="a photograph with faces")
    parser.add_argument("--box", type=int, nargs=4, required=True, metavar=("LEFT", "TOP", "RIGHT", "BOTTOM"))
    parser.add_argument("--output", type=Path, required=True, help="the GIF to write")
    add_model_option(parser)
    args = parser.parse_args(argv)
    photo = load_image(args.photo)
    before, after = restore(load_pipeline(args.model, DifFacePipeline), photo, UPSCALE)
    box = [edge * before.width // photo.width for edge in args.box]
    first, *others = frames(*(np.asarray(picture.convert("RGB").crop(box)) for picture in (before, after.image)))
    times = [STEP_TIME] * (2 * STEPS)
    times[0] = times[STEPS] = REST_TIME
    first.save(args.output, save_all=True, append_images=others, duration=times, loop=0)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
