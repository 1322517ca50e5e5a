"""Contact sheets: labeled grids of pictures to look at."""

import math
from collections.abc import Mapping

import torch
from PIL import Image, ImageDraw, ImageFont

from .tensors import check_images


GAP = 4
BLOCK_GAP = 2 * GAP  # on top of the blocks' own gaps
BACKGROUND = (255, 255, 255)
INK = (0, 0, 0)


def image_grid(columns: Mapping[str, torch.Tensor], blocks: int = 1) -> Image.Image:
    """Put batches of images side by side: one column a batch under its name, one row an image.

    Args:
        columns: The header of each column and its images, from left to right. Every tensor is RGB `[B,3,H,W]` in
            [0, 1], of the same shape; bfloat16, float16, float32 and float64 are all fine, on any device.
        blocks: Into how many equal blocks, side by side, the rows are cut; keeps a long sheet readable.

    Returns:
        An RGB picture. The pixels of the images are copied one to one, with a gap of `GAP` pixels around each and of
        four times as much between blocks.

    Raises:
        ValueError: No columns, an empty batch, columns of different shapes, values outside [0, 1] or NaN, or fewer
            than one block.
        TypeError: A column is not a floating-point tensor.
    """
    if not columns:
        raise ValueError("`columns` is empty; a grid needs at least one column")
    if blocks < 1:
        raise ValueError(f"`blocks` must be at least 1, got {blocks}")
    check_images(columns)
    batch, _, height, width = next(iter(columns.values())).shape
    # A long name in a narrow column is drawn smaller rather than over its neighbor.
    widest = max(ImageFont.load_default(size=100).getlength(name) for name in columns) / 100
    font_size = max(6.0, min(width / 7, 32.0, 0.95 * width / max(widest, 1e-6)))
    font = ImageFont.load_default(size=font_size)
    header = round(font_size * 1.5)

    rows = math.ceil(batch / blocks)
    block_width = len(columns) * (width + GAP) + GAP
    picture = Image.new(
        "RGB",
        (blocks * block_width + (blocks - 1) * BLOCK_GAP, header + GAP + rows * (height + GAP)),
        BACKGROUND,
    )
    draw = ImageDraw.Draw(picture)
    for column, (name, images) in enumerate(columns.items()):
        pixels = images.detach().float().mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()  # BHWC
        for block in range(blocks):
            left = GAP + block * (block_width + BLOCK_GAP) + column * (width + GAP)
            draw.text((left + width / 2, (header + GAP) / 2), name, fill=INK, font=font, anchor="mm")
            for row, image in enumerate(pixels[block * rows : (block + 1) * rows]):
                picture.paste(Image.fromarray(image), (left, header + GAP + row * (height + GAP)))
    return picture
