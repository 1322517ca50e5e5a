import os
import tarfile

import pytest
from PIL import Image

from difface_diffusers.degradation.blind import DegradationRanges
from difface_diffusers.training import EstimatorConfig, build_config, train_estimator
from difface_diffusers.training.config import DataConfig
from difface_diffusers.training.data import FaceDataset
from difface_diffusers.training.sources import open_faces

from .test_loop import assert_same_checkpoints
from .tiny import ESTIMATOR, changed, face, write_faces


NAMES = ["a_0.png", "a_1.png", "b_0.png", "b_1.png", "b_2.png", "c_0.png"]
BY_LETTER = DataConfig(image_size=16, group_pattern="^[a-d]_", max_per_group=2)


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def folder(tmp_path):
    return write_faces(tmp_path / "faces", NAMES)


def rows_of(paths, **columns):
    import datasets

    features = {"image": datasets.Image()} | {name: datasets.Value("int64") for name in columns}
    images = [{"bytes": path.read_bytes(), "path": path.name} for path in paths]
    return datasets.Dataset.from_dict({"image": images, **columns}, features=datasets.Features(features))


def write_tar(path, files, **names):
    """Pack files into a tar under their own names, or those that are given for their stems."""
    with tarfile.open(path, "w") as archive:
        for file in files:
            archive.add(file, arcname=names.get(file.stem, file.name))
    return path


def parquet(folder, target):
    target.mkdir()
    paths = sorted(folder.iterdir())
    for shard, part in enumerate(filter(None, (paths[:4], paths[4:]))):
        rows_of(part, age=list(range(len(part)))).to_parquet(target / f"train-{shard}.parquet")
    return target


def saved(folder, target):
    rows_of(sorted(folder.iterdir())).save_to_disk(target)
    return target


def tars(folder, target):
    target.mkdir()
    paths = sorted(folder.iterdir())
    for shard, part in enumerate((paths[:2], paths[2:4], paths[4:])):
        write_tar(target / f"faces-{shard:03d}.tar", part)
    return target


SOURCES = {
    "parquet folder": parquet,
    "parquet pattern": lambda folder, target: parquet(folder, target) / "*.parquet",
    "saved": saved,
    "tar folder": tars,
    "tar range": lambda folder, target: tars(folder, target) / "faces-{000..002}.tar",
}


# The same faces, however they are stored


@pytest.mark.parametrize("kind", SOURCES)
def test_the_stream_is_that_of_a_folder(folder, tmp_path, kind):
    other = FaceDataset(SOURCES[kind](folder, tmp_path / "other"), BY_LETTER, 0, DegradationRanges())
    expected = FaceDataset(folder, BY_LETTER, 0, DegradationRanges())
    assert list(other.source.names) == list(expected.source.names) == NAMES
    assert other.epoch_length == 5
    for position in (0, 3, 4, 11, 29):
        for name, image in expected[position].items():
            assert other[position][name].equal(image)


def test_a_training_on_tars_with_workers_ends_like_one_on_a_folder(folder, tmp_path):
    settings = {"max_steps": 3, "warmup_steps": 0, "batch_size": 2, "num_workers": 1}
    values = changed(ESTIMATOR, loop=settings)
    config = build_config(EstimatorConfig, values)
    train_estimator(config, folder, tmp_path / "folder")
    train_estimator(config, SOURCES["tar range"](folder, tmp_path / "tars"), tmp_path / "tar")
    assert_same_checkpoints(tmp_path / "folder", tmp_path / "tar", 3)


def test_turned_and_gray_images_are_read_as_from_a_folder(tmp_path):
    (tmp_path / "faces").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    Image.fromarray(face(0)).save(tmp_path / "faces" / "a.png", exif=exif)
    Image.fromarray(face(1)).convert("L").save(tmp_path / "faces" / "b.png")
    other = open_faces(parquet(tmp_path / "faces", tmp_path / "other"))
    expected = open_faces(tmp_path / "faces")
    for index in range(2):
        first, second = other.load(index), expected.load(index)
        assert first.mode == second.mode and first.tobytes() == second.tobytes()


def test_images_that_are_only_referred_to_are_read_from_their_files(folder, tmp_path):
    import datasets

    paths = [str(path) for path in sorted(folder.iterdir())]
    datasets.Dataset.from_dict({"image": paths}).cast_column("image", datasets.Image()).save_to_disk(
        tmp_path / "saved"
    )
    other = open_faces(tmp_path / "saved")
    assert list(other.names) == NAMES
    assert other.load(3).tobytes() == open_faces(folder).load(3).tobytes()


def test_images_without_names_are_numbered(folder, tmp_path):
    import datasets

    images = [{"bytes": path.read_bytes(), "path": None} for path in sorted(folder.iterdir())]
    rows = datasets.Dataset.from_dict({"face": images}, features=datasets.Features({"face": datasets.Image()}))
    rows.to_parquet(tmp_path / "faces.parquet")
    assert list(open_faces(tmp_path / "faces.parquet").names) == ["0", "1", "2", "3", "4", "5"]


