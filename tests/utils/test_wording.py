import pytest

from difface_diffusers.utils.wording import counted


@pytest.mark.parametrize(("number", "text"), [(0, "0 faces"), (1, "1 face"), (2, "2 faces")])
def test_one_is_no_plural(number, text):
    assert counted(number, "face") == text
