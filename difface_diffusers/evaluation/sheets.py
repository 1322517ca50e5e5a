"""Contact sheets: labelled grids of pictures to look at."""

from collections.abc import Mapping

import torch
from PIL import Image, ImageDraw, ImageFont

from .metrics import check_images


GAP = 4
BACKGROUND = (255, 255, 255)
INK = (0, 0, 0)


def sheet(columns: Mapping[str, torch.Tensor]) -> Image.Image:
    """Put batches of images side by side: one column a batch under its name, one row an image.

    Args:
        columns: The header of each column and its images, from left to right. Every tensor is RGB `[B,3,H,W]` in
            [0, 1], of the same shape; bfloat16, float16, float32 and float64 are all fine, on any device.

    Returns:
        An RGB picture. The pixels of the images are copied one to one, with a gap of `GAP` pixels around each.

    Raises:
        ValueError: No columns, an empty batch, columns of different shapes, or values outside [0, 1] or NaN.
        TypeError: A column is not a floating-point tensor.
    """
    if not columns:
        raise ValueError("`columns` is empty; a sheet needs at least one column")
    check_images(columns)
    batch, _, height, width = next(iter(columns.values())).shape
    # A long name in a narrow column is drawn smaller rather than over its neighbour.
    widest = max(ImageFont.load_default(size=100).getlength(name) for name in columns) / 100
    font_size = max(6.0, min(width / 7, 32.0, 0.95 * width / max(widest, 1e-6)))
    font = ImageFont.load_default(size=font_size)
    header = round(font_size * 1.5)

    picture = Image.new(
        "RGB",
        (GAP + len(columns) * (width + GAP), header + GAP + batch * (height + GAP)),
        BACKGROUND,
    )
    draw = ImageDraw.Draw(picture)
    for column, (name, images) in enumerate(columns.items()):
        left = GAP + column * (width + GAP)
        draw.text((left + width / 2, (header + GAP) / 2), name, fill=INK, font=font, anchor="mm")
        pixels = images.detach().float().mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()  # BHWC
        for row, image in enumerate(pixels):
            picture.paste(Image.fromarray(image), (left, header + GAP + row * (height + GAP)))
    return picture
