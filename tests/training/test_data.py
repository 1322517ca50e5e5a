import warnings
from itertools import chain

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from difface_diffusers.degradation.blind import DegradationRanges
from difface_diffusers.training.augmentation import AugmentationRanges
from difface_diffusers.training.config import DataConfig
from difface_diffusers.training.data import FaceDataset, PositionSampler, load_batches, read_face

from .tiny import face, write_faces


BY_LETTER = DataConfig(image_size=16, group_pattern="^[a-d]_", max_per_group=2)  # groups of 3, 2, 1 and 1 files


@pytest.fixture
def folder(tmp_path):
    return write_faces(tmp_path / "faces")


def paths_of(dataset, epoch):
    first = epoch * dataset.epoch_length
    return [dataset.source.names[dataset.face(position)] for position in range(first, first + dataset.epoch_length)]


def images_of(item):
    return [item["clean"], item["degraded"]]


def assert_same_items(first, second):
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=0)


# Reading


def test_reads_rgb_on_0_to_1(tmp_path):
    pixels = face(0)
    Image.fromarray(pixels).save(tmp_path / "face.png")
    image = read_face(tmp_path / "face.png", 32)
    assert image.dtype == np.float32
    np.testing.assert_allclose(image, pixels / 255, atol=1e-6)


def test_shrinks_by_area(tmp_path):
    pixels = face(1, 64, 64)
    Image.fromarray(pixels).save(tmp_path / "face.png")
    means = pixels.reshape(16, 4, 16, 4, 3).mean(axis=(1, 3)) / 255
    np.testing.assert_allclose(read_face(tmp_path / "face.png", 16), means, atol=0.51 / 255)


def test_enlarges_smoothly(tmp_path):
    Image.fromarray(face(1, 16, 16)).save(tmp_path / "face.png")
    image = read_face(tmp_path / "face.png", 64)
    assert image.shape == (64, 64, 3)
    assert np.abs(np.diff(image, axis=1)).max() < 0.1


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK"])
def test_other_modes_become_rgb(tmp_path, mode):
    picture = Image.fromarray(face(2)).convert(mode)
    path = tmp_path / ("face.jpg" if mode == "CMYK" else "face.png")
    picture.save(path)
    picture.convert("RGB").save(tmp_path / "plain.png")
    image = read_face(path, 32)
    assert image.shape == (32, 32, 3)
    assert np.abs(image - read_face(tmp_path / "plain.png", 32)).mean() < 0.02


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_file_that_is_cut_short_is_refused(tmp_path, suffix, share):
    path = tmp_path / f"face.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"face\.\w+ cannot be read as an image"):
        read_face(path, 16)


# Items


def test_an_item(folder):
    item = FaceDataset(folder, BY_LETTER, 0, DegradationRanges())[3]
    assert set(item) == {"clean", "degraded", "pixel_size"}
    for image in images_of(item):
        assert image.shape == (3, 16, 16)
        assert image.dtype == torch.float32
        assert image.min() >= 0
        assert image.max() <= 1
    assert (item["clean"] - item["degraded"]).abs().mean() > 0.01


def test_without_degradation_there_is_but_the_clean_face(folder):
    assert set(FaceDataset(folder, BY_LETTER, 0)[0]) == {"clean", "pixel_size"}


def test_an_item_depends_on_seed_and_position_alone(folder):
    positions = [0, 13, 5, 27, 1, 6, 5]
    forward = FaceDataset(folder, BY_LETTER, 4, DegradationRanges())
    backward = FaceDataset(folder, BY_LETTER, 4, DegradationRanges())
    items = {position: forward[position] for position in positions}
    np.random.seed(3)  # noqa: NPY002  the global streams must not matter
    torch.manual_seed(3)
    for position in reversed(positions):
        assert_same_items(backward[position], items[position])

    other = FaceDataset(folder, BY_LETTER, 5, DegradationRanges())
    assert any(not other[position]["clean"].equal(items[position]["clean"]) for position in positions)


def test_positions_differ_in_their_degradation(tmp_path):
    dataset = FaceDataset(write_faces(tmp_path, ["only.png"]), DataConfig(16, False), 0, DegradationRanges())
    assert dataset[0]["clean"].equal(dataset[1]["clean"])
    assert not dataset[0]["degraded"].equal(dataset[1]["degraded"])


@pytest.mark.parametrize("num_workers", [1, 3])
def test_workers_do_not_matter(folder, num_workers):
    def batches(num_workers):
        dataset = FaceDataset(folder, BY_LETTER, 0, DegradationRanges())
        return list(DataLoader(dataset, batch_sampler=PositionSampler(2, 6, 3), num_workers=num_workers))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # more workers than cores
        parallel = batches(num_workers)
    for first, second in zip(batches(0), parallel, strict=True):
        assert_same_items(first, second)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_workers_have_one_thread_and_leave_the_others_theirs(folder, num_workers, monkeypatch):
    monkeypatch.setattr(FaceDataset, "__getitem__", lambda self, index: {"threads": torch.tensor(cv2.getNumThreads())})
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    try:
        cv2.resize(np.zeros((2000, 2000, 3), np.uint8), (999, 999))  # its threads are there, and not in what is forked
        batches = load_batches(FaceDataset(folder, BY_LETTER, 0), PositionSampler(0, 3, 2), num_workers)
        threads = torch.cat([batch["threads"] for batch in batches])
        assert threads.tolist() == [1 if num_workers else 2] * 6 and cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(before)


