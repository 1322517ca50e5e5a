import json

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from difface_diffusers import DifFaceInpaintPipeline, LaMaEstimator
from difface_diffusers.cli import fill, main
from difface_diffusers.imaging.files import read_photo, write_photo
from difface_diffusers.imaging.metadata import Metadata, PhotoFile
from tests.conftest import SIZE, ddim, tiny_unet


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(4)
    estimator = LaMaEstimator(base_channels=4, num_downsamples=2, num_blocks=1).eval()
    pipe = DifFaceInpaintPipeline(tiny_unet(), estimator, ddim(), default_num_inference_steps=3)
    pipe.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def folder(tmp_path):
    """Two faces, a mask for each in another folder, and one for a third."""
    rng = np.random.default_rng(0)
    for name in ("in/a.png", "in/b.png", "masks/a.png", "masks/b.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
    for name in ("a.png", "b.png"):
        Image.fromarray(rng.integers(1, 255, (SIZE, SIZE, 3), dtype=np.uint8)).save(tmp_path / "in" / name)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[8:16, 16:24] = 255
    Image.fromarray(mask).save(tmp_path / "masks" / "a.png")
    Image.fromarray(mask.T).save(tmp_path / "masks" / "b.jpg", quality=100)
    return tmp_path / "in"


@pytest.fixture
def run(model, tmp_path):
    def run(*arguments, output="out"):
        arguments = [str(argument) for argument in arguments]
        return main(["inpaint", *arguments, "--model", str(model), "-o", str(tmp_path / output)])

    return run


def read(path):
    return read_photo(path).pixels


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def changed(tmp_path, name, output="out"):
    """Where a result differs from its input."""
    return (read(tmp_path / output / name) != read(tmp_path / "in" / name)).any(-1)


def test_fills_aligned_faces_by_masks_of_their_names(run, folder, tmp_path, capsys):
    assert run(folder, "--aligned", "--mask", tmp_path / "masks") == 0
    assert names(tmp_path / "out") == ["a.png", "b.png"]
    for name, hole in (("a.png", np.s_[8:16, 16:24]), ("b.png", np.s_[16:24, 8:16])):
        where = changed(tmp_path, name)
        assert where[hole].mean() > 0.9
        where[hole] = False
        assert not where.any()
    assert "filled 2 of 2 inputs" in capsys.readouterr().out


def test_writes_what_the_pipeline_answers(run, folder, model, tmp_path):
    arguments = ("--seed", 7, "--steps", 2, "--start", 300, "--eta", 0.5, "--s-noise", 1.2)
    run(folder / "a.png", "--aligned", "--mask", tmp_path / "masks" / "a.png", *arguments)
    pipe = DifFaceInpaintPipeline.from_pretrained(model)
    expected = pipe(
        read(folder / "a.png"), Image.open(tmp_path / "masks" / "a.png"), num_inference_steps=2, start_timestep=300,
        eta=0.5, s_noise=1.2, generator=torch.Generator().manual_seed(7),
    ).images[0]  # fmt: skip
    np.testing.assert_array_equal(read(tmp_path / "out" / "a.png"), np.asarray(expected))


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("kind", ["gray", "gray and alpha", "RGB", "RGBA", "big-endian"])
def test_masks_of_16_bits(run, folder, tmp_path, suffix, kind):
    """Levels just below and from the middle on, which differ in their last bits."""
    levels = np.full((SIZE, SIZE), 32767, np.uint16)
    levels[8:16, 16:24] = 32768
    opaque = np.full_like(levels, 65535)
    planes = {"gray and alpha": [levels, opaque], "RGB": [levels] * 3, "RGBA": [*[levels] * 3, opaque]}.get(kind)
    mask = tmp_path / f"mask.{suffix}"
    if kind == "big-endian" and suffix == "tif":
        tifffile.imwrite(mask, levels, byteorder=">")
    else:
        write_photo(PhotoFile(levels if planes is None else np.dstack(planes), Metadata()), mask)
    assert run(folder / "a.png", "--aligned", "--mask", mask) == 0
    where = changed(tmp_path, "a.png")
    assert where[8:16, 16:24].mean() > 0.9
    where[8:16, 16:24] = False
    assert not where.any()


def test_a_mask_is_not_overwritten(run, folder, tmp_path, capsys):
    assert run(folder, "--aligned", "--mask", tmp_path / "masks", output="masks") == 2
    assert f"would overwrite the input {tmp_path / 'masks' / 'a.png'}" in capsys.readouterr().err


def test_an_interruption_is_reported(run, folder, tmp_path, monkeypatch, capsys):
    def write_photo(photo, path):
        raise KeyboardInterrupt

    monkeypatch.setattr(fill, "write_photo", write_photo)
    arguments = ("--aligned", "--mask", tmp_path / "masks", "--report", tmp_path / "report.json")
    assert run(folder, *arguments) == 130
    assert len(json.loads((tmp_path / "report.json").read_text())) == 2


def test_one_mask_for_all_turned_around(run, folder, tmp_path):
    assert run(folder, "--aligned", "--mask", tmp_path / "masks" / "a.png", "--invert-mask") == 0
    for name in ("a.png", "b.png"):
        where = changed(tmp_path, name)
        assert not where[8:16, 16:24].any() and where.mean() > 0.8


def test_without_a_mask_what_is_exactly_black_is_filled(run, folder, tmp_path, capsys):
    pixels = read(folder / "a.png")
    pixels[4:10, 4:10] = 0
    pixels[20, 20] = (0, 0, 1)
    Image.fromarray(pixels).save(folder / "a.png")
    assert run(folder, "--aligned") == 1
    where = changed(tmp_path, "a.png")
    assert where[4:10, 4:10].all() and where.sum() == 36
    assert "b.png: `mask_image` is None and no pixel of `image` is exactly black" in capsys.readouterr().err


def test_a_mask_that_is_missing_or_broken_fails_its_file_alone(run, folder, tmp_path, capsys):
    (tmp_path / "masks" / "a.png").unlink()
    assert run(folder, "--aligned", "--mask", tmp_path / "masks") == 1
    assert names(tmp_path / "out") == ["b.png"]
    assert f"failed: {folder / 'a.png'}: {tmp_path / 'masks'} holds no mask of its name" in capsys.readouterr().err
    (tmp_path / "masks" / "a.png").write_bytes(b"no image")
    assert run(folder, "--aligned", "--mask", tmp_path / "masks") == 1
    assert f"failed: {folder / 'a.png'}: " in capsys.readouterr().err


def test_samples_and_skipping(run, folder, tmp_path, capsys):
    arguments = (folder, "--aligned", "--mask", tmp_path / "masks", "--samples", 2, "--format", "webp")
    assert run(*arguments) == 0
    assert names(tmp_path / "out") == ["a_1.webp", "a_2.webp", "b_1.webp", "b_2.webp"]
    assert (read(tmp_path / "out" / "a_1.webp") != read(tmp_path / "out" / "a_2.webp")).any()
    (tmp_path / "out" / "b_2.webp").unlink()
    capsys.readouterr()
    assert run(*arguments, "--skip-existing") == 0
    assert "filled 1 of 2 inputs, 1 were there already" in capsys.readouterr().out
    assert len(names(tmp_path / "out")) == 4


@pytest.mark.parametrize(("keep_gray", "channels"), [("auto", 2), ("off", 3)])
def test_a_gray_face_stays_gray_unless_told(run, folder, tmp_path, keep_gray, channels):
    Image.fromarray(read(folder / "a.png")[..., 0]).save(folder / "a.png")
    mask = tmp_path / "masks" / "a.png"
    assert run(folder / "a.png", "--aligned", "--mask", mask, "--keep-gray", keep_gray) == 0
    assert read(tmp_path / "out" / "a.png").ndim == channels


def test_a_gray_face_stored_in_color_stays_gray(run, folder, tmp_path):
    Image.fromarray(read(folder / "a.png")[..., 0]).convert("RGB").save(folder / "a.png")
    assert run(folder / "a.png", "--aligned", "--mask", tmp_path / "masks" / "a.png") == 0
    filled = read(tmp_path / "out" / "a.png")
    assert filled.ndim == 3 and np.ptp(filled, axis=-1).max() == 0


def test_photographs_are_filled_without_a_face_too(run, folder, tmp_path, capsys):
    assert run(folder / "a.png", "--mask", tmp_path / "masks" / "a.png", "--report", tmp_path / "report.json") == 0
    where = changed(tmp_path, "a.png")
    assert where[8:16, 16:24].any()
    where[8:16, 16:24] = False
    assert not where.any()
    assert "a.png (no faces)" in capsys.readouterr().out
    assert (tmp_path / "report.json").exists()


def test_a_full_disk_fails_the_file(run, folder, tmp_path, capsys):
    (tmp_path / "out" / "a.png").mkdir(parents=True)
    assert run(folder, "--aligned", "--mask", tmp_path / "masks") == 1
    captured = capsys.readouterr()
    assert "a.png: cannot be written" in captured.err and "filled 1 of 2 inputs" in captured.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mask", "no/such.png"], "--mask no/such.png: no such file or folder"),
        (["--invert-mask"], "--invert-mask turns a mask around; give one by --mask"),
        (["--samples", "0"], "--samples is 0"),
        (["--eta", "2"], "`eta` is 2.0"),
        (["--model", "no/such"], "--model no/such cannot be loaded"),
        (["--model", "RESTORER"], "`estimator` is a SRCNNEstimator, which takes no mask"),
        (["-o", "IN"], "would overwrite the input"),
    ],
)
def test_refuses_what_it_cannot_do(run, folder, pipe, tmp_path, capsys, arguments, message):
    pipe.save_pretrained(tmp_path / "restorer")
    places = {"RESTORER": str(tmp_path / "restorer"), "IN": str(folder)}
    arguments = [places.get(argument, argument) for argument in arguments]
    assert main(["inpaint", str(folder / "a.png"), "--model", str(tmp_path / "model"), "--aligned",
                 "-o", str(tmp_path / "out"), *arguments]) == 2  # fmt: skip
    captured = capsys.readouterr()
    assert message in captured.err and "Traceback" not in captured.err
    assert not (tmp_path / "out").exists()
