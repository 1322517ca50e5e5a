"""Whether an output folder belongs to the training that is to go on in it."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..utils.atomic import whole_file
from ..utils.warning import warn_user
from .checking import CheckedFaces
from .checkpoints import find_checkpoints
from .config import TrainingConfig, read_settings, save_config
from .task import Task


CONFIG, RUN = "config.yaml", "run.json"
# What may change on the way: how long it goes on, what is shown and saved, and how fast it is. Faces that are left out are
# noticed by their absence.
FREE = (
    "data.skip_broken",
    "data.on_device",
    "loop.max_steps",
    "loop.max_seconds",
    "loop.num_workers",
    "loop.compile",
    "loop.gradient_checkpointing",
    "loop.log_every",
    "loop.sheet_every",
    "loop.validate_every",
    "loop.checkpoint_every",
    "loop.checkpoints_kept",
)
ACCUMULATION = "loop.gradient_accumulation_steps"


@dataclasses.dataclass(frozen=True)
class Run:
    """What a training's config does not say.

    Attributes:
        data: where its faces are from.
        faces: a digest of them, see `CheckedFaces`.
        processes: how many share a step.
    """

    data: str
    faces: str
    processes: int


def describe_run(faces: CheckedFaces, processes: int) -> Run:
    """Return what is to be known of a training besides its config."""
    data = " + ".join(source.identity() for source in faces.trained.sources)
    return Run(data, faces.digest, processes)


def check_output(output: Path, task: Task, run: Run, go_on: bool = False) -> None:
    """Make sure that a folder belongs to a training, if there is anything in it yet.

    Raises:
        ValueError: it holds something of a training with other settings, which the message names, and is not told to `go_on`.
    """
    checkpoints = find_checkpoints(output)
    results = (
        [checkpoints[-1].name] if checkpoints else [name for name in (task.name, "best") if (output / name).exists()]
    )
    if go_on or not results or not (output / CONFIG).is_file():
        return
    differences, before = _differences(output, task.config, run)
    if differences:
        kind = "model" if any(name.startswith(("model", "architecture")) for name in differences) else "training"
        named = ", ".join(f"`{name}` was {old!r} and is {new!r}" for name, (old, new) in differences.items())
        raise ValueError(
            f"`output` is {output}, which holds {results[0]} of another {kind}: {named}; name another folder, or go on in"
            " this one by `--go-on` (`go_on`)."
        )
    if before.faces != run.faces:
        warn_user(f"{run.data} does not hold the faces that it held before; another order begins.")


def note_run(output: Path, config: TrainingConfig, run: Run) -> None:
    """Write down in a folder, which may be missing, what training it belongs to."""
    output.mkdir(parents=True, exist_ok=True)
    save_config(config, output / CONFIG)
    with whole_file(output / RUN) as file:
        file.write(json.dumps(dataclasses.asdict(run), indent=2).encode())


def _differences(output: Path, config: TrainingConfig, run: Run) -> tuple[dict[str, tuple[Any, Any]], Run]:
    """Return the settings that were others before, each with the value then and now, and how the training was run."""
    try:
        old = dict(_flatten(read_settings(output / CONFIG)))
        before = Run(**json.loads((output / RUN).read_text(encoding="utf-8"))) if (output / RUN).is_file() else run
    except (ValueError, TypeError) as error:
        raise ValueError(f"`output` is {output}, whose {CONFIG} or {RUN} cannot be read: {error}") from error
    new, defaults = dict(_flatten(dataclasses.asdict(config))), _defaults(config)
    values = {name: (old.get(name, defaults.get(name)), new.get(name)) for name in [*old, *new]}
    changed = {name: pair for name, pair in values.items() if pair[0] != pair[1] and not _is_free(name)}
    changed.pop(ACCUMULATION, None)  # which processes may take over
    batches = old.get(ACCUMULATION, 1) * before.processes, new[ACCUMULATION] * run.processes
    if batches[0] != batches[1]:
        changed[f"{ACCUMULATION} x processes"] = batches
    if before.data != run.data and before.faces != run.faces:
        changed["data"] = (before.data, run.data)
    return changed, before


def _defaults(config: TrainingConfig) -> dict[str, Any]:
    """Return the settings of a config's class that have a default, with it."""
    missing = dataclasses.MISSING
    required = [
        entry.name for entry in dataclasses.fields(config) if missing is entry.default is entry.default_factory
    ]
    config = type(config)(**{name: getattr(config, name) for name in required})
    return {name: value for name, value in _flatten(dataclasses.asdict(config)) if name not in required}


def _flatten(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield nested settings under their names with dots, tuples as lists, as YAML has them."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", list(value) if isinstance(value, tuple) else value


def _is_free(name: str) -> bool:
    return name in FREE or name.startswith("monitoring.")
