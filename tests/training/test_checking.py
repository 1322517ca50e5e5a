import shutil
import time
import warnings

import numpy as np
import pytest
from accelerate import Accelerator
from PIL import Image

from difface_diffusers.degradation.blind import DegradationRanges
from difface_diffusers.training import checking
from difface_diffusers.training.checking import check_faces
from difface_diffusers.training.config import DataConfig
from difface_diffusers.training.data import FaceDataset
from difface_diffusers.training.loop import train
from tests.conftest import warned_at

from .test_loop import prepare
from .test_sources import SOURCES, caches, rows_of, write_tar  # noqa: F401  a fixture
from .tiny import face, write_faces


NAMES = ["a_0.png", "a_1.jpg", "b_0.png", "b_1.jpg", "c_0.webp", "c_1.png"]


@pytest.fixture
def folder(tmp_path):
    return write_faces(tmp_path / "faces", NAMES)


def dataset(source, **settings):
    settings = {"image_size": 16, "group_pattern": "^[a-c]_", "max_per_group": 2} | settings
    return FaceDataset(source, DataConfig(**settings), 0, DegradationRanges())


def check(source, validation=None, **settings):
    return check_faces(dataset(source, **settings), validation, Accelerator())


def cut(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 4 // 5])


def scramble(path):
    path.write_bytes(b"no picture at all")


def empty(path):
    path.write_bytes(b"")


def widen(path):
    Image.fromarray(face(1, 32, 33)).save(path)


def change_mode(path):
    Image.fromarray(np.zeros((32, 32), np.float32)).save(path, format="TIFF")


# Broken images


@pytest.mark.parametrize("name", ["a_1.jpg", "b_0.png", "c_0.webp"])
@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (cut, "cannot be read as an image"),
        (scramble, "cannot be read as an image"),
        (empty, "cannot be read as an image"),
        (widen, "is 33 x 32 pixels, and not square"),
        (change_mode, "mode F"),
    ],
)
def test_an_image_that_cannot_be_used_is_named(folder, name, damage, fault):
    damage(folder / name)
    with pytest.raises(
        ValueError, match=rf"`data` is .*faces: 1 of 6 images cannot be used: .*{name} .*{fault}.*; mend"
    ):
        check(folder)


@pytest.mark.parametrize("kind", SOURCES)
def test_wherever_it_lies(tmp_path, kind):
    folder = write_faces(tmp_path / "faces", ["a_0.png", "a_1.png", "b_0.png", "b_1.png", "b_2.png", "c_0.png"])
    cut(folder / "b_1.png")
    widen(folder / "c_0.png")
    source = SOURCES[kind](folder, tmp_path / "other")
    message = (
        r"2 of 6 images cannot be used: b_1\.png in .* cannot be read.*; c_0\.png in .* is 33 x 32 pixels, and not"
    )
    with pytest.raises(ValueError, match=message):
        check(source)
    with warned_at(__file__, r"2 of 6 images cannot be used: .*; they are left out\.$"):
        faces = check(source, skip_broken=True).trained
    assert faces.groups == [[0, 1], [2, 4]]
    drawn = {faces.face(position) for position in range(20)}
    assert drawn == {0, 1, 2, 4}


def test_of_many_the_first_are_named(folder):
    for path in folder.iterdir():
        scramble(path)
    with pytest.raises(
        ValueError, match=r"6 of 6 images cannot be used: .*a_0.*; .*a_1.*; .*b_0[^;]*; and 3 more; mend"
    ):
        check(folder)
    with pytest.raises(ValueError, match="6 of 6 images cannot be used"):
        check(folder, skip_broken=True)


def test_what_is_left_is_the_stream_of_the_others(folder, tmp_path):
    others = write_faces(tmp_path / "others", NAMES)
    (others / "b_0.png").unlink()
    cut(folder / "b_0.png")
    with warned_at(__file__, "1 of 6"):
        left = check(folder, skip_broken=True)
    expected = check(others)
    assert left.digest == expected.digest
    for position in range(12):
        for name, image in expected.trained[position].items():
            assert left.trained[position][name].equal(image)


