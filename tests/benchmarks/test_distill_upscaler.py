import json

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import distill_pairs, distill_upscaler
from benchmarks.backgrounds import textured_background
from difface_diffusers.models.rrdbnet import RRDBNet
from difface_diffusers.models.srvgg import SRVGGNetCompact


SIDE = 32  # of tiny patches
PHOTO = textured_background(np.random.default_rng(0), 90, 120)


@pytest.fixture
def data(tmp_path):
    (tmp_path / "data").mkdir()
    Image.fromarray(PHOTO).save(tmp_path / "data" / "a.png")
    return tmp_path / "data"


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(distill_pairs, "SHARD", 4)


def nearest(scale):
    """A network that repeats pixels."""
    network = SRVGGNetCompact(scale, num_channels=1, num_convs=1).eval()
    for parameter in network.body[-1].parameters():
        torch.nn.init.zeros_(parameter)
    return network


@pytest.mark.parametrize("side", [32, 90, 200])
def test_patches_have_their_size_even_from_smaller_photographs(data, side):
    patch = distill_pairs.cut_patch([data / "a.png"], side, np.random.default_rng(0))
    assert patch.shape == (side, side, 3) and patch.dtype == np.uint8


def test_what_is_chosen_has_more_detail_than_what_is_cut(data, monkeypatch):
    monkeypatch.setattr(distill_pairs, "PAINTED", 0)
    Image.fromarray(np.full((90, 120, 3), 128, np.uint8)).save(data / "plain.png")
    files, rng = sorted(data.iterdir()), np.random.default_rng(0)
    chosen = [distill_pairs.choose_patch(files, SIDE, rng).std() > 0 for _ in range(30)]
    assert np.mean(chosen) > 0.7


def test_painted_patches(monkeypatch):
    monkeypatch.setattr(distill_pairs, "PAINTED", 1)
    patches = [distill_pairs.choose_patch([], SIDE, np.random.default_rng(seed)) for seed in range(6)]
    assert all(patch.shape == (SIDE, SIDE, 3) and patch.dtype == np.uint8 for patch in patches)


@pytest.mark.parametrize("scale", [2, 4])
def test_the_teachers_answers_lie_where_the_patch_does(scale):
    patch = PHOTO[:8, :16]
    (answer,) = distill_pairs.ask(nearest(scale), [patch])
    assert answer.shape == (16, 32, 3)
    assert np.abs(answer.reshape(8, 2, 16, 2, 3).mean((1, 3)) - patch).mean() < 4


def test_pairs_are_those_of_the_seed_and_kept(data, tmp_path, tiny):
    for name in ("one", "two"):
        distill_pairs.make_pairs([data / "a.png"], nearest(4), tmp_path / name, 5, seed=0, side=SIDE)
    files = sorted((tmp_path / "one").iterdir())
    assert [file.name for file in files] == ["0000.npz", "0001.npz"]
    first, again = np.load(files[0]), np.load(tmp_path / "two" / "0000.npz")
    assert all((first[name] == again[name]).all() for name in ("small", "clean", "teacher"))
    assert first["small"].shape == (4, SIDE, SIDE, 3) and first["teacher"].shape == (4, 2 * SIDE, 2 * SIDE, 3)
    before = files[0].stat().st_mtime_ns
    distill_pairs.make_pairs([data / "a.png"], nearest(4), tmp_path / "one", 9, seed=0, side=SIDE)
    assert files[0].stat().st_mtime_ns == before and (tmp_path / "one" / "0002.npz").exists()


def test_what_is_wanted_is_the_clean_patch_with_the_teachers_detail(data, tmp_path, tiny, monkeypatch):
    distill_pairs.make_pairs([data / "a.png"], nearest(2), tmp_path / "pairs", 4, seed=0, side=SIDE)
    pairs = distill_upscaler.Pairs(tmp_path / "pairs")
    checks = np.indices((2 * SIDE, 2 * SIDE)).sum(0)[None, ..., None] % 2
    pairs.teacher, pairs.clean = (180 + 40 * checks).repeat(3, -1).repeat(4, 0), np.full_like(pairs.clean, 100)
    monkeypatch.setattr(distill_upscaler, "GRAINY", 0)
    images, wanted = pairs.batch(3, 0.25, np.random.default_rng(0))
    assert images.shape == (3, 3, SIDE, SIDE) and images.dtype == torch.float32
    levels = 255 * wanted[..., 20:-20, 20:-20]
    assert levels.mean().item() == pytest.approx(100, abs=0.1)  # not brighter, as the teacher is
    assert levels.max().item() == pytest.approx(105, abs=0.1) and levels.min().item() == pytest.approx(95, abs=0.1)
    monkeypatch.setattr(distill_upscaler, "GRAINY", 1)
    _, grainy = pairs.batch(3, 0.25, np.random.default_rng(0))
    assert grainy.std() > wanted.std()


