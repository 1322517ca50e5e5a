from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from difface_diffusers.degradation.blind import DegradationRanges
from difface_diffusers.training import device_faces
from difface_diffusers.training.augmentation import AugmentationRanges
from difface_diffusers.training.config import DataConfig
from difface_diffusers.training.data import FaceDataset, PositionSampler
from difface_diffusers.training.device_faces import DeviceFaces, exact_products, open_batches, size_on, stored_size

from .statistics import assert_same_distribution
from .tiny import face, write_faces


CPU = torch.device("cpu")
BY_LETTER = DataConfig(image_size=16, group_pattern="^[a-d]_", max_per_group=2)
AUGMENTATION = AugmentationRanges(rotation=10, zoom=0.1, shift=0.05, warp=0.02, tone=0.3, tint=0.1, mix=0.4)


@pytest.fixture
def folder(tmp_path):
    return write_faces(tmp_path / "faces")


def faces(folder, config=BY_LETTER, seed=0, degradation=None, holes=False):
    dataset = FaceDataset(folder, config, seed, degradation, holes)
    return DeviceFaces(dataset, stored_size(dataset), CPU)


def plain(**settings):
    return DataConfig(image_size=16, horizontal_flip=False, **settings)


def assert_same_batches(first, second):
    assert first.keys() == second.keys()
    assert all(first[name].equal(second[name]) for name in first)


# Order


def test_the_same_faces_come_at_the_same_places(folder):
    config = plain(group_pattern="^[a-d]_", max_per_group=2)
    one_by_one, batched = FaceDataset(folder, config, 3), faces(folder, config, 3)
    for place in range(7):  # 28 positions of epochs of 6
        expected = torch.stack([one_by_one[position]["clean"] for position in range(4 * place, 4 * place + 4)])
        torch.testing.assert_close(batched.batch(place, 4)["clean"], expected, rtol=0, atol=1e-6)


def test_batches_of_processes_are_those_of_one(folder):
    """As far as their faces are concerned: what happens to them is drawn by batches."""
    batched = faces(folder, plain())
    whole = batched.batch(2, 6)["clean"]
    halves = [batched.batch(2 * 2 + process, 3)["clean"] for process in range(2)]
    assert torch.cat(halves).equal(whole)


# What happens


def test_a_batch_is_a_function_of_seed_and_place(folder):
    config = DataConfig(image_size=16, augmentation=AUGMENTATION)
    first = faces(folder, config, 4, DegradationRanges())
    batches = {place: first.batch(place, 5) for place in (0, 7, 3)}
    torch.manual_seed(9)
    np.random.seed(9)  # noqa: NPY002  the global streams must not matter
    other = faces(folder, config, 4, DegradationRanges())
    for place in (3, 7, 0, 3):
        assert_same_batches(other.batch(place, 5), batches[place])
    assert not faces(folder, config, 5, DegradationRanges()).batch(3, 5)["clean"].equal(batches[3]["clean"])


def test_the_global_streams_are_left_alone(folder):
    before = torch.get_rng_state()
    faces(folder, DataConfig(image_size=16, augmentation=AUGMENTATION), 0, DegradationRanges()).batch(0, 4)
    assert torch.get_rng_state().equal(before)


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({}, {"clean", "pixel_size"}),
        ({"degradation": DegradationRanges()}, {"clean", "degraded", "pixel_size"}),
        ({"holes": True}, {"clean", "degraded", "mask", "pixel_size"}),
    ],
)
def test_a_batch_holds_what_an_item_does(folder, settings, names):
    batched = faces(folder, **settings).batch(1, 5)
    item = FaceDataset(folder, BY_LETTER, 0, **settings)[0]
    assert batched.keys() == item.keys() == names
    for name, images in batched.items():
        assert images.shape == (5, *item[name].shape) and images.dtype == item[name].dtype and images.is_contiguous()
        assert images.min() >= 0 and images.max() <= 1


def test_a_batch_tells_the_side_of_a_pixel_of_each_file(tmp_path):
    folder = write_faces(tmp_path / "faces", [f"{number}.png" for number in range(4)])
    for number in range(4, 8):
        Image.fromarray(face(number, 8, 8)).save(folder / f"{number}.png")
    dataset = FaceDataset(folder, plain(), 0)
    expected = [dataset[position]["pixel_size"].item() for position in range(40)]
    assert faces(folder, plain()).batch(0, 40)["pixel_size"].tolist() == expected
    mixed = faces(folder, plain(augmentation=AugmentationRanges(mix=1.0))).batch(0, 200)["pixel_size"]
    assert set(mixed.tolist()) == {1, 2}
    assert (mixed == 2).float().mean().item() == pytest.approx(0.75, abs=0.1)  # where either is small


