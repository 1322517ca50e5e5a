import pytest

from difface_diffusers.cli import main
from difface_diffusers.hub.assets import CachedModel


@pytest.fixture
def cache(monkeypatch, tmp_path):
    models = {
        "official restoration": CachedModel("official restoration", tmp_path / "restoration", 730_000_000, True),
        "prior.pth.part": CachedModel("prior.pth.part", tmp_path / "prior.pth.part", 2_000_000, False),
    }

    def free(name):
        if name not in models:
            raise ValueError(f"{name!r} is not in the cache.")
        return models.pop(name).num_bytes

    monkeypatch.setattr("difface_diffusers.hub.assets.cached_models", lambda: list(models.values()))
    monkeypatch.setattr("difface_diffusers.hub.assets.free", free)
    return models


def test_lists_what_is_there(cache, tmp_path, capsys):
    assert main(["models"]) == 0
    whole, part = capsys.readouterr().out.splitlines()
    assert whole.split("  ")[0] == "official restoration" and whole.endswith(f"730.0 MB  {tmp_path / 'restoration'}")
    assert part.endswith("prior.pth.part, broken off: it goes on when it is asked for again")


def test_frees_by_name(cache, capsys):
    assert main(["models", "--free", "prior.pth.part"]) == 0
    assert capsys.readouterr().out == "prior.pth.part: 2.0 MB are free again\n"
    assert list(cache) == ["official restoration"]


def test_frees_all(cache):
    assert main(["models", "--free"]) == 0
    assert cache == {}


def test_a_name_that_is_not_there(cache, capsys):
    assert main(["models", "--free", "other"]) == 2
    assert "difface models: 'other' is not in the cache." in capsys.readouterr().err
