from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from difface_diffusers.cli.errors import UsageError
from difface_diffusers.cli.files import plan_outputs, save_image
from difface_diffusers.cli.inputs import collect_inputs, mask_for


@pytest.fixture
def folder(tmp_path):
    for name in ("b.png", "a.JPG", "notes.txt", ".hidden.png", "sub/c.png"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return tmp_path / "in"


class TestCollect:
    def test_folders_files_and_patterns_once_each(self, folder):
        files, failures = collect_inputs([str(folder), str(folder / "b.png"), str(folder / "*" / "*.png")])
        assert list(files.items()) == [(folder / name, Path()) for name in ("a.JPG", "b.png", "sub/c.png")]
        assert failures == {}

    def test_says_why_an_input_yields_nothing(self, folder):
        (folder / "empty").mkdir()
        files, failures = collect_inputs([str(folder / "empty"), str(folder / "no.png"), str(folder / "x*.png")])
        assert files == {}
        assert "holds no image" in failures[str(folder / "empty")]
        assert all("no such file" in failures[str(folder / name)] for name in ("no.png", "x*.png"))

    def test_a_named_file_is_taken_whatever_its_suffix(self, folder):
        assert collect_inputs([str(folder / "notes.txt")])[0] == {folder / "notes.txt": Path()}

    def test_recursive_keeps_the_tree_and_leaves_the_results_of_an_earlier_run(self, folder):
        (folder / "out" / "sub").mkdir(parents=True)
        for name in ("out/a.png", "out/sub/c.png"):
            (folder / name).write_bytes(b"")
        files, _ = collect_inputs([str(folder)], recursive=True, output=folder / "out")
        assert files == {folder / "a.JPG": Path(), folder / "b.png": Path(), folder / "sub" / "c.png": Path("sub")}
        assert len(collect_inputs([str(folder)], recursive=True)[0]) == 5
        assert collect_inputs([str(folder / "out")], output=folder / "out")[0] == {folder / "out" / "a.png": Path()}

    def test_what_is_hidden_is_no_input(self, folder):
        for name in ("._b.png", ".cache/d.png", "sub/._c.png"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(b"")
        files, _ = collect_inputs([str(folder)], recursive=True)
        assert list(files) == [folder / name for name in ("a.JPG", "b.png", "sub/c.png")]
        assert list(collect_inputs([str(folder / "*")])[0]) == [
            folder / name for name in ("a.JPG", "b.png", "notes.txt")
        ]

    def test_a_name_with_pattern_characters(self, folder):
        odd = folder / "face[1].png"
        odd.write_bytes(b"")
        assert collect_inputs([str(odd)]) == ({odd: Path()}, {})


def flat(files):
    return {Path(file): Path() for file in files}


class TestPlan:
    def test_a_folder_keeps_names(self):
        files = [Path("in/a.JPG"), Path("in/b.gif")]
        plan = plan_outputs(flat(files), Path("out"), 1)
        assert plan == {files[0]: [Path("out/a.JPG")], files[1]: [Path("out/b.png")]}

    def test_the_tree_is_mirrored(self):
        assert plan_outputs({Path("in/x/a.png"): Path("x")}, Path("out"), 1) == {
            Path("in/x/a.png"): [Path("out/x/a.png")]
        }

    def test_a_format_for_all(self):
        plan = plan_outputs(flat(["a.jpg", "b.gif"]), Path("out"), 1, suffix=".webp")
        assert list(plan.values()) == [[Path("out/a.webp")], [Path("out/b.webp")]]

    def test_samples_are_numbered(self):
        assert plan_outputs(flat(["a.png"]), Path("out"), 2) == {
            Path("a.png"): [Path("out/a_1.png"), Path("out/a_2.png")]
        }

    def test_a_file_for_one_result(self):
        assert plan_outputs(flat(["a.png"]), Path("out/b.jpg"), 1) == {Path("a.png"): [Path("out/b.jpg")]}

    @pytest.mark.parametrize(
        ("files", "output", "samples", "message"),
        [
            (["a.png", "b.png"], "out.png", 1, "names a file, but there are 2 results"),
            (["a.png"], "out.png", 3, "names a file, but there are 3 results"),
            (["x/a.png", "y/a.png"], "out", 1, "several inputs would be written to out/a.png"),
            (["a.gif", "a.png"], "out", 1, "several inputs would be written to out/a.png"),
            (["out/a.png"], "out", 1, "overwrite the input out/a.png"),
            (["out/../out/a.png"], "out", 1, "overwrite the input"),
            (["a.png"], "a.png", 1, "overwrite the input a.png"),
        ],
    )
    def test_refuses_before_any_work(self, files, output, samples, message):
        with pytest.raises(UsageError, match=message):
            plan_outputs(flat(files), Path(output), samples)

    def test_comparisons_count_as_results(self):
        files = [Path("in/a.png"), Path("in/a_compare.png")]
        assert len(plan_outputs(flat(files), Path("out"), 1)) == 2
        maps = [Path("in/a.png"), Path("in/a_uncertainty.png")]
        assert len(plan_outputs(flat(maps), Path("out"), 1)) == 2
        with pytest.raises(UsageError, match=r"several inputs would be written to out/a_uncertainty\.png"):
            plan_outputs(flat(maps), Path("out"), 1, uncertainty=True)
        with pytest.raises(UsageError, match=r"several inputs would be written to out/a_compare\.png"):
            plan_outputs(flat(files), Path("out"), 1, compare=True)

    def test_refuses_a_file_that_is_no_image(self, folder):
        with pytest.raises(UsageError, match="is a file that is no image"):
            plan_outputs(flat(["a.png"]), folder / "notes.txt", 1)


class TestMasks:
    def test_an_image_is_the_mask_of_every_input(self, folder):
        assert mask_for(Path("x.jpg"), folder / "b.png") == folder / "b.png"

    def test_of_a_folder_the_image_of_the_same_name(self, folder):
        assert mask_for(Path("in/a.png"), folder) == folder / "a.JPG"
        assert mask_for(Path("other/b.tif"), folder) == folder / "b.png"
        assert mask_for(Path("c.png"), folder) is None
        assert mask_for(Path("notes.png"), folder) is None
        (folder / "x.y.png").write_bytes(b"")
        assert mask_for(Path("x.png"), folder) is None
        assert mask_for(Path("x.y.jpg"), folder) == folder / "x.y.png"

    def test_a_name_with_pattern_characters(self, folder):
        (folder / "face[1].png").write_bytes(b"")
        assert mask_for(Path("face[1].jpg"), folder) == folder / "face[1].png"


class TestSave:
    @pytest.mark.parametrize("suffix", ["jpg", "JPEG", "png", "webp", "tif", "tiff", "bmp"])
    def test_writes_the_format_of_the_suffix(self, tmp_path, suffix):
        path = tmp_path / "new" / f"face.{suffix}"
        picture = Image.fromarray(np.full((8, 8, 3), (200, 100, 50), np.uint8))
        save_image(picture, path)
        with Image.open(path) as back:
            assert back.format.lower() in (suffix.lower().replace("jpg", "jpeg"), "tiff")
            assert np.abs(np.asarray(back.convert("RGB")).astype(int) - np.asarray(picture)).max() <= 4
        assert [entry.name for entry in path.parent.iterdir()] == [path.name]

    def test_leaves_nothing_behind_when_it_fails(self, tmp_path):
        path = tmp_path / "face.jpg"
        path.write_bytes(b"before")
        with pytest.raises(OSError, match="cannot write mode"):
            save_image(Image.new("RGBA", (4, 4)), path)
        assert path.read_bytes() == b"before"
        assert list(tmp_path.iterdir()) == [path]
