import dataclasses

import pytest
import torch

from difface_diffusers.hub import download
from difface_diffusers.hub.originals import released_upscalers
from difface_diffusers.hub.originals.released_upscalers import RELEASED, released_upscaler
from difface_diffusers.models.srvgg import SRVGGNetCompact
from difface_diffusers.photos.real_esrgan import RealESRGANUpscaler
from difface_diffusers.photos.upscale import load_upscaler
from tests.hub.test_download import FileServer, serving


NAME = "realesr-general-x4v3"


@pytest.fixture
def network():
    torch.manual_seed(0)
    return SRVGGNetCompact(4, num_channels=6, num_convs=1)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Where the files are kept."""
    monkeypatch.setattr(released_upscalers, "HF_HUB_OFFLINE", False)  # which the tests set
    folder = tmp_path / "assets"
    monkeypatch.setattr(released_upscalers, "assets_folder", lambda kind: folder / "difface_diffusers" / kind)
    return folder / "difface_diffusers" / "real_esrgan"


@pytest.fixture
def server(network, tmp_path, monkeypatch):
    """Offers the file of a small network under the name of a release."""
    torch.save({"params": network.state_dict()}, tmp_path / "net.pth")
    released = dataclasses.replace(RELEASED[NAME], sha256=download.hash_of(tmp_path / "net.pth"))
    monkeypatch.setitem(RELEASED, NAME, released)
    with serving(FileServer((tmp_path / "net.pth").read_bytes())) as server:
        monkeypatch.setattr(released_upscalers, "RELEASES", server.url.rpartition("/release/")[0])
        yield server


def test_a_file_is_fetched_once(server, cache, network, capsys):
    image = torch.rand(1, 3, 4, 5)
    for _ in range(2):
        with torch.no_grad():
            torch.testing.assert_close(released_upscaler(NAME)(image), network(image))
    assert len(server.ranges) == 1
    assert f"{NAME}.pth to {cache / f'{NAME}.pth'}" in capsys.readouterr().err


def test_it_is_a_background_by_its_name(server, cache):
    upscaler = load_upscaler(NAME)
    assert isinstance(upscaler, RealESRGANUpscaler) and upscaler.model.config["scale"] == 4


def test_the_gentle_twin_is_mixed_in_by_the_strength(network, cache, monkeypatch):
    monkeypatch.setattr(released_upscalers, "HF_HUB_OFFLINE", True)
    cache.mkdir(parents=True)
    twin = SRVGGNetCompact(4, num_channels=6, num_convs=1)
    torch.save({"params": network.state_dict()}, cache / f"{NAME}.pth")
    torch.save({"params": twin.state_dict()}, cache / "realesr-general-wdn-x4v3.pth")
    for strength in (0.25, 0):
        mixed = dict(released_upscaler(NAME, strength).named_parameters())
        for (key, strong), gentle in zip(network.named_parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(mixed[key], strength * strong + (1 - strength) * gentle)


def test_another_file_is_refused_and_deleted(server, cache, monkeypatch):
    monkeypatch.setitem(RELEASED, NAME, dataclasses.replace(RELEASED[NAME], sha256="0" * 64))
    with pytest.raises(ValueError, match=r"its sha256 is [0-9a-f]{64}, not 0{64}; it was deleted"):
        released_upscaler(NAME)
    assert list(cache.iterdir()) == []


def test_an_interrupted_download_goes_on(server, cache):
    server.break_after = 500
    with pytest.raises(OSError, match=f"broke off after 500 of .* Or fetch .*{NAME}.pth elsewhere"):
        released_upscaler(NAME)
    server.break_after = None
    assert released_upscaler(NAME).config["num_convs"] == 1
    assert server.ranges == [None, "bytes=500-"]


def test_offline_it_is_said_which_file_to_put_where(cache, monkeypatch):
    monkeypatch.setattr(released_upscalers, "HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match=rf"{NAME} is not in the cache, .* put it there as .*{NAME}\.pth"):
        released_upscaler(NAME)


def test_a_file_put_there_by_hand_is_taken(cache, network, monkeypatch):
    monkeypatch.setattr(released_upscalers, "HF_HUB_OFFLINE", True)
    cache.mkdir(parents=True)
    torch.save({"params": network.state_dict()}, cache / f"{NAME}.pth")
    assert released_upscaler(NAME).config["num_channels"] == 6


def test_unknown_names():
    with pytest.raises(ValueError, match="'realesr' is no network of Real-ESRGAN; there are realesr-general-x4v3, "):
        released_upscaler("realesr")


@pytest.mark.parametrize("released", RELEASED.values())
def test_the_files_are_named_and_hashed(released):
    assert released.path.endswith(".pth") and len(released.sha256) == 64
