"""The tables of the documentation are those that the benchmarks wrote last."""

import pytest

from benchmarks.pages import RESULTS, SLOT, fill

from .pages import PAGES, read


def filled_from():
    return {slot["report"] for page in PAGES for slot in SLOT.finditer(read(page))}


@pytest.mark.parametrize("page", [page for page in PAGES if SLOT.search(read(page))])
def test_tables_are_those_of_the_reports(page):
    assert fill(read(page), RESULTS) == read(page), "python -m benchmarks.pages fills the tables anew"


def test_the_readme_shows_reports():
    assert SLOT.search(read("README.md"))


def test_every_report_is_shown_somewhere():
    assert {report.stem for report in RESULTS.glob("*.md")} == filled_from()


@pytest.mark.parametrize("page", PAGES)
def test_no_slot_is_left_open(page):
    text = read(page)
    assert text.count("<!-- table:") == text.count("<!-- /table -->") == len(SLOT.findall(text))
