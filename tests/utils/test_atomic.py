import pytest

from difface_diffusers.utils.atomic import whole_file, whole_path


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
    assert path.stat().st_mode & 0o777 == 0o644
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
