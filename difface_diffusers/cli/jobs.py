"""What commands on files have in common: plan, skip what is done, share the rest among processes, work, conclude."""

import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from .files import collect_inputs, plan_outputs, written_files
from .options import FileOptions
from .report import FileResult, conclude


if TYPE_CHECKING:
    from accelerate import PartialState

Plan = dict[Path, list[Path]]  # the results of each input
Work = Callable[[Plan, "PartialState | None"], list[FileResult]]


def run_job(
    files: FileOptions, verb: str, work: Work, results: int = 1, compare: bool = False, uncertainty: bool = False
) -> int:
    """Run a command on every input; return 0, or 1 when some failed.

    Args:
        files: what is read and written.
        verb: what was done to the inputs, for the summary.
        work: makes the results of a plan; is not called when there is nothing to do.
        results: how many each input has.
        compare: whether a comparison is written with each result.
        uncertainty: whether a map of uncertainty is written with each input's.

    Raises:
        UsageError: the command cannot start.
    """
    started = time.monotonic()
    found, unusable = collect_inputs(files.input, files.recursive, files.output)
    suffix = files.format and f".{files.format}"
    plan = plan_outputs(found, files.output, results, compare, uncertainty, suffix)
    processes = _join_processes() if plan else None
    own = list(plan)[processes.process_index :: processes.num_processes] if processes else list(plan)
    done = {
        file: plan[file]
        for file in own
        if files.skip_existing and all(path.exists() for path in written_files(plan[file], compare, uncertainty))
    }
    outcome = [FileResult(str(file), list(map(str, targets)), skipped=True) for file, targets in done.items()]
    if todo := {file: plan[file] for file in own if file not in done}:
        outcome += work(todo, processes)
    if processes is not None and processes.num_processes > 1:
        from accelerate.utils import gather_object

        outcome = gather_object(outcome)
        if not processes.is_main_process:
            return 0
    order = {str(file): index for index, file in enumerate(plan)}
    outcome.sort(key=lambda result: order[result.input])
    outcome += [FileResult(name, error=reason) for name, reason in unusable.items()]
    return conclude(outcome, time.monotonic() - started, verb, files.report)


def _join_processes() -> "PartialState | None":
    """Return the processes of `accelerate launch` that share the work, `None` if this one is alone."""
    if "LOCAL_RANK" not in os.environ:
        return None
    import torch
    from accelerate import PartialState

    return PartialState(cpu=not torch.cuda.is_available(), timeout=timedelta(days=7))
