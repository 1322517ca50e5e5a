"""Time as a budget: how much of it is over, and whether what comes next still fits in."""

from collections import Counter
from collections.abc import Collection
from time import monotonic


STEP, SHOW, SAVE = "step", "show", "save"
MARGIN = 1.25  # on what things took so far


class Clock:
    """Measures a training from its call on.

    Args:
        max_seconds: that it may take; `None` if it may take any time.

    Attributes:
        longest: seconds that a step, what is shown after one, and a checkpoint took at most. Of the steps the first counts
            only until there is a second, as much happens in it for the only time.
    """

    def __init__(self, max_seconds: float | None) -> None:
        self.max_seconds = max_seconds
        self.started = self.last = self.began = monotonic()
        self.share_before = 0.0
        self.longest = {STEP: 0.0, SHOW: 0.0, SAVE: 0.0}
        self._laps: Counter[str] = Counter()

    def begin(self, share: float) -> None:
        """Begin with the steps; `share` of a budget was over when the last checkpoint was written, all of it counts as none."""
        self.began = self.last = monotonic()
        self.share_before = share if share < 1 else 0.0

    def lap(self, what: str) -> None:
        """Note down how long something took that has just ended and began with the last lap's end."""
        now = monotonic()
        seconds, self.last = now - self.last, now
        self._laps[what] += 1
        forgotten = what == STEP and self._laps[STEP] == 2
        self.longest[what] = seconds if forgotten else max(self.longest[what], seconds)

    @property
    def share(self) -> float:
        """The part of the time for steps that is over, 0 .. 1; goes on where it was interrupted. 0 without a budget."""
        if self.max_seconds is None:
            return 0.0
        whole = self.started + self.max_seconds - self._ending - self.began
        over = min(1.0, (monotonic() - self.began) / whole) if whole > 0 else 1.0
        return self.share_before + (1 - self.share_before) * over

    def is_over(self, coming: Collection[str]) -> bool:
        """Whether what is coming does not fit in any more, what ends a training being done after it."""
        if self.max_seconds is None:
            return False
        needed = MARGIN * sum(self.longest[what] for what in coming) + self._ending
        return monotonic() - self.started + needed > self.max_seconds

    @property
    def _ending(self) -> float:
        """Seconds for the last checkpoint, the averaged weights, which take a part of that, and the last figures."""
        return MARGIN * (2 * self.longest[SAVE] + self.longest[SHOW])
