"""What commands on files have in common: plan, skip what is done, share the rest among processes, work, conclude."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ..imaging.opening import count_pages
from .errors import UsageError
from .files import NO_EXTRAS, Extras, plan_outputs, written_paths
from .inputs import STANDARD, Inputs, Source, collect_inputs, mask_for, sources_of
from .options import FileOptions
from .report import UNREACHED, FileResult, conclude, failed, say_done
from .streams import spooled_input, spooled_output


if TYPE_CHECKING:
    from accelerate import PartialState

Plan = dict[Source, list[Path]]  # the results of each input
Work = Callable[[Plan, "PartialState | None"], Iterator[FileResult]]


def run_job(
    files: FileOptions,
    verb: str,
    work: Work,
    aligned: bool,
    results: int = 1,
    extras: Extras = NO_EXTRAS,
    masks: Path | None = None,
) -> int:
    """Run a command on every input; return 0, or 1 when some failed.

    Whatever ends it early, what became of the inputs until then is said and reported.

    Args:
        files: what is read and written.
        verb: what was done to the inputs, for the summary.
        work: makes the results of a plan, one input after the other; is not called when there is nothing to do.
        aligned: whether the inputs are faces, in which none are counted.
        results: how many each input has.
        extras: what is written beside them.
        masks: of the inputs, a file or a folder.

    Raises:
        UsageError: the command cannot start.
    """
    started = time.monotonic()
    _check_streams(files, extras)
    suffix = f".{files.format}" if files.format else None
    with (
        spooled_input(STANDARD in files.input) as standard_input,
        spooled_output(files.output, suffix or ".png") as output,
    ):
        found = collect_inputs((entry for entry in files.input if entry != STANDARD), files.recursive, output)
        sources = sources_of(found.files, files.pages == "all")
        if standard_input is not None:
            sources |= sources_of({standard_input: Path()}, files.pages == "all", STANDARD)
        kept = [mask for source in sources if masks and (mask := mask_for(source.file, masks))]
        plan = plan_outputs(sources, output, results, extras, suffix, kept, files.report)

        def finish(outcome: list[FileResult]) -> int:
            outcome = _complete(outcome, plan, found)
            return conclude(outcome, time.monotonic() - started, verb, files.report, found.left_out())

        processes = join_processes() if plan else None
        outcome: list[FileResult] = []
        try:
            for result in _results(plan, work, processes, files, extras):
                outcome.append(result)
                if result.outputs and not result.skipped:
                    say_done(result, aligned)
        except UsageError:
            raise
        except BaseException:  # Ctrl-C, or a mistake of the program
            if processes is None or processes.is_main_process:
                finish(outcome)
            raise
        if processes is not None and processes.num_processes > 1:
            from accelerate.utils import gather_object

            outcome = gather_object(outcome)
            if not processes.is_main_process:
                return 0
        return finish(outcome)


def _results(
    plan: Plan, work: Work, processes: "PartialState | None", files: FileOptions, extras: Extras
) -> Iterator[FileResult]:
    """Yield what becomes of the inputs of this process, those first whose results are there already."""
    own = list(plan)[processes.process_index :: processes.num_processes] if processes else list(plan)
    todo = {source: plan[source] for source in own}
    if files.skip_existing:
        for source in own:
            if all(path.exists() for path in written_paths(plan[source], extras)):
                targets = list(map(str, todo.pop(source)))
                yield FileResult(source.name, targets, skipped=True, page=source.page)
    if not todo:
        return
    sources = {(source.name, source.page): source for source in todo}
    for result in work(todo, processes):
        if result.outputs:
            pages = count_pages(sources[result.input, result.page].file)
            outputs = [STANDARD] if str(files.output) == STANDARD else result.outputs
            result = replace(result, pages=pages, outputs=outputs)
        yield result


def _complete(outcome: Sequence[FileResult], plan: Plan, found: Inputs) -> list[FileResult]:
    """Return one record for each input in their order, then those of the inputs that yield none."""
    records = {(result.input, result.page): result for result in outcome}
    rows = [records.get((source.name, source.page)) or failed(source, UNREACHED) for source in plan]
    return [*rows, *(FileResult(name, error=reason) for name, reason in found.failures.items())]


def _check_streams(files: FileOptions, extras: Extras) -> None:
    if files.input.count(STANDARD) > 1:
        raise UsageError(f"INPUT is {STANDARD} twice; standard input holds one picture")
    writes = str(files.output) == STANDARD
    if writes and extras != NO_EXTRAS:
        raise UsageError(
            f"-o {STANDARD} writes one picture; leave out --compare, --save-crops and --uncertainty, or name a folder"
        )
    if writes and files.skip_existing:
        raise UsageError(f"--skip-existing looks for files; -o {STANDARD} writes none")
    if (writes or STANDARD in files.input) and "LOCAL_RANK" in os.environ:
        raise UsageError(f"{STANDARD} is for one process; name files to share them among several")


def join_processes() -> "PartialState | None":
    """Return the processes of `accelerate launch` that share the work, `None` if this one is alone."""
    if "LOCAL_RANK" not in os.environ:
        return None
    import torch
    from accelerate import PartialState

    return PartialState(cpu=not torch.cuda.is_available(), timeout=timedelta(days=7))
