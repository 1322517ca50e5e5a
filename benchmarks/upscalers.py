"""What enlarges a background best? Photographs are shrunk and damaged, enlarged again, and compared with what they were.

    python -m benchmarks.upscalers --data FOLDER_OF_PHOTOGRAPHS --output FOLDER \
        --backgrounds lanczos realesr-animevideov3=0.5,1 [--sheet astronaut coffee@120,80]

A background is what `load_upscaler` takes; the shares after `=` say how much of its picture is mixed with Lanczos'. Written to
OUTPUT: `upscalers.md`, `upscalers.json`, and `upscalers_RECIPE.png` with parts of the photographs that `--sheet` names, pixel
for pixel, at the place of the shrunk photograph that follows `@`, else where there is most detail.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from benchmarks.reports import Report
from difface_diffusers.acceleration.processor import fastest_dtype, processor_name
from difface_diffusers.degradation.blind import jpeg
from difface_diffusers.evaluation import image_grid, niqe, piqe, psnr, ssim
from difface_diffusers.imaging.files import load_image
from difface_diffusers.photos.upscale import Upscaler, load_upscaler, upscale_lanczos, upscale_nearest
from difface_diffusers.training.sources import IMAGE_SUFFIXES
from difface_diffusers.utils.listing import list_files


VIEW = 224  # side of a part in the sheet, pixels
WARM_UP = 64  # side of what is enlarged before the clock runs, pixels


@dataclass(frozen=True)
class Recipe:
    """Uniform ranges of what happens to a photograph.

    Attributes:
        blur_sigma: of the Gaussian blur, pixels of the shrunk photograph.
        noise_sigma: of the white noise after shrinking, of 255 levels.
        jpeg_quality: at last.
    """

    blur_sigma: tuple[float, float]
    noise_sigma: tuple[float, float]
    jpeg_quality: tuple[int, int]


RECIPES = {
    "good": Recipe((0.1, 0.3), (0, 0), (95, 96)),
    "mild": Recipe((0.2, 0.6), (0, 4), (75, 91)),
    "poor": Recipe((0.5, 1.0), (4, 10), (50, 71)),
}


@dataclass(frozen=True)
class Row:
    """One background with one blend after one recipe: the mean over the photographs.

    Attributes:
        recipe: its name.
        background: its name.
        blend: share of it; the rest is Lanczos'.
        psnr: against the clean photograph, decibels.
        ssim: the same.
        niqe: of the picture alone, lower is more natural.
        piqe: the same.
        seconds: a megapixel of the photograph that is enlarged.
        processor_seconds: the same, of all threads together, without what other programs take.
    """

    recipe: str
    background: str
    blend: float
    psnr: float
    ssim: float
    niqe: float
    piqe: float
    seconds: float
    processor_seconds: float


@dataclass(frozen=True)
class UpscalerReport(Report):
    """Figures of one run.

    Attributes:
        photographs: their names.
        megapixels: of all photographs after they were shrunk.
        upscale: factor.
        seed: of what was done to them.
        recipes: ranges by name.
        dtype: of networks.
        processor: name.
        threads: of torch.
        rows: the figures.
    """

    photographs: list[str]
    megapixels: float
    upscale: int
    seed: int
    recipes: dict[str, Recipe]
    dtype: str
    processor: str
    threads: int
    rows: list[Row]

    def markdown(self) -> str:
        """See `Report.markdown`."""
        area = self.upscale**2
        lines = [
            f"{len(self.photographs)} photographs, {self.megapixels:.2f} megapixels, enlarged by {self.upscale}; "
            f"seed {self.seed}; networks in {self.dtype}; {self.processor}, {self.threads} threads. Seconds are those of a "
            "megapixel before and after.",
            "",
            "| photographs | background | blend | PSNR (dB) | SSIM | NIQE | PIQE | seconds | processor's seconds |",
            "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        ]
        for row in self.rows:
            seconds = " | ".join(f"{value:.2f} / {value / area:.2f}" for value in (row.seconds, row.processor_seconds))
            lines.append(
                f"| {row.recipe} | {row.background} | {row.blend:g} | {row.psnr:.2f} | {row.ssim:.4f} | {row.niqe:.2f} "
                f"| {row.piqe:.1f} | {seconds} |"
            )
        return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Background:
    """An upscaler under test, and the shares of it that are mixed with Lanczos."""

    name: str
    upscaler: Upscaler
    blends: tuple[float, ...] = (1.0,)


@dataclass(frozen=True)
class Place:
    """What the sheet shows of a photograph: the upper left corner, pixels before it is enlarged; `None` to find one."""

    name: str
    corner: tuple[int, int] | None = None


def damage_photo(clean: np.ndarray, upscale: int, recipe: Recipe, rng: np.random.Generator) -> np.ndarray:
    """Shrink `[H,W,3]` uint8, of sides that are multiples of `upscale`, and damage it by what `rng` draws of a recipe."""
    sigma = upscale * rng.uniform(*recipe.blur_sigma)
    size = clean.shape[1] // upscale, clean.shape[0] // upscale
    blurred = cv2.GaussianBlur(clean.astype(np.float32) / 255, (0, 0), sigma)
    small = cv2.resize(blurred, size, interpolation=cv2.INTER_AREA)
    noise = rng.standard_normal(small.shape, dtype=np.float32)
    if not np.ptp(clean, axis=-1).any():
        noise[:] = noise[..., :1]
    small += np.float32(rng.uniform(*recipe.noise_sigma) / 255) * noise
    return np.rint(jpeg(small, int(rng.integers(*recipe.jpeg_quality))) * 255).astype(np.uint8)


def mix(enlarged: np.ndarray, plain: np.ndarray, blend: float) -> np.ndarray:
    """Return `blend` of one picture and the rest of the other, `[H,W,3]` uint8."""
    return np.rint(plain + np.float32(blend) * (enlarged.astype(np.float32) - plain)).astype(np.uint8)


def measure(
    photos: Mapping[str, np.ndarray], backgrounds: Sequence[Background], recipe_name: str, upscale: int, seed: int
) -> tuple[list[Row], dict[str, dict[str, np.ndarray]]]:
    """Damage, enlarge and compare.

    Args:
        photos: clean, `[H,W,3]` uint8, of sides that are multiples of `upscale`, by name.
        backgrounds: under test.
        recipe_name: one of `RECIPES`.
        upscale: factor.
        seed: of each photograph's damage, with its number.

    Returns:
        A row for each background and blend, and for each photograph the pictures of the sheet by their titles.
    """
    columns: dict[str, dict[str, np.ndarray]] = {name: {} for name in photos}
    figures: dict[tuple[str, float], list[list[float]]] = {}
    for background in backgrounds:  # the first call of a network takes longer
        background.upscaler(np.zeros((WARM_UP, WARM_UP, 3), np.uint8), (upscale * WARM_UP, upscale * WARM_UP))
    for number, (name, clean) in enumerate(tqdm(photos.items(), unit="photo", desc=recipe_name)):
        small = damage_photo(clean, upscale, RECIPES[recipe_name], np.random.default_rng((seed, number)))
        columns[name] = {"clean": clean, "pixels": upscale_nearest(small, clean.shape[:2])}
        plain = upscale_lanczos(small, clean.shape[:2])
        for background in backgrounds:
            clocks = time.perf_counter(), time.process_time()
            enlarged = background.upscaler(small, clean.shape[:2])
            seconds = time.perf_counter() - clocks[0], time.process_time() - clocks[1]
            for blend in background.blends:
                picture = mix(enlarged, plain, blend)
                pair = to_batch(picture), to_batch(clean)
                values = [psnr(*pair), ssim(*pair), niqe(pair[0]), piqe(pair[0])]
                figures.setdefault((background.name, blend), []).append([*map(float, values), *seconds])
                columns[name][title(background.name, blend)] = picture
    megapixels = sum(photo.shape[0] * photo.shape[1] for photo in photos.values()) / upscale**2 / 1e6
    rows = []
    for (name, blend), values in figures.items():
        *means, _, _ = np.mean(values, axis=0).tolist()
        times = (np.sum(values, axis=0)[-2:] / megapixels).tolist()
        rows.append(Row(recipe_name, name, blend, *means, *times))
    return rows, columns


def title(name: str, blend: float) -> str:
    """Name a background and its share in the sheet."""
    name = Path(name).stem
    return name if blend == 1 else f"{name} {blend:g}"


def to_batch(picture: np.ndarray) -> torch.Tensor:
    """Return `[H,W,3]` uint8 as `[1,3,H,W]` in [0,1]."""
    return torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255


def busiest(clean: np.ndarray) -> tuple[int, int]:
    """Return left and top of the `VIEW` pixels of `[H,W,3]` that hold most detail."""
    detail = np.abs(cv2.Laplacian(cv2.cvtColor(clean, cv2.COLOR_RGB2GRAY), cv2.CV_32F))
    sums = cv2.boxFilter(detail, -1, (VIEW, VIEW), anchor=(0, 0))[
        : clean.shape[0] - VIEW + 1, : clean.shape[1] - VIEW + 1
    ]
    top, left = np.unravel_index(sums.argmax(), sums.shape)
    return int(left), int(top)


def write_sheet(
    columns: Mapping[str, Mapping[str, np.ndarray]], places: Sequence[Place], upscale: int, path: Path
) -> None:
    """Save a part of each photograph, a row each, in all its pictures."""
    parts: dict[str, list[torch.Tensor]] = {}
    for place in places:
        pictures = columns[place.name]
        clean = pictures["clean"]
        left, top = busiest(clean) if place.corner is None else (upscale * place.corner[0], upscale * place.corner[1])
        left, top = (
            max(0, min(start, side - VIEW)) for start, side in ((left, clean.shape[1]), (top, clean.shape[0]))
        )
        for name, picture in pictures.items():
            parts.setdefault(name, []).append(to_batch(picture[top : top + VIEW, left : left + VIEW]))
    image_grid({name: torch.cat(rows) for name, rows in parts.items()}).save(path)


def read_background(text: str, dtype: torch.dtype) -> Background:
    """Load `NAME` or `NAME=SHARE,SHARE`."""
    name, _, blends = text.partition("=")
    shares = tuple(float(share) for share in blends.split(",")) if blends else (1.0,)
    return Background(name, load_upscaler(name, dtype=dtype), shares)


def read_place(text: str) -> Place:
    """Read `NAME` or `NAME@LEFT,TOP`."""
    name, _, corner = text.partition("@")
    if not corner:
        return Place(name)
    left, top = map(int, corner.split(","))
    return Place(name, (left, top))


def read_photos(folder: Path, upscale: int) -> dict[str, np.ndarray]:
    """Read the photographs of a folder, `[H,W,3]` uint8 by the names of their files, sides cut to multiples of `upscale`."""
    photos = {}
    for file in list_files(folder, IMAGE_SUFFIXES, recursive=True):
        photo = np.asarray(load_image(file).convert("RGB"))
        height, width = (side // upscale * upscale for side in photo.shape[:2])
        photos[file.stem] = np.ascontiguousarray(photo[:height, :width])
    return photos


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of clean photographs")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--backgrounds", nargs="+", default=["lanczos"], metavar="NAME[=SHARE,...]")
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--upscale", type=int, default=2)
    parser.add_argument("--sheet", nargs="*", default=[], type=read_place, metavar="PHOTOGRAPH[@LEFT,TOP]")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="of networks; default: the faster one here")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    photos = read_photos(args.data, args.upscale)
    if not photos:
        parser.error(f"--data {args.data} holds no image")
    missing = [place.name for place in args.sheet if place.name not in photos]
    if missing:
        parser.error(f"--sheet names {', '.join(missing)}, not in {args.data}")
    dtype = getattr(torch, args.dtype) if args.dtype else fastest_dtype("cpu")
    backgrounds = [read_background(text, dtype) for text in args.backgrounds]
    args.output.mkdir(parents=True, exist_ok=True)
    rows = []
    for recipe in args.recipes:
        figures, columns = measure(photos, backgrounds, recipe, args.upscale, args.seed)
        rows += figures
        if args.sheet:
            write_sheet(columns, args.sheet, args.upscale, args.output / f"upscalers_{recipe}.png")
    report = UpscalerReport(
        photographs=list(photos),
        megapixels=sum(photo.shape[0] * photo.shape[1] for photo in photos.values()) / args.upscale**2 / 1e6,
        upscale=args.upscale,
        seed=args.seed,
        recipes={name: RECIPES[name] for name in args.recipes},
        dtype=str(dtype).removeprefix("torch."),
        processor=processor_name(),
        threads=torch.get_num_threads(),
        rows=rows,
    )
    report.write(args.output, "upscalers")
    print(report.markdown())


if __name__ == "__main__":
    main()