def test_sound_faces_stay_as_they_are(folder):
    faces = dataset(folder, skip_broken=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_faces(faces, None, Accelerator()).trained is faces


def test_the_digest_is_that_of_the_pictures_and_their_groups(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    digest = check(folder).digest
    assert check(tmp_path / "copy").digest == digest
    assert check(folder, group_pattern=None).digest != digest
    Image.fromarray(face(77)).save(folder / "c_1.png")
    assert check(folder).digest != digest


def test_processes_share_the_work(folder, monkeypatch):
    class Process:
        num_processes, is_main_process = 3, True

        def __init__(self, process_index):
            self.process_index = process_index

    looked = []
    look = checking._look
    monkeypatch.setattr(checking, "_look", lambda source, number: looked.append(number) or look(source, number))
    expected = checking._look_at_all(dataset(folder).source, Accelerator())
    shares = []
    monkeypatch.setattr(checking, "gather_object", lambda looks: shares.extend(looks) or shares)
    looked.clear()
    for process in range(3):
        answer = checking._look_at_all(dataset(folder).source, Process(process))
    assert sorted(looked) == list(range(6))
    assert answer == expected


def test_nothing_is_begun_with_a_broken_face(folder, tmp_path):
    scramble(folder / "c_1.png")
    with pytest.raises(ValueError, match="1 of 6 images cannot be used"):
        train(*prepare(folder), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_faces_to_judge_by_are_looked_at_too(folder, tmp_path):
    held_out = write_faces(tmp_path / "held_out", ["v_0.png", "v_1.png"], seed=50)
    cut(held_out / "v_1.png")
    with pytest.raises(
        ValueError, match=r"`monitoring\.validation` is .*held_out: 1 of 2 images cannot be used: .*v_1"
    ):
        check(folder, str(held_out))
    with warned_at(__file__, "1 of 2 images cannot be used"):
        assert check(folder, str(held_out), skip_broken=True).held_out.epoch_length == 1


@pytest.mark.slow
def test_five_thousand_faces_take_seconds(tmp_path):
    (tmp_path / "faces").mkdir()
    for number in range(50):
        Image.fromarray(face(number, 256, 256)).save(tmp_path / "faces" / f"{number:04}.jpg", quality=95)
    for number in range(50, 5000):
        shutil.copy(tmp_path / "faces" / f"{number % 50:04}.jpg", tmp_path / "faces" / f"{number:04}.jpg")
    faces = dataset(tmp_path / "faces", group_pattern=None)
    started = time.process_time()
    check_faces(faces, None, Accelerator())
    assert time.process_time() - started < 20


# Faces to judge by


def same(folder):
    return folder


def link(folder):
    (folder.parent / "link").symlink_to(folder, target_is_directory=True)
    return folder.parent / "link"


def links_to_files(folder):
    (folder.parent / "links").mkdir()
    (folder.parent / "links" / "x.png").symlink_to(folder / "b_0.png")
    (folder.parent / "links" / "y.png").hardlink_to(folder / "c_1.png")
    Image.fromarray(face(60)).save(folder.parent / "links" / "z.png")
    return folder.parent / "links"


def inside(folder):
    (folder / "some").mkdir()
    (folder / "b_0.png").rename(folder / "some" / "b_0.png")
    return folder / "some"


def around(folder):
    write_faces(folder.parent, ["more.png"], seed=60)
    return folder.parent


@pytest.mark.parametrize(
    ("elsewhere", "count"),
    [
        (same, "6 of its 6"),
        (link, "6 of its 6"),
        (links_to_files, "2 of its 3"),
        (inside, "1 of its 1"),
        (around, "6 of"),
    ],
)
def test_faces_that_are_trained_on_are_refused(folder, elsewhere, count):
    validation = elsewhere(folder)
    message = (
        rf"`monitoring\.validation` is {validation}: {count}.* faces, such as .*, are trained on; it must hold others"
    )
    with pytest.raises(ValueError, match=message):
        check(folder, str(validation))


@pytest.mark.parametrize("kind", SOURCES)
def test_the_same_files_are_refused(tmp_path, kind):
    source = SOURCES[kind](
        write_faces(tmp_path / "faces", [f"{letter}_0.png" for letter in "abcdef"]), tmp_path / "other"
    )
    with pytest.raises(ValueError, match=r"6 of its 6 faces, such as .*, are trained on"):
        check(source, str(source))


def test_one_of_several_files_is_refused(tmp_path):
    faces = write_faces(tmp_path / "faces", [f"{letter}_0.png" for letter in "abcdef"])
    tars, tables = (
        SOURCES["tar folder"](faces, tmp_path / "tars"),
        SOURCES["parquet folder"](faces, tmp_path / "tables"),
    )
    for source, part, count in ((tars, "faces-001.tar", 2), (tables, "train-1.parquet", 2)):
        with pytest.raises(ValueError, match=rf"{count} of its {count} faces, such as .*, are trained on"):
            check(source, str(source / part))


def test_parts_of_a_dataset_on_the_hub(folder, monkeypatch):
    rows = rows_of([folder / name for name in NAMES])
    parts = {"train": rows, "train[:50%]": rows.select(range(3)), "train[50%:]": rows.select(range(3, 6))}
    monkeypatch.setattr("datasets.load_dataset", lambda name, split: parts[split])
    assert len(check("org/faces:train[:50%]", "org/faces:train[50%:]").held_out.groups) == 3
    for training, validation in (("", ":train"), (":train", ""), ("", ":train[50%:]"), (":train[:50%]", "")):
        with pytest.raises(
            ValueError, match=r"`monitoring\.validation` is org/faces.*: [36] of its [36] faces, such as"
        ):
            check(f"org/faces{training}", f"org/faces{validation}")


def test_copies_elsewhere_are_warned_of(folder, tmp_path):
    held_out = write_faces(tmp_path / "held_out", ["v.png"], seed=50)
    shutil.copy(folder / "c_1.png", held_out / "w.png")
    with warned_at(__file__, r"held_out: 1 of its 2 faces, such as w\.png, have copies among those that are"):
        assert check(folder, str(held_out)).held_out.epoch_length == 2
    tar = write_tar(tmp_path / "faces.tar", [folder / "c_1.png"])
    with warned_at(__file__, r"faces\.tar: 1 of its 1 faces, such as c_1\.png, have copies"):
        check(folder, str(tar))
