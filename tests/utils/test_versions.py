from importlib.metadata import version

from difface_diffusers.utils.versions import PACKAGE, version_of


def test_of_what_is_installed_and_of_what_is_not():
    assert version_of(PACKAGE) == version("difface-diffusers")
    assert version_of("difface-of-nobody") is None
