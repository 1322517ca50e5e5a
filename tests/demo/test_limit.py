import pytest

from difface_diffusers.demo import limit
from difface_diffusers.demo.limit import CallLimit


class Clock:
    """A clock that is set by hand."""

    seconds = 1000.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def clock():
    return Clock()


def test_as_many_at_once_as_a_minute_has_and_then_as_many_as_become_free(clock):
    calls = CallLimit(4, clock)  # one in 15 s
    assert [calls.wait("a") for _ in range(4)] == [0] * 4
    assert calls.wait("a") == 15
    clock.seconds += 7.5
    assert calls.wait("a") == 7.5  # what was refused is not counted
    clock.seconds += 7.5
    assert calls.wait("a") == 0
    assert calls.wait("a") == 15
    clock.seconds += 30
    assert [calls.wait("a") for _ in range(3)] == [0, 0, 15]


def test_after_a_minute_all_are_free_again_and_not_more(clock):
    calls = CallLimit(3, clock)
    for _ in range(3):
        calls.wait("a")
    clock.seconds += 600
    assert [calls.wait("a") > 0 for _ in range(4)] == [False, False, False, True]


def test_visitors_do_not_share_calls(clock):
    calls = CallLimit(1, clock)
    assert calls.wait("a") == 0 and calls.wait("b") == 0
    assert calls.wait("a") == 60 and calls.wait("b") == 60


def test_who_did_not_call_for_a_minute_is_forgotten(clock):
    calls = CallLimit(2, clock)
    for visitor in ("a", "b", "a"):
        calls.wait(visitor)
        clock.seconds += 25
    calls.wait("c")  # "b" called 50 s ago
    assert list(calls._visitors) == ["b", "a", "c"]
    clock.seconds += 20
    calls.wait("c")
    assert list(calls._visitors) == ["a", "c"]


def test_only_so_many_are_remembered(clock, monkeypatch):
    monkeypatch.setattr(limit, "MAX_VISITORS", 3)
    calls = CallLimit(1, clock)
    for visitor in "abcd":
        calls.wait(visitor)
    assert list(calls._visitors) == ["b", "c", "d"]
    assert calls.wait("d") == 60 and calls.wait("b") == 0
