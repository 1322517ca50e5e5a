"""`difface train prior|estimator|student`: train on clean aligned faces."""

import argparse
import dataclasses
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..utils.records import take
from .errors import refuse
from .parser import Commands


DATA_HELP = (
    "clean aligned faces: a folder of images, Parquet or tar files, 'faces-{000..010}.tar', or ORG/NAME[:SPLIT] of the"
    " Hub"
)


@dataclass(frozen=True)
class MonitoringOptions:
    """What a training is asked to show of itself; `None` is up to the config. See `MonitoringConfig`."""

    validation: str | None
    tensorboard: bool | None
    push_to_hub: str | None
    private: bool | None


@dataclass(frozen=True)
class TrainOptions:
    """What `difface train` is asked.

    Attributes:
        task: "prior", "estimator" or "student".
        config: YAML file, or the name of a shipped one.
        data: places of faces, see `parse_source`.
        init_from: "bundled", "official", or folder or Hub id of a pipeline or model to fine-tune; `None` is up to the config.
        output: folder for all that is written.
        go_on: go on in an output of other settings too.
        monitoring: what is shown.
    """

    task: str
    config: str
    data: list[str]
    init_from: str | None
    output: str
    go_on: bool
    monitoring: MonitoringOptions


def add_parser(subparsers: Commands) -> None:
    """Declare the arguments of `difface train`."""
    parser = subparsers.add_parser(
        "train",
        help="train a prior, an estimator or a student of one call",
        description="Train on clean aligned faces. Run it again with the same output to resume.",
        examples=[
            "difface train estimator --config mini_estimator --data faces/ --output runs/estimator --validation held_back/",
            "difface train prior --config album.yaml --init-from ORG/NAME --data album_faces/ --output runs/album",
        ],
    )
    parser.add_argument("task", choices=["prior", "estimator", "student"])
    parser.add_argument("--config", required=True, help="YAML file; the names of the shipped ones work too")
    parser.add_argument(
        "--data",
        action="append",
        required=True,
        metavar="DATA[,weight=W][,min_size=A][,max_size=B]",
        help=f"{DATA_HELP}; may be given several times, each with how often its faces come and the training sizes it serves",
    )
    parser.add_argument(
        "--init-from",
        metavar="MODEL",
        help='"bundled", "official", or the folder or Hub id of a pipeline or model to fine-tune; with no `model` in the config'
        " it has the saved one's settings",
    )
    parser.add_argument("--output", required=True, help="folder for checkpoints, sheets, log and the finished model")
    parser.add_argument(
        "--go-on", action="store_true", help="go on in an output that was begun with other settings too"
    )
    parser.add_argument("--validation", metavar="DATA", help="faces that are not trained on, to judge the model by")
    flag: dict[str, Any] = {"action": "store_true", "default": None}  # what is left out is up to the config
    parser.add_argument("--tensorboard", **flag, help="write curves and sample sheets for TensorBoard")
    parser.add_argument("--push-to-hub", metavar="ORG/NAME", help="upload the averaged weights with each checkpoint")
    parser.add_argument("--private", **flag, help="make the repository on the Hub a private one")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Train; return 1 when something went wrong on the way, 2 when it cannot begin, 130, as shells do, after a signal."""
    import torch

    from .. import training
    from ..acceleration.allocation import keep_freed_memory

    if not torch.cuda.is_available():
        keep_freed_memory()
    tasks: dict[str, tuple[Any, Callable[..., training.TrainingResult]]] = {
        "prior": (training.PriorConfig, training.train_prior),
        "estimator": (training.EstimatorConfig, training.train_estimator),
        "student": (training.StudentConfig, training.train_student),
    }
    options = take(TrainOptions, vars(args))
    config_class, train = tasks[options.task]
    path = training.shipped_config(options.config) or options.config
    try:
        config = training.load_config(config_class, path)
        if options.init_from is not None:
            config = dataclasses.replace(config, initial_weights=options.init_from)
        given = {name: value for name, value in vars(options.monitoring).items() if value is not None}
        config = dataclasses.replace(config, monitoring=dataclasses.replace(config.monitoring, **given))
        data = [training.parse_source(text) for text in options.data]
        result = train(config, data, options.output, options.go_on)
    except (ValueError, OSError, ImportError) as error:
        return refuse("train", error)
    except training.TrainingError as error:
        print(f"difface train: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; run the same command again to go on", file=sys.stderr)
        return 130
    if not result.finished:
        print(f"stopped at step {result.step}; run the same command again to go on", file=sys.stderr)
        return 130
    if result.out_of_time:
        budget = f"{config.loop.max_seconds:g} seconds"
        print(
            f"saved at step {result.step}, as {budget} are over; the same command goes on for as long", file=sys.stderr
        )
    if result.unpublished is not None:
        print(f"difface train: {result.unpublished}", file=sys.stderr)
        return 1
    return 0
