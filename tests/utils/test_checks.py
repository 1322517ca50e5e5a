import numpy as np
import pytest

from difface_diffusers.utils.checks import check_integer, check_number, is_number


@pytest.mark.parametrize("value", [1, 1.5, np.float32(1.5), np.float64(2), np.int64(3), np.uint8(1)])
def test_numbers_of_python_and_numpy_are_numbers(value):
    assert is_number(value)
    check_number("x", value, 1, 3)


@pytest.mark.parametrize("value", ["1", None, True, [1.0], np.bool_(True)])
def test_others_are_none(value):
    assert not is_number(value)
    with pytest.raises(ValueError, match=r"`x` is .*; it must be a number at least 0"):
        check_number("x", value, 0)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), float("inf"), np.float32("nan")])
def test_numbers_out_of_range_are_refused(value):
    with pytest.raises(ValueError, match=r"`x` is .*; it must be a number within 0 .. 1"):
        check_number("x", value, 0, 1)


def test_infinity_has_no_place_without_a_bound():
    with pytest.raises(ValueError, match="`x` is inf"):
        check_number("x", float("inf"), 0)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0, "is 0; it must be at least 1 and at most 3 .of y."),
        (2.0, "is 2.0; it must be an integer"),
        (True, "is True"),
    ],
)
def test_integers(value, message):
    check_integer("x", np.int32(3), 1, 3)
    with pytest.raises(ValueError, match=f"`x` {message}"):
        check_integer("x", value, 1, 3, "of y")
