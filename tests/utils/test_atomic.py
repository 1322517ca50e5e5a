import os

import pytest
import torch
from safetensors.torch import save_file

from difface_diffusers.utils.atomic import replaced_folder, whole_file, whole_folder, whole_path


@pytest.mark.parametrize("problem", [ValueError, KeyboardInterrupt])
def test_whatever_ends_the_block(tmp_path, problem):
    with pytest.raises(problem), whole_file(tmp_path / "a.txt") as file:
        file.write(b"half")
        raise problem
    assert list(tmp_path.iterdir()) == []


def test_takes_its_place_only_at_the_end(tmp_path):
    path = tmp_path / "new" / "folder" / ("long" * 60 + ".txt")
    with whole_file(path) as file:
        file.write(b"whole")
        (hidden,) = path.parent.iterdir()
        assert hidden.name.startswith(".")
    assert path.read_bytes() == b"whole"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("problem", [ValueError, KeyboardInterrupt])
def test_files_that_others_write_by_name(tmp_path, problem):
    path = tmp_path / "a.txt"
    with whole_path(path) as temporary:
        temporary.write_bytes(b"whole")
        assert not path.exists() and temporary.parent == path.parent
    with pytest.raises(problem), whole_path(path) as temporary:
        temporary.write_bytes(b"half")
        raise problem
    assert path.read_bytes() == b"whole"
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.mark.skipif(os.name == "nt", reason="Windows knows no such permissions")
@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077], indirect=True)
def test_files_may_be_read_by_whom_the_system_lets(tmp_path, umask):
    with whole_file(tmp_path / "a.txt") as file:
        file.write(b"whole")
    with whole_path(tmp_path / "b.txt") as temporary:
        temporary.write_bytes(b"whole")
    for name, whole in (("c", whole_folder), ("d", replaced_folder)):
        with whole(tmp_path / name) as folder:
            (folder / "unet").mkdir(parents=True)
            save_file(
                {"weight": torch.zeros(2)}, folder / "unet" / "model.safetensors"
            )  # 0o600, whatever the system says
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 4
    assert {path.stat().st_mode & 0o777 for path in files} == {0o666 & ~umask}
