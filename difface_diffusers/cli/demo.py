"""`difface demo`: serve the demo to a browser on this machine."""

import argparse
import os

from .files import refuse


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the arguments of `difface demo`."""
    parser = subparsers.add_parser(
        "demo",
        help="restore and fill in the browser",
        description="Serve the demo until it is interrupted. Nothing leaves the machine.",
    )
    parser.add_argument(
        "--model",
        default=os.environ.get("DIFFACE_MODEL"),
        help="Hub id or folder of a pipeline; that of $DIFFACE_MODEL, else the bundled one, unless given",
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
        import_extra("gradio", "demo", "The demo needs")
        import_extra("spaces", "demo", "The demo needs")
        from ..demo import build_demo, launch, load_models

        launch(build_demo(*load_models(args.model, args.inpaint_model, args.device)), args.host, args.port)
    except (ImportError, OSError, ValueError, RuntimeError) as error:
        return refuse("demo", error)
    return 0
