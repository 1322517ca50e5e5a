import argparse
import json

import pytest

from difface_diffusers.cli import main
from difface_diffusers.cli.video import _seconds
from difface_diffusers.video.reading import open_video
from tests.video.clips import write_clip
from tests.video.scenes import HEIGHT, WIDTH, film, place


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    frames, _ = film(([place(150, 95, 0.7)] * 5, 0), noise=6)
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", 5, size=(HEIGHT, WIDTH), pictures=frames)


@pytest.fixture
def run(pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "model")

    def run(*arguments):
        return main(["video", *map(str, arguments), "--model", str(tmp_path / "model")])

    return run


def test_a_video(run, clip, tmp_path, capsys):
    options = ("--end", "0:0.12", "--preview", 2, "--faces", "largest", "--seed", 3, "--crf", 30)
    assert run(clip, "-o", tmp_path / "out.mp4", *options) == 0
    assert f"{tmp_path / 'out.mp4'}: 3 frames, 1 scene, 1 face followed; 3 frames in " in capsys.readouterr().out
    with open_video(tmp_path / "out.mp4") as video:
        assert len(list(video.frames())) == 3
    assert sorted(path.name for path in (tmp_path / "out_preview").iterdir()) == ["00000001.png", "00000003.png"]


def test_stopped_it_says_how_to_go_on(run, clip, tmp_path, capsys, monkeypatch):
    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("difface_diffusers.video.restore.restore_video", stop)
    assert run(clip, "-o", tmp_path / "out.mp4") == 130
    assert capsys.readouterr().err.endswith("difface video: stopped; the same command with --resume goes on\n")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--steadiness", "2"], 2, "`steadiness` is 2.0"),
        (["--resume"], 2, "`resume` is True, but no run was stopped"),
        (["--codec", "h266"], 2, "`codec` is 'h266'; accepted for .mp4 are libx264"),
        (["--background", "no/such"], 2, "--background: "),
        (["--steps", "0"], 2, "`num_inference_steps` is 0"),
        (["--start", "100"], 2, "`start` is 100.0; "),
    ],
)
def test_refuses_what_it_cannot_do(run, clip, tmp_path, capsys, arguments, status, message):
    assert run(clip, "-o", tmp_path / "out.mp4", *arguments) == status
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out.mp4").exists()


@pytest.mark.parametrize("content", [None, b"text"])
def test_no_video(run, tmp_path, capsys, content):
    if content:
        (tmp_path / "in.mp4").write_bytes(content)
    assert run(tmp_path / "in.mp4", "-o", tmp_path / "out.mp4") == 1
    assert "in.mp4" in capsys.readouterr().err


def test_it_is_judged_for_steadiness(clip, tmp_path, capsys):
    assert (
        main(["evaluate", "--video", str(clip), "--reference", str(clip), "-o", str(tmp_path / "figures.json")]) == 0
    )
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert {"psnr", "warping_error", "change"} <= set(figures)
    assert f"warping_error {figures['warping_error']:.5f}" in capsys.readouterr().out
    assert main(["evaluate", "--video", str(clip)]) == 2
    assert main(["evaluate", "--video", str(tmp_path / "none.mp4"), "--reference", str(clip)]) == 1
    errors = capsys.readouterr().err
    assert "--video needs --reference" in errors and "none.mp4" in errors


def test_times(capsys):
    assert [_seconds(text) for text in ("12.5", "2:03", "1:02:03.5")] == [12.5, 123, 3723.5]
    parser = argparse.ArgumentParser()
    parser.add_argument("--start", type=_seconds)
    with pytest.raises(SystemExit):
        parser.parse_args(["--start", "soon"])
    assert "'soon' is no time; accepted are 12.5, 2:03 and 1:02:03" in capsys.readouterr().err
