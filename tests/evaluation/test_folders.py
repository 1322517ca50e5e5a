import json

import numpy as np
import pytest
import torch
from PIL import Image

from difface_diffusers.evaluation import face_metrics, fid, kid, niqe, piqe, psnr, ssim
from difface_diffusers.evaluation.folders import METRICS, features_of, load_metrics, score_folder
from difface_diffusers.evaluation.protocol import read_image
from tests.evaluation.test_distributions import Pooling, save


@pytest.fixture
def write(tmp_path):
    def write(folder, names, seed, size=(48, 48)):
        """Write a smooth picture for each name; return the paths by stem."""
        rng = np.random.default_rng(seed)
        paths = {}
        for name in names:
            path = tmp_path / folder / name
            path.parent.mkdir(exist_ok=True)
            coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
            coarse.resize(size, Image.Resampling.BICUBIC).save(path)
            paths[path.stem] = path
        return paths

    return write


def test_every_image_the_mean_and_the_set(write, tmp_path):
    restored, references = (
        write("restored", ["a.png", "b.png", "c.png"], 0),
        write("clean", ["a.png", "b.png", "c.png"], 1),
    )
    network = save(Pooling(), tmp_path / "pooling.pt")
    suite = load_metrics(["psnr", "ssim", "piqe", "fid", "kid"], features=network)
    others = features_of(suite, list(write("other", ["x.png", "y.png"], 2).values()))
    scores = score_folder(suite, restored, references, others)

    images, clean = ([read_image(path) for path in files.values()] for files in (restored, references))
    for name, image, reference in zip(("a.png", "b.png", "c.png"), images, clean, strict=True):
        assert scores.images[name] == {
            "piqe": piqe(image).item(), "psnr": psnr(image, reference).item(), "ssim": ssim(image, reference).item()
        }  # fmt: skip
    assert scores.means["psnr"] == pytest.approx(np.mean([row["psnr"] for row in scores.images.values()]))
    pooling = next(iter(others))
    seen, of_clean = (torch.cat([pooling(image) for image in batch]) for batch in (images, clean))
    assert scores.means["fid"] == pytest.approx(fid(seen, of_clean).item())
    assert scores.means["kid_set"] == pytest.approx(kid(seen, others[pooling]).item())
    assert list(scores.means) == ["piqe", "psnr", "ssim", "fid", "fid_set", "kid", "kid_set"]
    assert scores.failures == {}


def test_failures_are_named_and_left_out(write):
    names = ["a.png", "b.png", "c.png", "d.png"]
    restored, references = write("restored", names, 0), write("clean", [*names[:3], "e.png"], 1)
    write("clean", ["b.png"], 2, size=(40, 48))
    restored["c"].write_bytes(b"no image")
    scores = score_folder(load_metrics(["psnr"]), restored, references)
    assert list(scores.images) == ["a.png"] and scores.means == {"psnr": scores.images["a.png"]["psnr"]}
    assert list(scores.failures) == ["b.png", "c.png", "d.png", "e.png"]
    assert "same shape" in scores.failures["b.png"] and "[1, 3, 48, 40]" in scores.failures["b.png"]
    assert "cannot be read as an image" in scores.failures["c.png"]
    assert scores.failures["d.png"] == "there is no reference of its name"
    assert scores.failures["e.png"] == "there is a reference, but no image of its name"


def test_without_references_only_what_needs_none(write):
    files = write("restored", ["a.png"], 0, size=(192, 96))
    scores = score_folder(load_metrics(["psnr", "niqe"]), files)
    assert scores.means == {"niqe": niqe(read_image(files["a"])).item()}


def test_names_of_all_metrics_are_those_of_their_functions():
    assert set(load_metrics(["psnr", "psnr_y", "coarse_psnr"]).pairs) == {"psnr", "psnr_y", "coarse_psnr"}
    assert len(METRICS) == len(set(METRICS)) == 14
    assert load_metrics(["frechet_distance"]).sets["frechet_distance"] == (fid, face_metrics.embed)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["psnr", "beauty"], r"`names` holds beauty; accepted are psnr, .*, kid"),
        (["lpips"], r"`lpips_weights` is not given; for lpips it is the file https://.*/alexnet-owt-7be5be79.pth"),
        (
            ["fid", "kid"],
            r"`features` is not given; for fid and kid it is a network such as https://.*/inception-2015-12-05.pt",
        ),
    ],
)
def test_what_is_missing_is_named(names, message):
    with pytest.raises(ValueError, match=message):
        load_metrics(names)


