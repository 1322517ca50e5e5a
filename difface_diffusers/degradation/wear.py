"""The wear of real photographs, which goes beside the paper's degradation: what one face gets of `damages`, and in which order.

In the order of a photograph's life:

1. Camera, always before the paper's chain, whose blur, shrinking and JPEG fall upon what it left: defocus, motion, exposure,
   color noise.
2. Print and copy: film grain, fading, creases, scratches, dust, and a thumbnail that was enlarged. On one face in three they
   come before the chain: a bad scan of a worn print, on which they are as soft as the face. On the others they come after it: a
   good scan of a print that never was sharp, on which they are sharper than the face.
3. Life as a file, always after the chain, as its artifacts are what is sharpened and saved again: sharpening, then JPEGs.

Exposure, fading and the ink of a monochrome print are the photograph's, and a restored face has to fit into it: the clean
face gets them too, see `keep_tones`. The degraded face gets the ink behind the chain, whose noise and JPEG then are of the ink
as well; so are those of the gray pairs that a data set makes.
"""

from dataclasses import dataclass, field, fields, replace

import numpy as np

from . import damages


MOST_DAMAGES = 3  # of one face
LATE_SHARE = 2 / 3  # of the prints that are worn after the paper's chain, which hides most of what comes before it
WARM_INK = (0.6, -1.0)  # red and blue of sepia
COOL_INK = (-0.4, 0.5)  # of blue and violet inks
COOL_SHARE = 0.25  # of them among the inks
CAST_HUE = (35.0, 45.0)  # mean and standard deviation, degrees: prints go yellow and red more often than blue
JPEG_BLOCK = 8


@dataclass(frozen=True)
class WearWeights:
    """How often each damage is drawn, beside the others; 0 is never."""

    defocus: float = 1.0
    motion: float = 1.0
    exposure: float = 0.7
    monochrome: float = 1.0
    chroma_noise: float = 1.0
    grain: float = 1.5
    fading: float = 0.7
    creases: float = 0.6
    scratches: float = 1.0
    dust: float = 1.0
    thumbnail: float = 1.0
    sharpening: float = 1.0
    resaving: float = 1.5

    def __post_init__(self) -> None:
        for entry in fields(self):
            if not 0 <= getattr(self, entry.name) < np.inf:
                raise ValueError(f"`{entry.name}` is {getattr(self, entry.name)}; it must be at least 0 and finite.")
        if not any(vars(self).values()):
            raise ValueError("all weights are 0; one must be above 0.")


