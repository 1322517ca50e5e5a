"""How often each visitor may call."""

import time
from collections.abc import Callable


PERIOD = 60  # seconds
MAX_VISITORS = 10_000  # who are remembered at a time


class CallLimit:
    """So many calls a minute for each visitor: that many at once, and from then on as many as become free with time.

    A visitor is forgotten a minute after the last call, when all are free again; or sooner, where `MAX_VISITORS` called later.

    Args:
        calls: a minute, from 1.
        clock: answers the time in seconds.
    """

    def __init__(self, calls: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.calls = calls
        self._clock = clock
        self._visitors: dict[
            str, tuple[float, float]
        ] = {}  # calls that are not free, and since when; latest call last

    def wait(self, visitor: str) -> float:
        """Count a call and return 0; or, when none is free, return in how many seconds one will be."""
        now = self._clock()
        self._forget(now)
        used, since = self._visitors.get(visitor, (0, now))
        used = max(0, used - (now - since) * self.calls / PERIOD)
        if used + 1 > self.calls:
            return (used + 1 - self.calls) * PERIOD / self.calls
        self._visitors.pop(visitor, None)
        self._visitors[visitor] = used + 1, now
        return 0

    def _forget(self, now: float) -> None:
        while self._visitors:
            visitor, (_, since) = next(iter(self._visitors.items()))
            if now - since < PERIOD and len(self._visitors) < MAX_VISITORS:
                break
            del self._visitors[visitor]