def test_mirrors_every_second_face(tmp_path):
    write_faces(tmp_path, ["only.png"])
    plain = FaceDataset(tmp_path, DataConfig(16, horizontal_flip=False), 0)[0]["clean"]
    flipped = FaceDataset(tmp_path, DataConfig(16), 0)
    mirrored = [not flipped[position]["clean"].equal(plain) for position in range(60)]
    assert 18 < sum(mirrored) < 42
    torch.testing.assert_close(flipped[mirrored.index(True)]["clean"], plain.flip(-1), rtol=0, atol=0)


def test_the_degraded_face_is_mirrored_alike(folder):
    mild = DegradationRanges((0.001, 0.001), (1, 1), (0, 0), (100, 100))
    dataset = FaceDataset(folder, BY_LETTER, 0, mild)
    for position in range(8):
        item = dataset[position]
        assert (item["clean"] - item["degraded"]).abs().mean() < 0.02
        assert (item["clean"].flip(-1) - item["degraded"]).abs().mean() > 0.05


@pytest.mark.parametrize(("probability", "gray"), [(1.0, True), (0.0, False)])
def test_both_sides_become_gray_together(folder, probability, gray):
    dataset = FaceDataset(folder, BY_LETTER, 0, DegradationRanges(gray_probability=probability))
    for position in range(4):
        for image in images_of(dataset[position]):
            assert (image.amax(0) - image.amin(0)).max().item() == pytest.approx(0, abs=1e-6) or not gray
            assert gray or (image[0] - image[2]).abs().max() > 0.05
        levels = dataset[position]["degraded"] * 255
        torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-4)