@dataclass(frozen=True)
class WearRanges:
    """Uniform ranges of the wear, stated for a face of 512 x 512 pixels; lengths change in proportion for other sizes.

    Attributes:
        defocus_radius: of the disk, pixels.
        motion_length: of the line, pixels.
        exposure: stops by which it is too dark or too bright.
        ink: how far the color of a monochrome print is from gray, at most 0.25; below 0 it is gray.
        chroma_sigma: standard deviation of the color noise, 8-bit levels.
        chroma_size: of its blotches, pixels.
        grain_sigma: standard deviation of the film grain in the mid-tones, where it is sharpened after that, 8-bit levels.
        grain_size: standard deviation of a grain's bell, pixels.
        fading: share of the contrast that is lost.
        cast: by how much faded black and white are colored.
        crease_count: creases.
        crease_width: of the widest, pixels.
        scratch_count: scratches.
        scratch_width: of the widest, pixels.
        dust_count: specks of dust.
        dust_radius: of a usual speck, pixels.
        opacity: of creases, scratches and dust.
        thumbnail: factor by which a face is shrunk and enlarged; not below 1.
        sharpening: how often what a blur takes away is added.
        sharpening_radius: standard deviation of this blur, pixels.
        resave_count: JPEGs, one after the other.
        resave_downscale: factor by which a face is shrunk before each of them; not below 1.
        resave_quality: of each, 1 to 100.
        weights: how often each of the damages is drawn.
    """

    defocus_radius: tuple[float, float] = (1.0, 9.0)
    motion_length: tuple[float, float] = (3.0, 28.0)
    exposure: tuple[float, float] = (0.1, 0.8)
    ink: tuple[float, float] = (-0.06, 0.12)
    chroma_sigma: tuple[float, float] = (2.0, 11.0)
    chroma_size: tuple[float, float] = (6.0, 40.0)
    grain_sigma: tuple[float, float] = (3.0, 14.0)
    grain_size: tuple[float, float] = (0.5, 2.2)
    fading: tuple[float, float] = (0.03, 0.35)
    cast: tuple[float, float] = (0.0, 0.08)
    crease_count: tuple[float, float] = (1.0, 3.0)
    crease_width: tuple[float, float] = (1.5, 5.0)
    scratch_count: tuple[float, float] = (1.0, 8.0)
    scratch_width: tuple[float, float] = (0.8, 3.0)
    dust_count: tuple[float, float] = (5.0, 60.0)
    dust_radius: tuple[float, float] = (0.6, 2.2)
    opacity: tuple[float, float] = (0.2, 1.0)
    thumbnail: tuple[float, float] = (2.0, 14.0)
    sharpening: tuple[float, float] = (0.4, 2.0)
    sharpening_radius: tuple[float, float] = (1.5, 8.0)
    resave_count: tuple[float, float] = (1.0, 4.0)
    resave_downscale: tuple[float, float] = (1.0, 3.0)
    resave_quality: tuple[float, float] = (25.0, 90.0)
    weights: WearWeights = field(default_factory=WearWeights)

    def __post_init__(self) -> None:
        limits = {
            "exposure": (0.0, 4.0),
            "ink": (-0.25, 0.25),
            "fading": (0.0, 0.6),
            "cast": (0.0, 0.2),
            "opacity": (0.0, 1.0),
            "chroma_sigma": (0.0, 255.0),
            "grain_sigma": (0.0, 255.0),
            "grain_size": (1e-3, np.inf),
            "chroma_size": (1e-3, np.inf),
            "sharpening_radius": (1e-3, np.inf),
            "thumbnail": (1.0, np.inf),
            "resave_downscale": (1.0, np.inf),
            "resave_quality": (1.0, 100.0),
        }
        for name in RANGES:
            lowest, highest = limits.get(name, (0.0, np.inf))
            low, high = getattr(self, name)
            if not (lowest <= low <= high <= highest and high < np.inf):
                raise ValueError(f"`{name}` is ({low}, {high}); it must be (low, high) within {lowest} .. {highest}.")

    def cut(self, share: float) -> "WearRanges":
        """Return the ranges that keep but `share` of their width, at the harmless end; an ink is no harm and stays."""
        kept = {}
        for name in RANGES:
            low, high = getattr(self, name)
            kept[name] = (low, max(low, high - (1 - share) * (high - low)))  # which rounding may have below it
        worst, best = self.resave_quality
        return replace(
            self, **kept | {"ink": self.ink, "resave_quality": (min(worst + (1 - share) * (best - worst), best), best)}
        )


RANGES = [entry.name for entry in fields(WearRanges) if entry.name != "weights"]
LENGTHS = (
    "defocus_radius",
    "motion_length",
    "chroma_size",
    "grain_size",
    "crease_width",
    "scratch_width",
    "dust_radius",
    "sharpening_radius",
)


