import torch

from difface_diffusers.models.wrapping import unwrap

from ..conftest import tiny_estimator


def test_whatever_was_put_around_a_network():
    network = tiny_estimator()
    for wrapped in (
        network,
        torch.compile(network, backend="eager"),
        torch.nn.DataParallel(network),
        torch.compile(torch.nn.DataParallel(network), backend="eager"),
        torch.nn.DataParallel(torch.compile(network, backend="eager")),
    ):
        assert unwrap(wrapped) is network


def test_what_is_no_network_stays():
    assert unwrap(None) is None and unwrap("a folder") == "a folder"
