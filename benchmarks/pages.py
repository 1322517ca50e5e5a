"""The tables of the documentation, filled in from what the benchmarks wrote.

    python -m benchmarks.pages [REPORT.md ...] [NAME=REPORT.md ...]

A page says what stands where in comments that readers do not see:

    <!-- table: quality 2: PSNR (dB) | identity -->
    <!-- /table -->

Between them goes the second table of `benchmarks/results/quality.md`, of it the row names and the columns that are listed.
Without a number it is the first table, without columns all of them. Reports that are given are taken over into
`benchmarks/results/` first, each under NAME or its own name.
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path


ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
PLACES = ("README.md", "docs/*.md", "difface_diffusers/*/README.md")
SLOT = re.compile(
    r"<!-- table: (?P<report>[\w-]+)(?: (?P<number>\d+))?(?:: (?P<columns>[^\n]+?))? -->\n(?P<table>.*?)<!-- /table -->",
    re.DOTALL,
)
TABLE = re.compile(r"(?:^\|.*\|\n?)+", re.MULTILINE)


def find_pages(root: Path) -> list[Path]:
    """Return the pages that may show tables."""
    return sorted(page for place in PLACES for page in root.glob(place))


def fill(page: str, results: Path) -> str:
    """Return the text of a page with its tables as the reports in a folder have them.

    Raises:
        ValueError: The page asks for a report, a table or a column that is not there.
    """

    def table(slot: re.Match[str]) -> str:
        opening = slot[0].split("\n", 1)[0]
        report = results / f"{slot['report']}.md"
        if not report.is_file():
            raise ValueError(f"{opening}: there is no {report}; benchmarks write it, and it is taken over by its name")
        try:
            rows = pick(report.read_text(encoding="utf-8"), slot["number"], slot["columns"])
        except ValueError as error:
            raise ValueError(f"{opening}: {error}") from error
        return f"{opening}\n\n{rows}\n<!-- /table -->"  # without the empty lines Markdown takes the table for HTML

    return SLOT.sub(table, page)


def pick(report: str, number: str | None = None, columns: str | None = None) -> str:
    """Return lines of a report: its table of a number from 1, of it the first column and those named in `columns`.

    Raises:
        ValueError: The report has no such table, or the table no such column.
    """
    tables = TABLE.findall(report)
    place = int(number or 1)
    if not 1 <= place <= len(tables):
        raise ValueError(f"the report has {len(tables)} tables; there is no number {place}")
    rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in tables[place - 1].splitlines()]
    if columns is not None:
        kept = [0]
        for name in (part.strip() for part in columns.split("|")):
            if name not in rows[0][1:]:
                raise ValueError(f"the table has no column {name!r}; it has {rows[0][1:]}")
            kept.append(rows[0].index(name, 1))
        rows = [[row[column] for column in kept] for row in rows]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def take_over(given: Sequence[str], results: Path) -> None:
    """Copy reports, `PATH` or `NAME=PATH`, into a folder under their names.

    Raises:
        ValueError: A report is no Markdown file with a table.
    """
    texts = {}
    for argument in given:
        name, _, path = argument.rpartition("=")
        source = Path(path)
        text = source.read_text(encoding="utf-8") if source.suffix == ".md" and source.is_file() else ""
        if not TABLE.search(text):
            raise ValueError(
                f"{argument} is no report; accepted are Markdown files with a table, as benchmarks write them"
            )
        texts[name or source.stem] = text
    results.mkdir(exist_ok=True)
    for name, text in texts.items():
        (results / f"{name}.md").write_text(text, encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    """Take reports over and fill the pages."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pages",
        description="Fill the tables of the documentation from the benchmarks' reports.",
    )
    parser.add_argument("reports", nargs="*", metavar="[NAME=]REPORT.md", help="to take over first")
    args = parser.parse_args(argv)
    try:
        take_over(args.reports, RESULTS)
        texts = {page: page.read_text(encoding="utf-8") for page in find_pages(ROOT)}
        filled = {page: fill(text, RESULTS) for page, text in texts.items()}
    except ValueError as error:
        parser.error(str(error))
    for page, text in filled.items():
        if text != texts[page]:
            page.write_text(text, encoding="utf-8")
            print(page.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
