import pytest
import torch

from difface_diffusers.cli import main
from difface_diffusers.models.srvgg import SRVGGNetCompact


@pytest.fixture
def network():
    torch.manual_seed(0)
    return SRVGGNetCompact(2, num_channels=6, num_convs=1).eval()


@pytest.fixture
def file(network, tmp_path):
    torch.save({"params": network.state_dict()}, tmp_path / "net.pth")
    return str(tmp_path / "net.pth")


def test_an_upscaler_is_converted(network, file, tmp_path, capsys):
    assert main(["convert", "upscaler", file, "-o", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out == f"SRVGGNetCompact, x2, 0.0 million parameters -> {tmp_path / 'out'}\n"
    image = torch.rand(1, 3, 5, 6)
    with torch.no_grad():
        answer = SRVGGNetCompact.from_pretrained(tmp_path / "out")(image)
        torch.testing.assert_close(answer, network(image))


def test_what_cannot_be_converted_leaves_nothing(tmp_path, capsys):
    (tmp_path / "text.pth").write_text("no network")
    for name in ("text.pth", "none.pth"):
        assert main(["convert", "upscaler", str(tmp_path / name), "-o", str(tmp_path / "out")]) == 1
        assert name in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten(file, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").touch()
    assert main(["convert", "upscaler", file, "-o", str(tmp_path / "out")]) == 1
    assert "which exists; it must be a new or an empty folder" in capsys.readouterr().err