class TestCommand:
    @pytest.fixture
    def run(self, write, tmp_path):
        from difface_diffusers.cli import main

        for folder, seed in (("restored", 0), ("clean", 1), ("degraded", 2)):
            write(folder, ["a.png", "b.png"], seed)

        def run(*arguments):
            return main(["evaluate", "--restored", str(tmp_path / "restored"), *map(str, arguments)])

        return run

    def test_prints_a_table_and_writes_all(self, run, tmp_path, capsys):
        folders = ("--reference", tmp_path / "clean", "--input", tmp_path / "degraded")
        assert run(*folders, "--metrics", "psnr", "ssim", "-o", tmp_path / "report.json") == 0
        output = capsys.readouterr().out.splitlines()
        report = json.loads((tmp_path / "report.json").read_text())
        assert output[0].split() == ["restored", "input"]
        for line, metric in zip(output[1:3], ("psnr", "ssim"), strict=True):
            values = [f"{report[row]['means'][metric]:.4f}" for row in ("restored", "input")]
            assert line.split() == [metric, *values]
        assert output[3].startswith("judged 4 of 4 images")
        assert set(report["input"]["images"]) == {"a.png", "b.png"}
        assert report["files"]["reference"] == str(tmp_path / "clean")

    def test_a_failure_is_said_at_the_end(self, run, tmp_path, capsys):
        (tmp_path / "clean" / "a.png").unlink()
        assert run("--reference", tmp_path / "clean", "--metrics", "psnr") == 1
        captured = capsys.readouterr()
        assert "judged 1 of 2 images" in captured.out
        assert "failed: restored a.png: there is no reference of its name" in captured.err

    def test_what_restore_writes_beside_its_results_is_left_out(self, run, write, tmp_path, capsys):
        beside = ["a_compare.png", "b_compare.png", "a_uncertainty.png"]
        write("restored", [*beside, "c_compare.png"], 3)  # the last one has no result beside it
        write("degraded", ["a_compare.png"], 4)
        folders = ("--reference", tmp_path / "clean", "--input", tmp_path / "degraded", "--metrics", "psnr")
        assert run(*folders, "-o", tmp_path / "report.json") == 1
        captured = capsys.readouterr()
        assert "--restored: left out 3 that `restore` writes beside its results, as a_compare.png" in captured.out
        assert "--input: left out 1 that" in captured.out
        assert "judged 4 of 5 images" in captured.out
        assert captured.err.endswith("failed: restored c_compare.png: there is no reference of its name\n")
        report = json.loads((tmp_path / "report.json").read_text())
        assert list(report["restored"]["images"]) == list(report["input"]["images"]) == ["a.png", "b.png"]

    def test_files_of_such_names_that_have_a_reference_are_judged(self, run, write, tmp_path, capsys):
        for folder, seed in (("restored", 5), ("clean", 6)):
            write(folder, ["a_compare.png"], seed)
        write("restored", ["a_compare_compare.png", "b_compare.png"], 7)
        assert run("--reference", tmp_path / "clean", "--metrics", "psnr") == 0
        output = capsys.readouterr().out
        assert "left out 2 that" in output and "judged 3 of 3 images" in output

    def test_without_references_they_are_left_out_too(self, run, write, capsys):
        write("restored", ["a.png", "a_compare.png"], 5, size=(192, 96))
        write("restored", ["b.png"], 6, size=(192, 96))
        assert run("--metrics", "niqe") == 0
        assert "judged 2 of 2 images" in capsys.readouterr().out

    def test_hidden_files_are_not_judged(self, run, tmp_path, capsys):
        (tmp_path / "restored" / "._a.png").write_bytes(b"no image")
        (tmp_path / "clean" / "._a.png").write_bytes(b"no image")
        assert run("--reference", tmp_path / "clean", "--metrics", "psnr") == 0
        assert "judged 2 of 2 images" in capsys.readouterr().out

    def test_the_psnr_of_equal_images_is_null(self, run, tmp_path):
        assert run("--reference", tmp_path / "restored", "--metrics", "psnr", "-o", tmp_path / "report.json") == 0
        assert json.loads((tmp_path / "report.json").read_text())["restored"]["means"] == {"psnr": None}

    def test_files_bring_their_metrics(self, run, tmp_path, capsys, monkeypatch):
        monkeypatch.setattr("difface_diffusers.evaluation.folders.DEFAULT_METRICS", ("psnr",))
        network = save(Pooling(), tmp_path / "pooling.pt")
        assert run("--reference-set", tmp_path / "clean", "--features", network) == 0
        assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:3]] == ["fid_set", "kid_set"]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ((), "there is nothing to compare with; give --reference or --reference-set"),
            (("--reference", "nowhere"), "--reference nowhere is not a folder"),
            (("--metrics", "niqe", "beauty"), "`names` holds beauty"),
        ],
    )
    def test_wrong_usage(self, run, arguments, message, capsys):
        assert run(*arguments) == 2
        assert f"difface evaluate: {message}" in capsys.readouterr().err

    def test_two_images_of_one_name(self, run, tmp_path, capsys):
        Image.new("RGB", (8, 8)).save(tmp_path / "clean" / "a.jpg")
        assert run("--reference", tmp_path / "clean") == 2
        assert "several images of one name: a." in capsys.readouterr().err

    def test_a_report_that_cannot_be_written(self, run, tmp_path, capsys):
        (tmp_path / "file").write_text("")
        assert run("--reference", tmp_path / "clean", "--metrics", "psnr", "-o", tmp_path / "file" / "r.json") == 1
        assert "cannot be written" in capsys.readouterr().err
