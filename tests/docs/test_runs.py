"""Page by page, commands and Python blocks of the README and the docs do run, but for those named here with a reason."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from difface_diffusers import BUNDLED_INPAINT_MODEL, BUNDLED_MODEL, DifFaceInpaintPipeline, DifFacePipeline
from difface_diffusers.cli import main

from .pages import PAGES, ROOT, commands, python_blocks


pytestmark = pytest.mark.slow

COMMANDS = {  # words of commands that are not run, and why
    "demo": "serves until it is interrupted; tests/demo",
    "--model official": "fetches; tests/hub",
    "--download": "fetches; tests/hub",
    "convert": "needs checkpoints; tests/conversion",
    "ORG/NAME": "needs the Hub",
    "realesrgan-x4plus": "fetches; tests/photos",
    "cuda": "needs a GPU",
    "train": "trains for hours; tests/training",
    "celeba-test": "makes 4,000 pictures; tests/degradation",
    "celeba-inpaint": "makes 2,000 pictures; tests/degradation",
    "testset/lq": "needs these",
    "out/prints/lq": "needs a training",
    "--config halftone_estimator": "needs a training",
    "runs/": "needs a training",
}
BLOCKS = {  # words of Python blocks that are not run, and why
    "cuda": "needs a GPU",
    "official_model": "fetches; tests/hub",
    "org/": "needs the Hub",
    "ORG/NAME": "needs the Hub",
    "realesr-": "fetches; tests/photos",
    "quantize_int8": "compiles for minutes; tests/acceleration",
    "runs/": "needs a training",
    "gradio_client": "needs a server; tests/demo",
    "inception": "needs a file; tests/evaluation",
    "YuNetDetector": "needs an album of people",
    'from_pretrained("difface': "needs a conversion; tests/conversion",
    "lama": "needs a network of one's own",
}


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A folder with what the pages name."""
    examples = tmp_path / "examples"
    shutil.copytree(ROOT / "examples", examples)
    photograph, face = Image.open(examples / "astronaut_photo.png"), Image.open(examples / "astronaut.png")
    clean, mask = Image.open(examples / "astronaut_clean.png"), Image.open(examples / "astronaut_torn_mask.png")
    torn = Image.open(examples / "astronaut_torn.png")
    for folder in ("album", "masks", "faces", "faces256/val", "degraded_faces", "old_photos"):
        (tmp_path / folder).mkdir(parents=True)
    photograph.convert("RGB").save(tmp_path / "photo.jpg")
    torn.save(tmp_path / "scan.png")
    torn.save(tmp_path / "image.png")
    for name in ("tears.png", "scratches.png"):
        mask.save(tmp_path / name)
    for name in ("one", "two"):
        photograph.convert("RGB").save(tmp_path / "album" / f"{name}.jpg")
        photograph.save(tmp_path / "old_photos" / f"{name}.png")
        mask.resize(photograph.size).save(tmp_path / "masks" / f"{name}.png")
        face.save(tmp_path / "faces" / f"{name}.png")
        face.save(tmp_path / "degraded_faces" / f"{name}.png")
        clean.save(tmp_path / "faces256" / "val" / f"{name}.png")
    write_video(tmp_path / "in.mp4", photograph)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_video(path, photograph):
    import av

    frame = np.asarray(photograph.convert("RGB"))
    with av.open(str(path), "w") as video:
        stream = video.add_stream("libx264", rate=1)
        stream.width, stream.height, stream.pix_fmt = *photograph.size, "yuv420p"
        for shift in range(14):  # the pages cut from second 10 to 20
            image = av.VideoFrame.from_ndarray(np.roll(frame, shift, axis=1), format="rgb24")
            video.mux(stream.encode(image))
        video.mux(stream.encode())


def names(work):
    """What the blocks of Python take for granted."""
    face, photo = Image.open(work / "examples" / "astronaut.png"), Image.open(work / "photo.jpg")
    mask = Image.new("L", face.size)
    ImageDraw.Draw(mask).rectangle((40, 40, 70, 60), fill=255)
    picture = (
        torch.from_numpy(np.asarray(Image.open(work / "examples" / "astronaut_clean.png"))).permute(2, 0, 1) / 255
    )
    return {
        "pipe": DifFacePipeline.from_pretrained(BUNDLED_MODEL),
        "inpaint": DifFaceInpaintPipeline.from_pretrained(BUNDLED_INPAINT_MODEL),
        "photo": photo,
        "another": photo.rotate(20),
        "face": face,
        "image": face,
        "images": [face, face],
        "mask": mask,
        "mask_image": mask,
        "clean": picture[None],
        "restored": picture[None] * 0.9,
        "show": lambda picture: None,
        "user_pressed_stop": lambda: False,
        "torch": torch,
    }


def reason(text, reasons):
    return next((why for words, why in reasons.items() if words in text), None)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)])
def test_commands(page, work):
    ran = 0
    for words in commands(page):
        if words[0] != "difface" or reason(" ".join(words), COMMANDS):
            continue
        assert main(words[1:]) == 0, words
        ran += 1
    if not ran:
        pytest.skip("has no command that can run here")


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("page", [page for page in PAGES if python_blocks(page)])
def test_python(page, work):
    scope, ran = names(work), 0
    for block in python_blocks(page):
        if reason(block.text, BLOCKS):
            continue
        code = compile("\n" * block.line + block.text, str(ROOT / page), "exec")
        exec(code, scope)
        ran += 1
    if not ran:
        pytest.skip("has no block that can run here")


def test_every_exception_is_one():
    """A reason that nothing needs any more is taken out."""
    texts = [" ".join(words) for page in PAGES for words in commands(page) if words[0] == "difface"]
    assert [words for words in COMMANDS if not any(words in text for text in texts)] == []
    texts = [block.text for page in PAGES for block in python_blocks(page)]
    assert [words for words in BLOCKS if not any(words in text for text in texts)] == []
