"""Processes of their own without the seconds that the package takes to import: forks of one that has imported it."""

import gc
import multiprocessing
import os
import signal
import sys

from tests.hub.hub_server import read_environment


COMMAND = "from difface_diffusers.cli import main; sys.exit(main(sys.argv[1:]))"
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.no_garbage", "difface_diffusers.cli.batch", "difface_diffusers.training"])


def start(code, *arguments, log=os.devnull, environment=None):
    """Run code, which finds `arguments` in `sys.argv`, in a process and a process group of its own.

    `log` receives what it prints, the traceback of an error too. Unless an environment is given it has that of this process.
    """
    order = (code, list(map(str, arguments)), str(log), dict(environment or os.environ))
    process = CONTEXT.Process(target=_run, args=order)
    process.start()
    return process


def run(code, *arguments, **options):
    """Run code to its end and return the exit status."""
    process = start(code, *arguments, **options)
    process.join(240)
    return process.exitcode


def _run(code, arguments, log, environment):
    os.setsid()
    gc.freeze()  # what is imported by now is no garbage
    gc.enable()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore it
    file = os.open(log, os.O_WRONLY | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.environ.clear()
    os.environ.update(environment)
    read_environment()
    sys.argv = ["-c", *arguments]
    exec(code, {"__name__": "__main__", "sys": sys})
