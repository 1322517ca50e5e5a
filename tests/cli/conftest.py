import pytest

from difface_diffusers.acceleration import allocation


@pytest.fixture(autouse=True)
def keeps_memory(monkeypatch):
    """Calls that would change what the process of the tests does with memory."""
    calls = []
    monkeypatch.setattr(allocation, "keep_freed_memory", lambda: calls.append(None))
    return calls


@pytest.fixture
def model(pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "model")
    return tmp_path / "model"
