"""`difface demo`: serve the demo to a browser on this machine."""

import argparse
import ipaddress
import os
import re
from dataclasses import dataclass

from ..utils.records import take
from .errors import UsageError, refuse
from .parser import Commands


CALLS_PER_MINUTE = 60  # of each visitor, where others than this machine are served


@dataclass(frozen=True)
class DemoOptions:
    """What `difface demo` is asked.

    Attributes:
        model: Hub id or folder of a pipeline; `None` is the bundled one.
        inpaint_model: the same for holes.
        device: `None` is the best there is.
        host: address to listen on; `None` is this machine alone.
        port: to listen on; `None` is the first free one from 7860.
        api_only: serve programs, without the page.
        calls_per_minute: of each visitor, 0 for no limit; `None` is `CALLS_PER_MINUTE` where `host` serves others.
        token: that requests must carry; `None` is none.

    Raises:
        UsageError: `port` or `calls_per_minute` is out of range, or `token` cannot be sent.
    """

    model: str | None
    inpaint_model: str | None
    device: str | None
    host: str | None
    port: int | None
    api_only: bool
    calls_per_minute: int | None
    token: str | None

    def __post_init__(self) -> None:
        if self.port is not None and not 0 <= self.port <= 65535:
            raise UsageError(f"--port is {self.port}; it must be within 0 .. 65535")
        if self.calls_per_minute is not None and self.calls_per_minute < 0:
            raise UsageError(f"--calls-per-minute is {self.calls_per_minute}; it must be at least 0")
        if self.token is not None and not re.fullmatch("[!-~]+", self.token):
            raise UsageError(
                "DIFFACE_TOKEN must be one or more ASCII characters without spaces; unset it to need no token"
            )

    @property
    def limit(self) -> int | None:
        """Calls a minute that each visitor may make, if there is a limit."""
        if self.calls_per_minute is None:
            return None if self.host is None or is_own(self.host) else CALLS_PER_MINUTE
        return self.calls_per_minute or None


def is_own(host: str) -> bool:
    """Return whether an address that is listened on reaches this machine alone."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def add_parser(subparsers: Commands) -> None:
    """Declare the arguments of `difface demo`."""
    parser = subparsers.add_parser(
        "demo",
        help="restore and fill in the browser",
        description="Serve the demo until it is interrupted. Nothing leaves the machine.",
        examples=[
            "difface demo",
            "difface demo --model official --port 8000",
        ],
    )
    parser.add_argument(
        "--model",
        default=os.environ.get("DIFFACE_MODEL"),
        help='Hub id or folder of a pipeline, "bundled" or "official"; else that of $DIFFACE_MODEL, else the bundled one',
    )
    parser.add_argument(
        "--inpaint-model",
        metavar="MODEL",
        default=os.environ.get("DIFFACE_INPAINT_MODEL"),
        help="the same for holes, and $DIFFACE_INPAINT_MODEL",
    )
    parser.add_argument("--device", metavar="D", help="cpu, cuda, cuda:1, mps; the best there is unless given")
    parser.add_argument("--host", help="address to listen on; only this machine is served unless given")
    parser.add_argument("--port", type=int, help="port to listen on; the first free one from 7860 unless given")
    parser.add_argument(
        "--api-only",
        action="store_true",
        help="serve programs, without the page; so it is, too, where $DIFFACE_TOKEN is set, which requests must then carry",
    )
    parser.add_argument(
        "--calls-per-minute",
        type=int,
        metavar="N",
        help=f"limit for each visitor, 0 for none; {CALLS_PER_MINUTE} with a --host that others reach, none else, unless given",
    )
    parser.set_defaults(run=run, token=os.environ.get("DIFFACE_TOKEN"))


def run(args: argparse.Namespace) -> int:
    """Serve; return 2 when it cannot be done."""
    from ..utils.extras import import_extra

    try:
        options = take(DemoOptions, vars(args))
        import_extra("gradio", "demo", "The demo needs")
        import_extra("spaces", "demo", "The demo needs")
        from ..demo import build_demo, launch, load_models

        models = load_models(options.model, options.inpaint_model, options.device)
        launch(
            build_demo(*models),
            options.host,
            options.port,
            api_only=options.api_only,
            token=options.token,
            calls_per_minute=options.limit,
        )
    except (UsageError, ImportError, OSError, ValueError, RuntimeError) as error:
        return refuse("demo", error)
    return 0