def test_every_second_face_is_mirrored_with_what_is_made_of_it(folder):
    plain_faces = faces(folder, plain()).batch(0, 60)["clean"]
    mild = DegradationRanges((0.001, 0.001), (1, 1), (0, 0), (100, 100))
    batch = faces(folder, DataConfig(image_size=16), degradation=mild).batch(0, 60)
    same = (plain_faces - batch["clean"]).abs().amax((1, 2, 3)) < 1e-6
    assert 18 < same.sum() < 42
    mirrored = torch.where(same[:, None, None, None], plain_faces, plain_faces.flip(-1))
    torch.testing.assert_close(batch["clean"], mirrored)
    assert (batch["degraded"] - batch["clean"]).abs().mean() < 0.02


def test_holes_are_taken_out_of_the_clean_face(folder):
    batch = faces(folder, holes=True).batch(0, 30)
    assert set(batch["mask"].unique().tolist()) == {0, 1}
    torch.testing.assert_close(batch["degraded"], batch["clean"] * (1 - batch["mask"]))
    assert 0.15 < batch["mask"].mean() < 0.5
    scratched = FaceDataset(folder, DataConfig(image_size=64), 0, holes=True, scratch_probability=1.0)
    assert 0 < DeviceFaces(scratched, stored_size(scratched), CPU).batch(0, 30)["mask"].mean() < 0.15


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_both_sides_become_gray_together(folder, probability):
    batch = faces(folder, degradation=DegradationRanges(gray_probability=probability)).batch(0, 60)
    gray = {name: (batch[name].amax(1) - batch[name].amin(1)).amax((1, 2)) < 1e-6 for name in ("clean", "degraded")}
    assert gray["clean"].equal(gray["degraded"])
    assert gray["clean"].float().mean().item() == pytest.approx(probability, abs=0.2 if 0 < probability < 1 else 0)
    torch.testing.assert_close(255 * batch["degraded"], (255 * batch["degraded"]).round(), rtol=0, atol=1e-4)


def test_the_gray_face_is_the_luma_of_the_colored_one(folder):
    colored, gray = (
        faces(folder, degradation=DegradationRanges(gray_probability=probability)).batch(0, 4)["clean"]
        for probability in (0.0, 1.0)
    )
    luma = (colored * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    torch.testing.assert_close(gray, luma.expand(-1, 3, -1, -1), rtol=0, atol=1e-5)


def test_mixes_the_share_that_is_asked_for_within_the_epoch(tmp_path):
    write_faces(tmp_path / "faces", [f"{number}.png" for number in range(9)])
    alone = faces(tmp_path / "faces", plain()).batch(0, 90)["clean"]
    mixed = faces(tmp_path / "faces", plain(augmentation=AugmentationRanges(mix=0.5))).batch(0, 90)["clean"]
    changed = (alone - mixed).abs().amax((1, 2, 3)) > 1e-6
    assert 28 < changed.sum() < 52  # one in nine is mixed with itself
    lowest, highest = alone[:9].amin(0), alone[:9].amax(0)
    assert (mixed >= lowest - 1e-6).all() and (mixed <= highest + 1e-6).all()


def test_what_happens_has_the_distribution_of_the_one_by_one_path(folder):
    config = DataConfig(image_size=16, augmentation=AUGMENTATION)
    ranges = DegradationRanges(mild_probability=0.3, gray_probability=0.1)
    dataset = FaceDataset(folder, config, 0, ranges)
    items = [dataset[position] for position in range(420)]
    batched = DeviceFaces(dataset, stored_size(dataset), CPU)
    batches = [batched.batch(place, 70) for place in range(6, 12)]
    for name in ("clean", "degraded"):
        expected = torch.stack([item[name] for item in items])
        images = torch.cat([batch[name] for batch in batches])
        detail = [(values[..., 1:] - values[..., :-1]).abs().mean((1, 2, 3)) for values in (images, expected)]
        assert_same_distribution(*(values.mean((1, 2, 3)) for values in (images, expected)))
        assert_same_distribution(*detail)
        torch.testing.assert_close(images.mean(0), expected.mean(0), rtol=0, atol=0.04)


# Where faces are kept


@pytest.mark.parametrize(
    ("setting", "device", "memory", "expected"),
    [
        (True, "cpu", 0, 16),
        (False, "cuda", 10**12, None),
        ("auto", "cpu", 10**12, None),
        ("auto", "cuda", 3 * 7 * 3 * 16**2, 16),  # a third of it is what seven faces take
        ("auto", "cuda", 3 * 7 * 3 * 16**2 - 1, None),
    ],
)
def test_faces_go_to_a_gpu_unasked_where_they_fit(folder, monkeypatch, setting, device, memory, expected):
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=memory))
    dataset = FaceDataset(folder, plain(on_device=setting), 0)
    assert size_on(dataset, torch.device(device)) == expected