@dataclass(frozen=True)
class Wear:
    """What befalls one face beside the paper's degradation, in the pixels of this face; nothing unless given.

    Attributes:
        seed: of the noise and of the places of creases, scratches and dust.
        late: whether grain, fading, creases, scratches, dust and the thumbnail come after the paper's chain.
        defocus_radius: of the disk, pixels.
        motion_length: of the line, pixels.
        motion_angle: of the line, from x towards y, radians.
        exposure: stops; below 0 it is too dark.
        monochrome: whether it is printed in one ink.
        ink_red: of the ink, see `damages.monochrome`.
        ink_blue: the same.
        chroma_sigma: standard deviation of the color noise, 8-bit levels.
        chroma_size: of its blotches, pixels.
        grain_sigma: standard deviation of the film grain in the mid-tones, 8-bit levels.
        grain_size: standard deviation of a grain's bell, pixels.
        faded_black: red, green and blue of what was black.
        faded_white: the same of what was white.
        crease_count: creases.
        crease_width: of the widest, pixels.
        scratch_count: scratches.
        scratch_width: of the widest, pixels.
        dust_count: specks of dust.
        dust_radius: of a usual speck, pixels.
        opacity: of creases, scratches and dust.
        thumbnail: factor by which it is shrunk and enlarged.
        enlargement: one of `damages.ENLARGEMENTS`.
        sharpening: how often what a blur takes away is added.
        sharpening_radius: standard deviation of this blur, pixels.
        resaves: quality, shrinking factor and shifts to the right and down of each further JPEG, see `damages.resave`.
    """

    seed: int = 0
    late: bool = False
    defocus_radius: float = 0.0
    motion_length: float = 0.0
    motion_angle: float = 0.0
    exposure: float = 0.0
    monochrome: bool = False
    ink_red: float = 0.0
    ink_blue: float = 0.0
    chroma_sigma: float = 0.0
    chroma_size: float = 1.0
    grain_sigma: float = 0.0
    grain_size: float = 1.0
    faded_black: tuple[float, ...] = (0.0, 0.0, 0.0)
    faded_white: tuple[float, ...] = (1.0, 1.0, 1.0)
    crease_count: int = 0
    crease_width: float = 0.0
    scratch_count: int = 0
    scratch_width: float = 0.0
    dust_count: int = 0
    dust_radius: float = 0.0
    opacity: float = 0.0
    thumbnail: float = 1.0
    enlargement: str = "nearest"
    sharpening: float = 0.0
    sharpening_radius: float = 1.0
    resaves: tuple[tuple[int, float, int, int], ...] = ()

    @property
    def changes_tones(self) -> bool:
        """Whether the clean face gets a part of it, see `keep_tones`."""
        return self.monochrome or self.is_faded or bool(self.exposure)

    @property
    def is_faded(self) -> bool:
        """Whether black or white are other colors."""
        return (self.faded_black, self.faded_white) != (NO_WEAR.faded_black, NO_WEAR.faded_white)


NO_WEAR = Wear()
PARAMETERS = {  # of each damage
    "defocus": ("defocus_radius",),
    "motion": ("motion_length", "motion_angle"),
    "exposure": ("exposure",),
    "monochrome": ("monochrome", "ink_red", "ink_blue"),
    "chroma_noise": ("chroma_sigma", "chroma_size"),
    "grain": ("grain_sigma", "grain_size"),
    "fading": ("faded_black", "faded_white"),
    "creases": ("crease_count", "crease_width", "opacity"),
    "scratches": ("scratch_count", "scratch_width", "opacity"),
    "dust": ("dust_count", "dust_radius", "opacity"),
    "thumbnail": ("thumbnail", "enlargement"),
    "sharpening": ("sharpening", "sharpening_radius"),
    "resaving": ("resaves",),
}


def draw_wear(ranges: WearRanges, relative_size: float, rng: np.random.Generator) -> Wear:
    """Draw one to three damages for a face that is `relative_size` times as large as the one that ranges are stated for."""
    weights = vars(ranges.weights)
    shares = np.array(list(weights.values())) / sum(weights.values())
    count = min(int(rng.integers(1, MOST_DAMAGES + 1)), np.count_nonzero(shares))
    chosen = rng.choice(list(weights), count, replace=False, p=shares).tolist()
    if "monochrome" in chosen:
        ranges = replace(ranges, cast=(0.0, 0.0))  # which could not be told from the ink
    everything = _draw_everything(ranges, relative_size, rng)
    names = ["seed", "late", *(name for damage in chosen for name in PARAMETERS[damage])]
    wear = Wear(**{name: getattr(everything, name) for name in names})
    return replace(wear, grain_sigma=wear.grain_sigma / (1 + wear.sharpening))  # which sharpening raises again


