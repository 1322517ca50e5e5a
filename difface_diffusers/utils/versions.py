"""Which release of a package is installed."""

from importlib.metadata import PackageNotFoundError, version


PACKAGE = "difface-diffusers"


def version_of(package: str) -> str | None:
    """Return the version of an installed package; `None` if it is not, as a copy in a Space."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
