"""The command line. It answers `--help` and mistyped options before torch and diffusers are imported."""

import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec


def main() -> int:
    """Run `difface`; return the exit status.

    The package imports torch, so its own code waits until the options are known: its modules can be imported before.
    """
    spec = PathFinder.find_spec("difface_diffusers")
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError("difface_diffusers is not installed.")
    package = sys.modules[spec.name] = module_from_spec(spec)
    from difface_diffusers.cli.main import parse, run

    options = parse()
    try:
        spec.loader.exec_module(package)
    except ImportError as error:
        if options.command != "doctor":  # which says so itself, and what else is missing
            print(f"difface: {error}; `difface doctor` says what is missing", file=sys.stderr)
            return 2
    return run(options)


if __name__ == "__main__":
    sys.exit(main())