def test_images_come_before_other_files(folder, tmp_path):
    parquet(folder, tmp_path / "other").rename(folder / "more")
    assert list(open_faces(folder).names) == NAMES


# Files that are no faces


def resource_fork(path):
    """What macOS writes beside a file, or packs with it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X        ")


def test_hidden_files_in_a_folder_are_no_faces(folder):
    resource_fork(folder / "._a_0.png")
    resource_fork(folder / "sub" / "._a_0.png")
    write_faces(folder / ".thumbnails", ["a_0.png"])
    (folder / "folder.png").mkdir()
    assert open_faces(folder).names == NAMES


@pytest.mark.parametrize("kind", ["parquet folder", "tar folder"])
def test_hidden_files_beside_others_are_no_data(folder, tmp_path, kind):
    for path in SOURCES[kind](folder, tmp_path / "other").iterdir():
        resource_fork(path.with_name(f"._{path.name}"))
    assert open_faces(tmp_path / "other").names == NAMES
    assert open_faces(tmp_path / "other" / f"*{path.suffix}").names == NAMES


def test_hidden_files_in_a_tar_are_no_faces(folder, tmp_path):
    resource_fork(folder / "._a_0.png")
    resource_fork(folder / "notes.txt")
    names = {"a_1": "./a_1.png", "b_0": "sub/._b_0.png", "b_1": ".hidden/b_1.png", "b_2": "__MACOSX/._b_2.png"}
    faces = open_faces(write_tar(tmp_path / "faces.tar", sorted(folder.iterdir()), **names))
    assert faces.names == ["a_0.png", "a_1.png", "c_0.png"]
    assert faces.load(1).tobytes() == Image.open(folder / "a_1.png").tobytes()


def test_hidden_rows_are_no_faces(folder, tmp_path):
    resource_fork(folder / "._a_0.png")
    rows_of(sorted(folder.iterdir())).to_parquet(tmp_path / "faces.parquet")
    faces = open_faces(tmp_path / "faces.parquet")
    assert faces.names == NAMES
    assert faces.load(5).tobytes() == Image.open(folder / "c_0.png").tobytes()


# Names in tar files


@pytest.mark.parametrize(
    "names",
    [
        ["a.b.png", "a.c.png", "d.png", "d.e.f.png", "g.png", "h.i.png"],
        ["anna.1.png", "anna.2.png", "ben.1.png", "ben.2.png", "cleo.1.png", "cleo.2.png"],
        ["v1.0 x.png", "v1.1 x.png", "v1.2.PNG", "v2.0.png", "v2.1.png", "v2.2.png"],
    ],
)
def test_dots_in_names_neither_merge_nor_lose_faces(tmp_path, names):
    folder = write_faces(tmp_path / "faces", names)
    faces = open_faces(write_tar(tmp_path / "faces.tar", [folder / name for name in names]))
    assert faces.names == names
    for index, name in enumerate(names):
        assert faces.load(index).tobytes() == Image.open(folder / name).tobytes()


def test_dots_in_names_leave_groups_as_they_are_in_a_folder(tmp_path):
    names = ["anna.1.png", "anna.2.png", "ben.1.png", "ben.x.png"]
    folder = write_faces(tmp_path / "faces", names)
    by_person = DataConfig(image_size=16, group_pattern=r"^\w+\.")
    tar = write_tar(tmp_path / "faces.tar", sorted(folder.iterdir()))
    assert FaceDataset(tar, by_person, 0).groups == FaceDataset(folder, by_person, 0).groups == [[0, 1], [2, 3]]


@pytest.mark.parametrize("parts", [("input.png", "target.png"), ("png", "mask.png"), ("png", "jpg")])
def test_several_images_of_a_sample_are_refused(tmp_path, parts):
    names = [f"{key}.{part}" for key in ("0001", "0002") for part in parts]
    folder = write_faces(tmp_path / "faces", names)
    tar = write_tar(tmp_path / "faces.tar", sorted(folder.iterdir()))
    with pytest.raises(ValueError, match=r"faces\.tar: each sample has 2 images \(\w+.*, .*\); it must have one"):
        open_faces(tar)


# The Hub


@pytest.mark.parametrize(
    ("source", "split"),
    [("org/faces", "train"), ("org/faces:validation", "validation"), ("org/faces:train[:90%]", "train[:90%]")],
)
def test_a_split_of_a_dataset_on_the_hub(folder, monkeypatch, source, split):
    asked = []
    monkeypatch.setattr(
        "datasets.load_dataset",
        lambda *arguments, **settings: asked.append((*arguments, settings)) or rows_of(sorted(folder.iterdir())),
    )
    assert list(open_faces(source).names) == NAMES
    assert asked == [("org/faces", {"split": split})]


def test_a_dataset_that_cannot_be_reached_is_named():
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    with pytest.raises(
        ValueError, match=r"`data` is org/nothing: there is no such file or folder, nor can it .*org/nothing"
    ):
        open_faces("org/nothing")


# Errors


def test_a_missing_source_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"`data` is .*nowhere: there is no such file or folder; it must be a folder of images, Parq"
    ):
        open_faces(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "source", ["faces/trian", "./trian", "faces/trian/", "../faces/trian", "faces/a_0/b", "trian"]
)
def test_a_mistyped_path_is_no_dataset_of_the_hub(folder, monkeypatch, source):
    monkeypatch.chdir(folder.parent)
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: pytest.fail("asked the Hub"))
    with pytest.raises(ValueError, match=rf"^`data` is {source}: there is no such file or folder; it must be"):
        open_faces(source)


def test_a_file_of_another_kind_is_refused(folder):
    with pytest.raises(
        ValueError, match=r"`data` is .*a_0\.png: this file is neither Parquet nor tar; it must be a fo"
    ):
        open_faces(folder / "a_0.png")


def test_a_folder_of_other_files_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("no face")
    with pytest.raises(
        ValueError, match=r"`data` is .*: no image \(\.jpg.*\), Parquet or tar file and no saved dataset"
    ):
        open_faces(tmp_path)


def test_a_range_must_be_whole(folder, tmp_path):
    shards = tars(folder, tmp_path / "tars")
    (shards / "faces-001.tar").unlink()
    with pytest.raises(ValueError, match=r"`data`: .*faces-001\.tar does not exist"):
        open_faces(shards / "faces-{000..002}.tar")


def test_a_table_without_images_is_refused(tmp_path):
    import datasets

    datasets.Dataset.from_dict({"age": [3]}).to_parquet(tmp_path / "ages.parquet")
    with pytest.raises(ValueError, match=r"ages\.parquet: 0 of the columns \['age'\] hold images; one must"):
        open_faces(tmp_path / "ages.parquet")


@pytest.mark.parametrize("suffix", ["tar", "parquet"])
def test_a_broken_file_is_named(tmp_path, suffix):
    (tmp_path / f"faces.{suffix}").write_bytes(b"nothing of that kind" * 100)
    with pytest.raises(ValueError, match=rf"`data` is .*faces\.{suffix}: "):
        open_faces(tmp_path / f"faces.{suffix}")


def test_a_tar_that_is_cut_short_is_refused(folder, tmp_path):
    tar = write_tar(tmp_path / "faces.tar", sorted(folder.iterdir()))
    whole = tar.read_bytes()
    with tarfile.open(tar) as archive:
        last = archive.getmembers()[-1]
    for length in (last.offset, last.offset + 100, last.offset_data, last.offset_data + 100, last.offset_data + 1024):
        tar.write_bytes(whole[:length])
        with pytest.raises(
            ValueError, match=r"`data` is .*faces\.tar: .*(unexpected end of data|truncated header|cut short)"
        ):
            open_faces(tar)


def test_a_tar_without_images_is_refused(folder, tmp_path):
    (tmp_path / "notes.txt").write_text("no face")
    with pytest.raises(ValueError, match=r"`data` is .*notes\.tar: no image \(\.jpg"):
        open_faces(write_tar(tmp_path / "notes.tar", [tmp_path / "notes.txt"]))


def test_a_broken_image_is_named(folder, tmp_path):
    content = (folder / "b_0.png").read_bytes()
    (folder / "b_0.png").write_bytes(content[: len(content) // 2])
    write_tar(tmp_path / "faces.tar", sorted(folder.iterdir()))
    rows_of(sorted(folder.iterdir())).to_parquet(tmp_path / "faces.parquet")
    with pytest.raises(OSError, match=r"b_0\.png in row 2 of .*faces\.parquet cannot be read as an image"):
        open_faces(tmp_path / "faces.parquet").load(2)
    faces = open_faces(tmp_path / "faces.tar")
    with pytest.raises(OSError, match=r"b_0\.png in .*faces\.tar cannot be read as an image"):
        faces.load(2)


def test_a_missing_library_is_named_with_its_remedy(tmp_path, folder, monkeypatch):
    def missing(module):
        raise ImportError("No module named 'datasets'")

    write_tar(tmp_path / "faces.tar", sorted(folder.iterdir()))
    rows_of(sorted(folder.iterdir())).to_parquet(tmp_path / "faces.parquet")
    monkeypatch.setattr("difface_diffusers.utils.extras.import_module", missing)
    with pytest.raises(
        ImportError,
        match=r"`data` is .*faces\.parquet, no folder of images; reading it needs `datasets`.*difface-diffusers\[train\]",
    ):
        open_faces(tmp_path / "faces.parquet")
    assert open_faces(folder).names == open_faces(tmp_path / "faces.tar").names == NAMES
