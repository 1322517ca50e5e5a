import io
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from difface_diffusers.cli import batch, main, report
from difface_diffusers.imaging import files as imaging_files
from tests.conftest import SIZE


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.png", "c.png"):
        Image.fromarray(rng.integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8)).save(tmp_path / "in" / name)
    return tmp_path / "in"


@pytest.fixture
def run(model, tmp_path):
    def run(*arguments, output=tmp_path / "out"):
        arguments = [str(argument) for argument in arguments]
        return main(["restore", *arguments, "--aligned", "--model", str(model), "-o", str(output)])

    return run


@pytest.fixture
def told(tmp_path):
    """The report, by name."""
    path = tmp_path / "report.json"
    return lambda: {Path(record["input"]).name: record for record in json.loads(path.read_text())}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


ERRORS = (RecursionError, SyntaxError, NotImplementedError, ZeroDivisionError, KeyError, MemoryError)


@pytest.mark.parametrize("error", ERRORS)
def test_whatever_a_decoder_raises_fails_its_file_alone(run, folder, tmp_path, monkeypatch, capsys, told, error):
    decode = imaging_files.pixels_of

    def pixels_of(image):
        if Path(image.filename).name == "b.png":
            raise error("odd")
        return decode(image)

    monkeypatch.setattr(imaging_files, "pixels_of", pixels_of)
    assert run(folder, "--report", tmp_path / "report.json") == 1
    assert names(tmp_path / "out") == ["a.png", "c.png"]
    captured = capsys.readouterr()
    assert "b.png cannot be read as an image: " in captured.err and "Traceback" not in captured.err
    assert [bool(record["error"]) for record in told().values()] == [False, True, False]


def test_an_interruption_is_reported(run, folder, tmp_path, monkeypatch, capsys, told):
    write = batch.write_photo

    def write_photo(photo, path):
        if path.name == "b.png":
            raise KeyboardInterrupt
        write(photo, path)

    monkeypatch.setattr(batch, "write_photo", write_photo)
    assert run(folder, folder / "no.png", "--report", tmp_path / "report.json") == 130
    assert names(tmp_path / "out") == ["a.png"]
    captured = capsys.readouterr()
    assert "restored 1 of 4 inputs" in captured.out and "Traceback" not in captured.err
    assert f"not reached: {folder / 'b.png'}, {folder / 'c.png'}\n" in captured.err
    errors = {name: record["error"] for name, record in told().items()}
    assert errors.pop("no.png").startswith("no such file")
    assert errors == {"a.png": None, "b.png": report.UNREACHED, "c.png": report.UNREACHED}


def test_a_mistake_of_the_program_is_reported_too(run, folder, tmp_path, monkeypatch, told):
    def write_photo(photo, path):
        raise TypeError("a mistake")

    monkeypatch.setattr(batch, "write_photo", write_photo)
    with pytest.raises(TypeError, match="a mistake"):
        run(folder, "--report", tmp_path / "report.json")
    assert len(told()) == 3


def test_a_full_disk_costs_the_report_alone(run, folder, tmp_path, monkeypatch, capsys):
    def write_report(results, path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report, "write_report", write_report)
    assert run(folder, "--report", tmp_path / "report.json") == 1
    assert len(names(tmp_path / "out")) == 3
    errors = capsys.readouterr().err
    assert f"--report {tmp_path / 'report.json'} cannot be written: [Errno 28] No space" in errors


def test_what_is_left_out_of_a_folder_is_named(run, folder, capsys):
    for name in ("a.mov", "b.txt", "c.xmp", "d.raw", "e.doc", "f.zip", "g"):
        (folder / name).write_bytes(b"")
    (folder / ".hidden").write_bytes(b"")
    assert run(folder) == 0
    output = capsys.readouterr().out
    listed = ", ".join(str(folder / name) for name in ("a.mov", "b.txt", "c.xmp", "d.raw", "e.doc"))
    assert f"left out 7 (no images by their suffixes): {listed} and 2 more\n" in output


@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
def test_two_names_of_one_file_are_one_input(run, folder, tmp_path, capsys, link):
    getattr(folder / "d.png", link)(folder / "a.png")
    os.symlink(folder, tmp_path / "again")
    assert run(folder, tmp_path / "again" / "b.png", folder / ".." / "in" / "c.png") == 0
    assert names(tmp_path / "out") == ["a.png", "b.png", "c.png"]
    output = capsys.readouterr().out
    assert "restored 3 of 3 inputs" in output and f"left out 3 (other names of inputs): {folder / 'd.png'}, " in output


