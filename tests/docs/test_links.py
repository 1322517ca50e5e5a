"""Links inside of the repository lead somewhere."""

import re

import pytest

from .pages import FENCE, PAGES, ROOT, read


LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
ELSEWHERE = ("http://", "https://", "mailto:")


def anchors(page):
    """Return the anchors of a page's headings, as they are made of their words."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in HEADING.findall(read(page))}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    links = LINK.findall(FENCE.sub("", read(page)))
    for link in links:
        if link.startswith(ELSEWHERE):
            continue
        path, _, anchor = link.partition("#")
        target = ((ROOT / page).parent / path).resolve() if path else ROOT / page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.relative_to(ROOT).as_posix()), link


def test_the_readme_is_short():
    assert len(read("README.md").splitlines()) <= 150


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("docs/")])
def test_pages_open_with_something_that_runs(page):
    """Before the first heading below the title there is a command or a block of Python."""
    opening = read(page).partition("\n## ")[0]
    assert re.search(r"^```(sh|python)$", opening, re.MULTILINE)
