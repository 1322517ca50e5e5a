"""What a file of a photograph holds."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Metadata:
    """What belongs to a photograph besides its pixels, each None where there is none.

    Attributes:
        exif: from the TIFF header (`II*` or `MM*`) on; upright, without thumbnail and without the size of the picture.
        icc_profile: the colors of RGB pixels, or the tones of gray ones; without it they are sRGB.
        xmp: the packet, upright too.
        dpi: pixels per inch, across and down.
    """

    exif: bytes | None = None
    icc_profile: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None


@dataclass(frozen=True)
class PhotoFile:
    """What a file of a photograph holds.

    Attributes:
        pixels: uint8 or uint16, upright: gray `[H,W]`, gray with alpha `[H,W,2]`, RGB `[H,W,3]` or RGBA `[H,W,4]`. Alpha
            is straight: colors are not multiplied by it.
        metadata: the rest.
    """

    pixels: np.ndarray
    metadata: Metadata