def test_the_gray_face_is_the_luma_of_the_colored_one(folder):
    colored, gray = (
        FaceDataset(folder, BY_LETTER, 0, DegradationRanges(gray_probability=probability))[2]["clean"]
        for probability in (0.0, 1.0)
    )
    luma = (colored * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(0)
    torch.testing.assert_close(gray, luma.expand(3, -1, -1), rtol=0, atol=1e-5)


def test_a_share_of_pairs_becomes_gray(folder):
    dataset = FaceDataset(folder, BY_LETTER, 0, DegradationRanges(gray_probability=0.3))
    pairs = [dataset[position] for position in range(80)]
    gray = [[image[0].equal(image[2]) for image in images_of(pair)] for pair in pairs]
    assert all(clean == degraded for clean, degraded in gray)
    assert 12 < sum(clean for clean, _ in gray) < 36


# Epochs and groups


def test_an_epoch_limits_every_group_and_leaves_none_out(folder):
    dataset = FaceDataset(folder, BY_LETTER, 0)
    assert dataset.epoch_length == 2 + 2 + 1 + 1
    for epoch in range(5):
        names = paths_of(dataset, epoch)
        assert len(set(names)) == len(names)
        assert {letter: sum(name[0] == letter for name in names) for letter in "abcd"} == {
            "a": 2,
            "b": 2,
            "c": 1,
            "d": 1,
        }


def test_epochs_take_turns_within_a_group_and_are_shuffled_anew(folder):
    dataset = FaceDataset(folder, BY_LETTER, 0)
    epochs = [paths_of(dataset, epoch) for epoch in range(8)]
    assert {name for names in epochs for name in names if name[0] == "a"} == {"a_0.png", "a_1.png", "a_2.png"}
    assert len({tuple(name[0] for name in names) for names in epochs}) > 4


def test_without_pattern_every_file_stands_alone(folder):
    dataset = FaceDataset(folder, DataConfig(16), 0)
    assert dataset.epoch_length == 7
    assert sorted(paths_of(dataset, 3)) == sorted(path.name for path in folder.rglob("*.*g"))


def test_a_file_without_match_stands_alone(folder):
    assert FaceDataset(folder, DataConfig(16, group_pattern="^a_"), 0).epoch_length == 1 + 4


def test_order_of_the_file_system_does_not_matter(folder, monkeypatch):
    names = paths_of(FaceDataset(folder, BY_LETTER, 0), 0)
    listed = sorted(folder.rglob("*"))
    monkeypatch.setattr(type(folder), "rglob", lambda self, pattern: iter(listed[::-1]))
    assert paths_of(FaceDataset(folder, BY_LETTER, 0), 0) == names


def test_other_files_are_passed_over(folder):
    (folder / "license.txt").write_text("free")
    assert FaceDataset(folder, DataConfig(16), 0).epoch_length == 7


# Sharding


@pytest.mark.parametrize(("processes", "batch_size"), [(2, 3), (3, 1), (6, 1)])
def test_processes_share_the_positions_of_one(processes, batch_size):
    total = processes * batch_size
    alone = list(PositionSampler(4, 9, total))
    shards = [list(PositionSampler(4, 9, batch_size, process, processes)) for process in range(processes)]
    together = [list(chain(*batches)) for batches in zip(*shards, strict=True)]
    assert together == alone
    assert list(chain(*alone)) == list(range(4 * total, 9 * total))


def test_sampler_knows_its_length():
    sampler = PositionSampler(4, 9, 2, 1, 2)
    assert len(sampler) == len(list(sampler)) == 5
    assert list(sampler) == list(sampler)


def test_mixes_the_share_of_faces_that_is_asked_for(folder):
    plain = DataConfig(image_size=16, horizontal_flip=False)
    half = DataConfig(image_size=16, horizontal_flip=False, augmentation=AugmentationRanges(mix=0.5))
    alone, mixed = FaceDataset(folder, plain, seed=0), FaceDataset(folder, half, seed=0)
    changed = [not torch.equal(alone[position]["clean"], mixed[position]["clean"]) for position in range(140)]
    assert 45 < sum(changed) < 80  # one in seven is mixed with itself
    assert_same_items(mixed[50], FaceDataset(folder, half, seed=0)[50])


def test_mixes_with_faces_of_the_same_epoch(tmp_path):
    """A face lies between two of the three, and all three turn up beside the first."""
    for level in (0, 100, 200):
        (tmp_path / "flat").mkdir(exist_ok=True)
        Image.new("RGB", (16, 16), (level,) * 3).save(tmp_path / "flat" / f"{level}.png")
    config = DataConfig(image_size=16, augmentation=AugmentationRanges(mix=1.0))
    dataset = FaceDataset(tmp_path / "flat", config, seed=0)
    pairs = {
        tuple((dataset[position]["clean"].aminmax()[edge] * 255).round().int().item() for edge in (0, 1))
        for position in range(100)
    }
    assert {(0, 100), (0, 200), (100, 200), (0, 0), (100, 100), (200, 200)} <= pairs


def test_augments_the_clean_face_before_it_is_resized_and_degraded(folder):
    plain = FaceDataset(folder, DataConfig(image_size=16), 0, DegradationRanges())
    brighter = DataConfig(image_size=16, augmentation=AugmentationRanges(tone=0.5))
    changed = FaceDataset(folder, brighter, 0, DegradationRanges())
    differences = [(changed[n]["clean"] - plain[n]["clean"]).mean().item() for n in range(8)]
    assert min(differences) < -0.02 and max(differences) > 0.02
    for n in range(8):
        degraded = (changed[n]["degraded"] - plain[n]["degraded"]).mean().item()
        assert degraded == pytest.approx(differences[n], abs=0.05)
    assert_same_items(changed[5], FaceDataset(folder, brighter, 0, DegradationRanges())[5])


@pytest.mark.parametrize(("side", "pixel_size"), [(4, 4), (8, 2), (11, 1), (16, 1), (32, 1)])
def test_an_item_tells_the_side_of_a_pixel_of_its_file(tmp_path, side, pixel_size):
    Image.fromarray(face(0, side, side)).save(tmp_path / "face.png")
    item = FaceDataset(tmp_path, DataConfig(image_size=16), 0)[0]
    assert (item["pixel_size"].dtype, item["pixel_size"].item()) == (torch.int64, pixel_size)


def test_a_mixed_face_is_as_coarse_as_the_coarser_one(tmp_path):
    folder = write_faces(tmp_path / "faces", [f"{number}.png" for number in range(6)])
    for number in range(6, 12):
        Image.fromarray(face(number, 8, 8)).save(folder / f"{number}.png")
    config = DataConfig(image_size=16, horizontal_flip=False, augmentation=AugmentationRanges(mix=1.0))
    sizes = torch.stack([FaceDataset(folder, config, 0)[position]["pixel_size"] for position in range(120)])
    assert set(sizes.tolist()) == {1, 2}
    assert (sizes == 2).float().mean().item() == pytest.approx(0.75, abs=0.12)  # where either is small


def test_holes_are_taken_out_of_the_clean_face(folder):
    dataset = FaceDataset(folder, BY_LETTER, 0, holes=True)
    masks = []
    for n in range(8):
        item = dataset[n]
        assert set(item) == {"clean", "degraded", "mask", "pixel_size"} and item["mask"].shape == (1, 16, 16)
        torch.testing.assert_close(item["degraded"], item["clean"] * (1 - item["mask"]))
        masks.append(item["mask"])
    assert 0 < torch.stack(masks).mean() < 1
    assert not any(torch.equal(masks[0], mask) for mask in masks[1:])
    assert_same_items(dataset[3], FaceDataset(folder, BY_LETTER, 0, holes=True)[3])


def test_holes_may_be_scratches(folder):
    dataset = FaceDataset(folder, DataConfig(image_size=64), 0, holes=True, scratch_probability=1.0)
    for faces in (dataset, dataset.held_out(folder)):
        assert all(0 < faces[n]["mask"].mean() < 0.25 for n in range(5))