def test_faces_that_are_to_be_worn_stay(folder, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=10**12))
    worn, plain_ranges = DegradationRanges(wear_probability=0.1), DegradationRanges()
    for ranges, expected in ((worn, None), (plain_ranges, 16)):
        dataset = FaceDataset(folder, plain(on_device="auto"), 0, ranges)
        assert size_on(dataset, torch.device("cuda")) == expected
    message = r"`data.on_device` is True and `degradation.wear_probability` 0.1; wear is done one by one alone"
    with pytest.raises(ValueError, match=message):
        FaceDataset(folder, plain(on_device=True), 0, worn)
    FaceDataset(folder, plain(on_device=True), 0, plain_ranges)
    FaceDataset(folder, plain(on_device=False), 0, worn)


def test_faces_that_stay_are_not_looked_at(folder, monkeypatch):
    monkeypatch.setattr(device_faces, "stored_size", None)
    for setting in (False, "auto"):
        dataset = FaceDataset(folder, plain(on_device=setting, augmentation=AUGMENTATION), 0)
        assert size_on(dataset, CPU) is None


@pytest.mark.parametrize("on_device", [False, True])
def test_both_kinds_of_batches_are_those_of_the_sampler(folder, on_device):
    dataset = FaceDataset(folder, plain(on_device=on_device), 0)
    for process in range(2):
        sampler = PositionSampler(3, 6, 2, process, 2)
        batches = list(open_batches(dataset, sampler, 0, CPU))
        assert len(batches) == 3
        for batch, positions in zip(batches, sampler, strict=True):
            expected = torch.stack([dataset[position]["clean"] for position in positions])
            torch.testing.assert_close(batch["clean"], expected, rtol=0, atol=1e-6)


def test_faces_that_are_left_out_are_not_read(folder):
    (folder / "b_0.png").write_bytes(b"none")
    dataset = FaceDataset(folder, plain(), 0)
    names = dataset.source.names
    some = dataset.without({names.index("b_0.png")})
    batched = DeviceFaces(some, stored_size(some), CPU)
    assert len(batched.faces) == 6
    torch.testing.assert_close(
        batched.batch(0, 6)["clean"], torch.stack([some[n]["clean"] for n in range(6)]), rtol=0, atol=1e-6
    )


# Loading


@pytest.mark.parametrize(
    ("augmentation", "side", "kept"),
    [
        (AugmentationRanges(), 64, 16),
        (AugmentationRanges(tone=0.3, mix=0.2), 64, 16),
        (AugmentationRanges(rotation=2), 64, 32),
        (AugmentationRanges(warp=0.01), 32, 32),
        (AugmentationRanges(zoom=0.1), 31, 16),
        (AugmentationRanges(shift=0.1), 8, 16),
    ],
)
def test_faces_that_are_deformed_are_kept_at_twice_the_size_if_they_have_it(tmp_path, augmentation, side, kept):
    for seed in range(3):
        Image.fromarray(face(seed, side, side)).save(tmp_path / f"{seed}.png")
    batched = faces(tmp_path, plain(augmentation=augmentation))
    assert batched.faces.shape == (3, 3, kept, kept) and batched.faces.dtype == torch.uint8
    assert batched.batch(0, 2)["clean"].shape == (2, 3, 16, 16)


def test_deformed_faces_are_deformed_before_they_are_shrunk(folder):
    """With nothing drawn, what is left is the shrinking, which is that of the data set."""
    config = plain(augmentation=AugmentationRanges(rotation=1e-9))
    expected = FaceDataset(folder, plain(), 0)
    answer = faces(folder, config).batch(0, 6)["clean"]
    assert (255 * (answer - torch.stack([expected[n]["clean"] for n in range(6)]))).abs().max() <= 1.01


def test_many_faces_are_changed_in_parts(folder, monkeypatch):
    config = plain(augmentation=AugmentationRanges(zoom=1e-9))
    whole = faces(folder, config).batch(0, 6)["clean"]
    monkeypatch.setattr(device_faces, "CHUNK", 4 * 32**2)
    assert faces(folder, config).batch(0, 6)["clean"].equal(whole)


def test_products_are_exact_for_as_long_as_it_takes():
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("high")
        with exact_products():
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)
