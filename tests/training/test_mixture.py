from collections import Counter

import pytest
import torch

from difface_diffusers.training.config import DataConfig
from difface_diffusers.training.data import FaceDataset
from difface_diffusers.training.mixture import DataSource, Mixture, choose_sources, parse_source

from .tiny import write_faces


# On the command line


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("faces", DataSource("faces")),
        ("faces,weight=2.5", DataSource("faces", 2.5)),
        ("org/faces:train[:90%],max_size=128,min_size=32", DataSource("org/faces:train[:90%]", 1, 32, 128)),
        ("a,b,weight=3,min_size=256", DataSource("a,b", 3, 256)),
        ("faces,width=3", DataSource("faces,width=3")),
    ],
)
def test_reads_a_place_and_what_is_said_of_it(text, expected):
    assert parse_source(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("f,weight=much", "`data` is f,weight=much: `weight` is 'much'; it must be a number"),
        ("f,min_size=1.5", "`min_size` is '1.5'"),
        ("f,weight=", "`weight` is ''"),
        ("f,weight=1,weight=2", "`weight` is there twice"),
        ("f,weight=0", "`weight` of f is 0.0; it must be above 0 and finite"),
        ("f,weight=nan", "`weight` of f is nan"),
        ("f,weight=inf", "`weight` of f is inf"),
        ("f,min_size=0", "`min_size` of f is 0; it must be at least 1"),
        ("f,min_size=64,max_size=32", "`max_size` of f is 32; it must be at least `min_size`, 64"),
    ],
)
def test_what_cannot_be_used_is_named(text, message):
    with pytest.raises(ValueError) as error:
        parse_source(text)
    assert message in str(error.value)


# Sizes


def test_a_training_takes_what_serves_its_size():
    small, large, any_size = DataSource("s", max_size=128), DataSource("l", min_size=129), DataSource("a")
    data = [small, large, any_size]
    assert choose_sources(data, 128) == [small, any_size]
    assert choose_sources(data, 129) == [large, any_size]
    assert choose_sources("a", 9) == choose_sources(any_size, 9) == choose_sources(["a"], 9) == [any_size]


@pytest.mark.parametrize(
    ("data", "limits"),
    [
        ([DataSource("s", max_size=128), DataSource("l", min_size=512)], "s from 1 to 128 pixels, l from 512 to any"),
        ([], "it is empty"),
    ],
)
def test_nothing_for_a_size_is_an_error(data, limits):
    with pytest.raises(ValueError) as error:
        choose_sources(data, 256)
    assert "`data` has nothing for a training at 256 pixels" in str(error.value) and limits in str(error.value)


# Faces


@pytest.fixture
def folders(tmp_path):
    return write_faces(tmp_path / "first"), write_faces(tmp_path / "second", seed=50)


def test_faces_lie_one_place_after_the_other(folders):
    mixture, alone = Mixture([DataSource(folder) for folder in folders]), [FaceDataset(f, SIZE, 0) for f in folders]
    expected = [(part.source, number) for part in alone for number in range(len(part.source.names))]
    assert len(mixture.names) == len(expected)
    for number, (source, own) in enumerate(expected):
        assert mixture.names[number] == source.names[own]
        assert mixture.file(number) == source.file(own)
        assert mixture.load(number).tobytes() == source.load(own).tobytes()
    assert mixture.places() == alone[0].source.places() | alone[1].source.places()


SIZE = DataConfig(image_size=16)
GROUPED = DataConfig(image_size=16, group_pattern="^[a-d]_", max_per_group=2)  # 6 of 7 faces a folder


def drawn(dataset, epochs=1):
    return Counter(dataset.face(position) for position in range(epochs * dataset.epoch_length))


def test_each_face_comes_as_often_as_its_weight_says(folders):
    dataset = FaceDataset([DataSource(folders[0], 3), folders[1]], SIZE, 0)
    first, second = dataset.source.parts
    for epoch in (1, 2):
        counts = drawn(dataset, epoch)
        assert {counts[face] for face in first.faces} == {3 * epoch}
        assert {counts[face] for face in second.faces} == {epoch}


def test_a_fraction_of_a_weight_is_met_on_average(folders):
    dataset = FaceDataset([DataSource(folders[0], 1.5), DataSource(folders[1], 0.25)], GROUPED, 0)
    assert dataset.epoch_length == 9 + 2
    first, second = dataset.source.parts
    for position in range(0, 60 * dataset.epoch_length, dataset.epoch_length):
        epoch = [dataset.face(number) for number in range(position, position + dataset.epoch_length)]
        assert sum(face in first.faces for face in epoch) == 9
        assert max(Counter(epoch).values()) <= 2
    counts = drawn(dataset, 60)
    assert all(counts[face] > 40 for face in first.faces)
    assert all(counts[face] > 4 for face in second.faces)


def test_the_smallest_weight_is_one_face(folders):
    dataset = FaceDataset(DataSource(folders[0], 0.001), SIZE, 0)
    assert dataset.epoch_length == 1
    assert len({dataset.face(epoch) for epoch in range(60)}) == 7


def test_groups_do_not_reach_beyond_their_place(folders):
    dataset = FaceDataset(list(folders), GROUPED, 0)
    assert len(dataset.groups) == 8 and dataset.epoch_length == 12
    assert all(len({face >= 7 for face in group}) == 1 for group in dataset.groups)


def test_a_place_alone_is_drawn_from_as_without_a_weight(folders):
    plain, weighted = FaceDataset(folders[0], GROUPED, 3), FaceDataset([DataSource(folders[0], 1.0)], GROUPED, 3)
    for position in range(13):
        assert torch.equal(plain[position]["clean"], weighted[position]["clean"])


def test_what_is_left_out_lowers_its_places_share_alone(folders):
    dataset = FaceDataset([DataSource(folders[0], 2), folders[1]], SIZE, 0)
    assert dataset.epoch_length == 21
    assert dataset.without({0}).epoch_length == 19
    assert dataset.without({7}).epoch_length == 20
    assert set(drawn(dataset.without(set(range(7))))) == set(range(7, 14))


def test_errors_name_all_places(folders):
    assert FaceDataset([DataSource(folders[0], 2), folders[1]], SIZE, 0).origin == f"{folders[0]} + {folders[1]}"
    with pytest.raises(ValueError, match=r"`data` is .*nowhere: there is no such file or folder"):
        FaceDataset([folders[0], folders[1] / "nowhere"], SIZE, 0)