def _draw_everything(ranges: WearRanges, relative_size: float, rng: np.random.Generator) -> Wear:
    drawn = {name: rng.uniform(*getattr(ranges, name)) for name in RANGES}
    lengths = {name: relative_size * drawn[name] for name in LENGTHS}
    counts = {name: round(drawn[name]) for name in ("crease_count", "scratch_count", "dust_count")}
    red, blue = max(0.0, drawn["ink"]) * np.array(COOL_INK if rng.random() < COOL_SHARE else WARM_INK)
    black = drawn["fading"] * rng.uniform(0.4, 1)
    colors = drawn["cast"] * np.cos(np.deg2rad(rng.normal(*CAST_HUE) - np.array([0, 120, 240])))
    levels = {name: drawn[name] for name in ("chroma_sigma", "grain_sigma", "opacity", "sharpening")}
    return Wear(
        seed=int(rng.integers(2**32)),
        late=bool(rng.random() < LATE_SHARE),
        motion_angle=rng.uniform(0, np.pi),
        exposure=drawn["exposure"] * (1 if rng.random() < 0.5 else -1),
        monochrome=True,
        ink_red=float(red),
        ink_blue=float(blue),
        faded_black=tuple((black + colors.clip(0)).tolist()),
        faded_white=tuple((1 - drawn["fading"] + black + colors.clip(None, 0)).tolist()),
        thumbnail=max(1.0, relative_size * drawn["thumbnail"]),
        enlargement=str(rng.choice(list(damages.ENLARGEMENTS))),
        resaves=tuple(_draw_resave(ranges, relative_size, rng) for _ in range(round(drawn["resave_count"]))),
        **levels,
        **counts,
        **lengths,
    )


def _draw_resave(ranges: WearRanges, relative_size: float, rng: np.random.Generator) -> tuple[int, float, int, int]:
    right, down = rng.integers(JPEG_BLOCK, size=2).tolist()
    downscale = max(1.0, relative_size * rng.uniform(*ranges.resave_downscale))
    return int(rng.uniform(*ranges.resave_quality)), downscale, right, down


def keep_tones(image: np.ndarray, wear: Wear) -> np.ndarray:
    """Return what a restoration should come to: the clean face `[H,W,3]` with the tones of its photograph."""
    if wear.exposure:
        image = damages.expose(image, wear.exposure)
    if wear.late:
        return _fade(_print_in_ink(image, wear), wear)
    return _print_in_ink(_fade(image, wear), wear)


def _print_in_ink(image: np.ndarray, wear: Wear) -> np.ndarray:
    return damages.monochrome(image, wear.ink_red, wear.ink_blue) if wear.monochrome else image


def _fade(image: np.ndarray, wear: Wear) -> np.ndarray:
    return damages.fade(image, wear.faded_black, wear.faded_white) if wear.is_faded else image


def wear_before(image: np.ndarray, wear: Wear) -> np.ndarray:
    """Return a face `[H,W,3]` as it comes to the paper's chain; the same array if nothing befalls it before."""
    rng = np.random.default_rng([wear.seed, 0])
    if wear.defocus_radius:
        image = damages.defocus(image, wear.defocus_radius)
    if wear.motion_length:
        image = damages.motion_blur(image, wear.motion_length, wear.motion_angle)
    if wear.exposure:
        image = damages.expose(image, wear.exposure)
    if wear.chroma_sigma:
        image = damages.chroma_noise(image, wear.chroma_sigma, wear.chroma_size, rng)
    return image if wear.late else _wear_print(image, wear, rng)


def wear_after(image: np.ndarray, wear: Wear) -> np.ndarray:
    """Return what becomes of a face `[H,W,3]` after the paper's chain; the same array if nothing does."""
    image = _print_in_ink(image, wear)
    if wear.late:
        image = _wear_print(image, wear, np.random.default_rng([wear.seed, 1]))
    if wear.sharpening:
        image = damages.sharpen(image, wear.sharpening, wear.sharpening_radius)
    for save in wear.resaves:
        image = damages.resave(image, *save)
    return image


def _wear_print(image: np.ndarray, wear: Wear, rng: np.random.Generator) -> np.ndarray:
    if wear.grain_sigma:
        image = damages.grain(image, wear.grain_sigma, wear.grain_size, rng)
    image = _fade(image, wear)
    if wear.crease_count:
        image = damages.crease(image, wear.crease_count, wear.crease_width, wear.opacity, rng)
    if wear.scratch_count:
        image = damages.scratch(image, wear.scratch_count, wear.scratch_width, wear.opacity, rng)
    if wear.dust_count:
        image = damages.dust(image, wear.dust_count, wear.dust_radius, wear.opacity, rng)
    if wear.thumbnail > 1:
        image = damages.thumbnail(image, wear.thumbnail, wear.enlargement)
    return image
