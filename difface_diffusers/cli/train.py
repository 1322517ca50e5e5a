"""`difface train prior|estimator|student`: train on a folder of clean aligned faces."""

import argparse
import dataclasses
import sys
from collections.abc import Callable
from typing import Any


MONITORING = ("validation", "tensorboard")  # options that come before the config's


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the arguments of `difface train`."""
    parser = subparsers.add_parser(
        "train",
        help="train a prior, an estimator or a student of one call",
        description="Train on a folder of clean aligned faces. Run it again with the same output to resume.",
    )
    parser.add_argument("task", choices=["prior", "estimator", "student"])
    parser.add_argument("--config", required=True, help="YAML file; the names of the shipped ones work too")
    parser.add_argument("--data", required=True, help="folder of clean aligned faces, searched recursively")
    parser.add_argument(
        "--init-from",
        metavar="FOLDER",
        help="a saved pipeline or model to fine-tune; with no `model` in the config it has the saved one's settings",
    )
    parser.add_argument("--output", required=True, help="folder for checkpoints, sheets, log and the finished model")
    parser.add_argument("--validation", metavar="DATA", help="faces that are not trained on, to judge the model by")
    parser.add_argument(
        "--tensorboard", action="store_true", default=None, help="write curves and sheets for TensorBoard"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Train; return 130 when a signal stopped the training, as shells do."""
    from .. import training

    tasks: dict[str, tuple[Any, Callable[..., training.TrainingResult]]] = {
        "prior": (training.PriorConfig, training.train_prior),
        "estimator": (training.EstimatorConfig, training.train_estimator),
        "student": (training.StudentConfig, training.train_student),
    }
    config_class, train = tasks[args.task]
    path = training.shipped_config(args.config) or args.config
    try:
        config = training.load_config(config_class, path)
        if args.init_from is not None:
            config = dataclasses.replace(config, initial_weights=args.init_from)
        options = {name: getattr(args, name) for name in MONITORING if getattr(args, name) is not None}
        config = dataclasses.replace(config, monitoring=dataclasses.replace(config.monitoring, **options))
        result = train(config, args.data, args.output)
    except (ValueError, OSError, ImportError) as error:
        print(f"difface train: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped before the first step", file=sys.stderr)
        return 130
    if not result.finished:
        print(f"stopped at step {result.step}; run the same command again to go on", file=sys.stderr)
        return 130
    return 0
