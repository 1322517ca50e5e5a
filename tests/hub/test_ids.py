import pytest

from difface_diffusers.hub.ids import may_be_hub_id


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("org/name", True),
        ("Org-1/some.name_2", True),
        ("here/nothing", False),
        ("./nothing", False),
        ("../nothing", False),
        ("nothing", False),
        ("a/b/c", False),
        ("/a/b", False),
        ("org/name/", False),
        ("org/na me", False),
    ],
)
def test_an_id_is_no_path_below_a_folder_that_is_there(tmp_path, monkeypatch, name, answer):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    assert may_be_hub_id(name) is answer