class TestPages:
    @pytest.fixture
    def pages(self, tmp_path):
        shades = [Image.new("RGB", (SIZE, SIZE), color) for color in ("red", "green", "blue")]
        for suffix in ("tif", "gif"):
            shades[0].save(tmp_path / f"pages.{suffix}", save_all=True, append_images=shades[1:])
        return tmp_path

    @pytest.mark.parametrize("suffix", ["tif", "gif"])
    def test_the_first_is_taken_and_said_so(self, run, pages, tmp_path, capsys, told, suffix):
        assert run(pages / f"pages.{suffix}", "--report", tmp_path / "report.json") == 0
        assert len(names(tmp_path / "out")) == 1
        output = capsys.readouterr().out
        assert "(picture 1 of 3)" in output and "the first picture of several (--pages all takes all): " in output
        record = told()[f"pages.{suffix}"]
        assert record["pages"] == 3 and record["page"] is None

    def test_all_are_outputs(self, run, pages, folder, tmp_path, capsys, told):
        arguments = (pages / "pages.tif", folder / "a.png", "--pages", "all", "--report", tmp_path / "report.json")
        assert run(*arguments) == 0
        results = ["a.png", "pages_page1.tif", "pages_page2.tif", "pages_page3.tif"]
        assert names(tmp_path / "out") == results
        assert len(json.loads((tmp_path / "report.json").read_text())) == 4
        assert "restored 4 of 4 inputs" in capsys.readouterr().out
        (tmp_path / "out" / results[2]).unlink()
        assert run(*arguments, "--skip-existing") == 0
        assert "restored 1 of 4 inputs, 3 were there already" in capsys.readouterr().out

    def test_a_file_is_no_place_for_several(self, run, pages, tmp_path, capsys):
        assert run(pages / "pages.gif", "--pages", "all", output=tmp_path / "x.png") == 2
        assert "there are 3 results" in capsys.readouterr().err


class TestStreams:
    @pytest.fixture
    def stdin(self, monkeypatch):
        def give(content):
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))

        return give

    @pytest.mark.parametrize(
        ("options", "kind"), [((), "PNG"), (("--format", "jpg"), "JPEG"), (("--format", "tif"), "TIFF")]
    )
    def test_from_and_to(self, run, folder, tmp_path, stdin, capsysbinary, told, options, kind):
        stdin((folder / "a.png").read_bytes())
        assert run("-", *options, "--report", tmp_path / "report.json", output="-") == 0
        captured = capsysbinary.readouterr()
        with Image.open(io.BytesIO(captured.out)) as picture:
            assert picture.format == kind and picture.size == (SIZE, SIZE)
        assert b"- -> -\n" in captured.err and b"restored 1 of 1 inputs" in captured.err
        assert told()["-"]["outputs"] == ["-"]

    def test_to_a_folder(self, run, folder, tmp_path, stdin):
        stdin((folder / "a.png").read_bytes())
        assert run("-", folder / "b.png") == 0
        assert names(tmp_path / "out") == ["b.png", "stdin.png"]

    def test_no_picture(self, run, stdin, capsysbinary):
        stdin(b"")
        assert run("-", output="-") == 1
        captured = capsysbinary.readouterr()
        assert captured.out == b"" and b"failed: -: - cannot be read as an image" in captured.err

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["-", "-"], "INPUT is - twice"),
            (["IN"], "there are 3 results"),
            (["IN/a.png", "--compare"], "-o - writes one picture; leave out --compare"),
            (["IN/a.png", "--skip-existing"], "--skip-existing looks for files"),
            (["IN/a.png", "--samples", "2"], "there are 2 results"),
        ],
    )
    def test_refuses_what_one_picture_cannot_be(self, run, folder, stdin, capsys, arguments, message):
        stdin(b"")
        assert run(*(argument.replace("IN", str(folder)) for argument in arguments), output="-") == 2
        captured = capsys.readouterr()
        assert message in captured.err and captured.out == ""


def test_names_that_no_terminal_shows(run, folder, tmp_path, monkeypatch):
    odd = folder / os.fsdecode(b"\xe9.png")
    (folder / "a.png").rename(odd)
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    assert run(odd, "--report", tmp_path / "report.json") == 0
    stream.flush()
    assert rb"\udce9.png -> " in stream.buffer.getvalue()
    assert json.loads((tmp_path / "report.json").read_text())[0]["input"] == str(odd)
