"""`difface demo`: serve the demo to a browser on this machine."""

import argparse
import os
from dataclasses import dataclass

from ..utils.records import take
from .errors import UsageError, refuse
from .parser import Commands


@dataclass(frozen=True)
class DemoOptions:
    """What `difface demo` is asked.

    Attributes:
        model: Hub id or folder of a pipeline; `None` is the bundled one.
        inpaint_model: the same for holes.
        device: `None` is the best there is.
        host: address to listen on; `None` is this machine alone.
        port: to listen on; `None` is the first free one from 7860.

    Raises:
        UsageError: `port` is out of range.
    """

    model: str | None
    inpaint_model: str | None
    device: str | None
    host: str | None
    port: int | None

    def __post_init__(self) -> None:
        if self.port is not None and not 0 <= self.port <= 65535:
            raise UsageError(f"--port is {self.port}; it must be within 0 .. 65535")


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
        help='Hub id or folder of a pipeline, or "official"; that of $DIFFACE_MODEL, else the bundled one, unless given',
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
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve; return 2 when it cannot be done."""
    from ..utils.extras import import_extra

    try:
        options = take(DemoOptions, vars(args))
        import_extra("gradio", "demo", "The demo needs")
        import_extra("spaces", "demo", "The demo needs")
        from ..demo import build_demo, launch, load_models

        models = load_models(options.model, options.inpaint_model, options.device)
        launch(build_demo(*models), options.host, options.port)
    except (UsageError, ImportError, OSError, ValueError, RuntimeError) as error:
        return refuse("demo", error)
    return 0