def test_a_view_is_turned_mirrored_and_colored():
    picture = np.zeros((2, 2, 3), np.uint8)
    picture[0, 1] = 10, 20, 255
    colors = np.array([2, 0, 1])
    seen = distill_upscaler.view(picture, 1, False, colors, False)  # a quarter to the left: the right column is on top
    assert seen[0, 0].tolist() == pytest.approx([1, 10 / 255, 20 / 255])
    mirrored = distill_upscaler.view(picture, 1, True, colors, False)
    assert (mirrored == seen[:, ::-1]).all()
    assert np.ptp(distill_upscaler.view(picture, 0, False, colors, True), axis=-1).max() == 0


def test_grain_is_gray_on_wish_and_weak():
    rng = np.random.default_rng(0)
    gray = [distill_upscaler.grain(rng, 20, 30, True) for _ in range(20)]
    assert all(np.ptp(noise, axis=-1).max() < 1e-6 and noise.shape == (20, 30, 3) for noise in gray)
    strengths = [noise.std() for noise in gray]
    assert 0 < min(strengths) and max(strengths) < 1.2 * distill_upscaler.STRONGEST_GRAIN


def test_the_loss_leaves_the_border_out_and_heeds_detail():
    wanted = torch.rand(1, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    assert distill_upscaler.loss(wanted, wanted) == 0
    framed, lighter, rougher = wanted.clone(), wanted + 0.1, wanted + 0.1 * (torch.arange(48) % 2 * 2 - 1)
    framed[..., :16] = 5
    assert distill_upscaler.loss(framed, wanted) == 0
    assert distill_upscaler.loss(lighter, wanted) == pytest.approx(0.1)
    assert distill_upscaler.loss(rougher, wanted) == pytest.approx(0.3)


def test_the_learning_rate_rises_and_falls():
    shares = [distill_upscaler.learning_rate_share(step, 1000) for step in (0, 49, 500, 999)]
    assert shares[0] < 0.03 and shares[1] > 0.98 and shares[2] == pytest.approx(0.5) and shares[3] < 1e-4


def test_command_trains_and_goes_on(data, tmp_path, tiny, capsys):
    torch.manual_seed(0)
    RRDBNet(num_channels=8, num_blocks=1, growth_channels=4).save_pretrained(tmp_path / "teacher")

    def run(output, steps):
        command = ["--data", str(data), "--teacher", str(tmp_path / "teacher"), "--output", str(tmp_path / output)]
        size = ["--pairs", "4", "--side", str(SIDE), "--num-channels", "4", "--num-convs", "1"]
        distill_upscaler.main([*command, *size, "--steps", str(steps)])
        return SRVGGNetCompact.from_pretrained(tmp_path / output / "model").state_dict()

    whole = run("whole", 4)
    config = json.loads((tmp_path / "whole" / "model" / "config.json").read_text())
    assert (config["scale"], config["num_channels"], config["num_convs"]) == (2, 4, 1)
    again = run("whole", 4)  # nothing is left to do
    assert all((whole[name] == again[name]).all() for name in whole)
    longer = run("whole", 6)
    assert torch.load(tmp_path / "whole" / "state.pt", weights_only=True)["step"] == 6
    assert any((whole[name] != longer[name]).any() for name in whole)


def test_a_student_goes_on_from_another(data, tmp_path, tiny):
    torch.manual_seed(0)
    first = SRVGGNetCompact(2, num_channels=4, num_convs=1)
    first.save_pretrained(tmp_path / "first")
    nearest(4).save_pretrained(tmp_path / "teacher")
    command = ["--data", str(data), "--teacher", str(tmp_path / "teacher"), "--output", str(tmp_path / "out")]
    start = ["--start", str(tmp_path / "first"), "--num-channels", "4", "--num-convs", "1", "--steps", "1"]
    distill_upscaler.main([*command, *start, "--pairs", "4", "--side", str(SIDE)])
    assert str(tmp_path) not in (tmp_path / "out" / "model" / "config.json").read_text()
    second = SRVGGNetCompact.from_pretrained(tmp_path / "out" / "model")
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    assert all((one - two).abs().max() < 1e-3 for one, two in pairs)  # half precision, and a step of a small rate


def test_training_comes_closer(data, tmp_path, tiny):
    distill_pairs.make_pairs([data / "a.png"], nearest(2), tmp_path / "pairs", 4, seed=0, side=SIDE)
    pairs = distill_upscaler.Pairs(tmp_path / "pairs")
    torch.manual_seed(0)
    student = SRVGGNetCompact(2, num_channels=8, num_convs=1)
    images, wanted = pairs.batch(8, 0.5, np.random.default_rng(9))
    with torch.inference_mode():
        before = distill_upscaler.loss(student(images), wanted)
    training = distill_upscaler.Training(steps=40, batch_size=2, learning_rate=5e-3)
    trained = distill_upscaler.train(student, pairs, training, tmp_path / "state.pt")
    with torch.inference_mode():
        after = distill_upscaler.loss(student.eval()(images), wanted)
    assert after < 0.8 * before
    assert isinstance(trained, SRVGGNetCompact)


def test_a_folder_without_images(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        distill_upscaler.main(["--data", str(tmp_path), "--teacher", "t", "--output", str(tmp_path)])
    assert "holds no image" in capsys.readouterr().err
