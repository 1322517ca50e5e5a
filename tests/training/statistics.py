"""Whether two samples may be of one distribution."""

import numpy as np


def assert_same_distribution(first, second):
    """Fail where the distribution functions of two samples are further apart than those of one distribution in 1,000 cases.

    That is the test of Kolmogorov and Smirnov; ties only make it milder.
    """
    first, second = np.sort(np.ravel(first)), np.sort(np.ravel(second))
    places = np.concatenate([first, second])
    below = [np.searchsorted(sample, places, side="right") / len(sample) for sample in (first, second)]
    bound = 1.95 * np.sqrt(1 / len(first) + 1 / len(second))
    assert np.abs(below[0] - below[1]).max() < bound
