from dataclasses import dataclass

import pytest

from difface_diffusers.utils.records import take


@dataclass(frozen=True)
class Point:
    x: int
    y: int | None


@dataclass(frozen=True)
class Line:
    name: str
    start: Point


def test_takes_what_goes_by_the_names_of_the_fields_and_leaves_the_rest():
    assert take(Line, {"y": None, "name": "a", "x": 1, "color": "red"}) == Line("a", Point(1, None))


def test_the_arguments_of_a_function():
    def draw(x, y=2, *, width=3):
        return take(Point, locals())

    assert draw(1) == Point(1, 2)


def test_values_are_the_same_objects():
    values = {"x": [], "y": None}
    assert take(Point, values).x is values["x"]


def test_a_field_without_a_value():
    with pytest.raises(KeyError, match="'y'"):
        take(Line, {"name": "a", "x": 1})
