from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from difface_diffusers.cli.errors import UsageError
from difface_diffusers.cli.files import Extras, plan_outputs, save_image
from difface_diffusers.cli.inputs import Source, collect_inputs, mask_for


@pytest.fixture
def folder(tmp_path):
    for name in ("b.png", "a.JPG", "notes.txt", ".hidden.png", "sub/c.png"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return tmp_path / "in"


class TestCollect:
    def test_folders_files_and_patterns_once_each(self, folder):
        found = collect_inputs([str(folder), str(folder / "b.png"), str(folder / "*" / "*.png")])
        assert list(found.files.items()) == [(folder / name, Path()) for name in ("a.JPG", "b.png", "sub/c.png")]
        assert found.failures == {} and found.doubles == [] and found.ignored == [folder / "notes.txt"]

    def test_says_why_an_input_yields_nothing(self, folder):
        (folder / "empty").mkdir()
        names = ["empty", "no.png", "x*.png", "n" * 300]
        found = collect_inputs([str(folder / name) for name in names])
        assert found.files == {}
        reasons = [found.failures[str(folder / name)] for name in names]
        for reason, expected in zip(reasons, ["holds no image", *["no such file"] * 2, "too long"], strict=True):
            assert expected in reason

    def test_a_named_file_is_taken_whatever_its_suffix(self, folder):
        assert collect_inputs([str(folder / "notes.txt")]).files == {folder / "notes.txt": Path()}

    def test_recursive_keeps_the_tree_and_leaves_the_results_of_an_earlier_run(self, folder):
        (folder / "out" / "sub").mkdir(parents=True)
        for name in ("out/a.png", "out/sub/c.png"):
            (folder / name).write_bytes(b"")
        found = collect_inputs([str(folder)], recursive=True, output=folder / "out")
        assert found.files == {
            folder / "a.JPG": Path(),
            folder / "b.png": Path(),
            folder / "sub" / "c.png": Path("sub"),
        }
        assert len(collect_inputs([str(folder)], recursive=True).files) == 5
        found = collect_inputs([str(folder / "out")], output=folder / "out")
        assert found.files == {folder / "out" / "a.png": Path()}

    def test_what_is_hidden_is_no_input(self, folder):
        for name in ("._b.png", ".cache/d.png", "sub/._c.png"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(b"")
        found = collect_inputs([str(folder)], recursive=True)
        assert list(found.files) == [folder / name for name in ("a.JPG", "b.png", "sub/c.png")]
        assert list(collect_inputs([str(folder / "*")]).files) == [
            folder / name for name in ("a.JPG", "b.png", "notes.txt")
        ]

    def test_a_name_with_pattern_characters(self, folder):
        odd = folder / "face[1].png"
        odd.write_bytes(b"")
        found = collect_inputs([str(odd)])
        assert found.files == {odd: Path()} and found.failures == {}


def flat(files):
    return {Source(Path(file)): Path() for file in files}


def planned(*arguments, **options):
    """The results of each file, by its name."""
    return {source.name: targets for source, targets in plan_outputs(*arguments, **options).items()}


class TestPlan:
    def test_a_folder_keeps_names(self):
        plan = planned(flat(["in/a.JPG", "in/b.gif"]), Path("out"), 1)
        assert plan == {"in/a.JPG": [Path("out/a.JPG")], "in/b.gif": [Path("out/b.png")]}

    def test_the_tree_is_mirrored(self):
        sources = {Source(Path("in/x/a.png")): Path("x")}
        assert planned(sources, Path("out"), 1) == {"in/x/a.png": [Path("out/x/a.png")]}

    def test_a_format_for_all(self):
        plan = plan_outputs(flat(["a.jpg", "b.gif"]), Path("out"), 1, suffix=".webp")
        assert list(plan.values()) == [[Path("out/a.webp")], [Path("out/b.webp")]]

    def test_samples_are_numbered(self):
        assert planned(flat(["a.png"]), Path("out"), 2) == {"a.png": [Path("out/a_1.png"), Path("out/a_2.png")]}

    def test_pages_are_numbered(self):
        sources = {Source(Path("a.tif"), page): Path() for page in (1, 2)}
        targets = list(plan_outputs(sources, Path("out"), 1).values())
        assert targets == [[Path("out/a_page1.tif")], [Path("out/a_page2.tif")]]
        with pytest.raises(UsageError, match=r"names a file, but there are 2 results"):
            plan_outputs(sources, Path("out.tif"), 1)

    def test_a_file_for_one_result(self):
        assert planned(flat(["a.png"]), Path("out/b.jpg"), 1) == {"a.png": [Path("out/b.jpg")]}

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
            (["a.png"], "out.gif", 1, r"-o out.gif: \.gif cannot be written; name a folder or an image \(\.jpg "),
            (["a.png"], "out.HEIC", 1, r"\.heic cannot be written"),
            (["a.png"], "out.psd", 1, r"\.psd cannot be written"),
            (
                [f"{x}/{n}.png" for x in "xy" for n in range(9)],
                "out",
                1,
                r"out/0\.png, .*, out/4\.png and 4 more; restore",
            ),
        ],
    )
    def test_refuses_before_any_work(self, files, output, samples, message):
        with pytest.raises(UsageError, match=message):
            plan_outputs(flat(files), Path(output), samples)

    @pytest.mark.parametrize(
        ("files", "extras", "double"),
        [
            (["in/a.png", "in/a_compare.png"], Extras(compare=True), "out/a_compare.png"),
            (["in/a.png", "in/a_uncertainty.png"], Extras(uncertainty=True), "out/a_uncertainty.png"),
            (["in/a.jpg", "in/a.png"], Extras(crops=True), "out/a_faces"),
        ],
    )
    def test_what_belongs_to_results_counts_as_results(self, files, extras, double):
        assert len(plan_outputs(flat(files), Path("out"), 1)) == 2
        with pytest.raises(UsageError, match=f"several inputs would be written to {double};"):
            plan_outputs(flat(files), Path("out"), 1, extras)

    def test_a_folder_of_faces_is_written_by_its_photograph_alone(self):
        crops = Extras(crops=True)
        inside = {Source(Path("in/a.png")): Path(), Source(Path("in/a_faces/01.png")): Path("a_faces")}
        with pytest.raises(UsageError, match=r"several inputs would be written to out/a_faces/01\.png"):
            plan_outputs(inside, Path("out"), 1, crops)
        with pytest.raises(UsageError, match=r"would overwrite the input out/a_faces;"):
            plan_outputs(flat(["in/a.png", "out/a_faces/x.png"]), Path("out"), 1, crops)

    @pytest.mark.parametrize("option", ["kept", "report"])
    def test_masks_and_reports_count_too(self, option):
        path = Path("out/a.png")
        with pytest.raises(UsageError, match=r"out/a\.png"):
            plan_outputs(flat(["in/a.png"]), Path("out"), 1, **{option: [path] if option == "kept" else path})
        with pytest.raises(UsageError, match=r"overwrite the input in/a\.png"):
            plan_outputs(flat(["in/a.png"]), Path("out"), 1, report=Path("in/a.png"))

    def test_another_name_of_an_input_is_not_overwritten(self, folder):
        (folder / "out").mkdir()
        (folder / "out" / "b.png").hardlink_to(folder / "b.png")
        with pytest.raises(UsageError, match="overwrite the input"):
            plan_outputs(flat([folder / "b.png"]), folder / "out", 1)

    def test_a_format_that_contradicts_the_file(self):
        assert planned(flat(["a.png"]), Path("b.jpeg"), 1, suffix=".jpg") == {"a.png": [Path("b.jpeg")]}
        with pytest.raises(UsageError, match=r"-o b\.jpg and --format png contradict each other"):
            plan_outputs(flat(["a.png"]), Path("b.jpg"), 1, suffix=".png")

    def test_a_folder_may_have_a_dot(self):
        assert planned(flat(["a.png"]), Path("v1.5"), 1) == {"a.png": [Path("v1.5/a.png")]}

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
