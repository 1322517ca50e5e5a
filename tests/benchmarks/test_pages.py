import pytest

from benchmarks import pages


REPORT = """Where it starts:

| start | PSNR (dB) | identity |
| --- | ---: | ---: |
| t = 150 | 23.03 | 0.583 |
| "auto" | 23.15 | 0.581 |

Which scheduler:

|  | seconds |
| --- | ---: |
| ddim | 0.48 |

24 faces.
"""
SECOND = "|  | seconds |\n| --- | ---: |\n| ddim | 0.48 |\n"


@pytest.fixture
def results(tmp_path):
    (tmp_path / "starts.md").write_text(REPORT, encoding="utf-8")
    return tmp_path


def page(opening, table=None):
    rows = "" if table is None else f"\n{table}\n"
    return f"# Title\n\n{opening}\n{rows}<!-- /table -->\n\nprose | with a bar\n"


@pytest.mark.parametrize("stale", [None, "| an | old |\n| --- | --- |\n| one | 0 |\n"])
def test_a_slot_shows_the_first_table(results, stale):
    opening = "<!-- table: starts -->"
    filled = pages.fill(page(opening, stale), results)
    assert filled == page(opening, REPORT.split("\n\n")[1] + "\n")
    assert pages.fill(filled, results) == filled


def test_a_slot_shows_another_table(results):
    opening = "<!-- table: starts 2 -->"
    assert pages.fill(page(opening), results) == page(opening, SECOND)


def test_a_slot_shows_some_columns_in_its_own_order(results):
    opening = "<!-- table: starts: identity | PSNR (dB) -->"
    table = "| start | identity | PSNR (dB) |\n| --- | ---: | ---: |\n| t = 150 | 0.583 | 23.03 |\n"
    assert pages.fill(page(opening), results) == page(opening, table + '| "auto" | 0.581 | 23.15 |\n')


def test_two_slots_of_a_page_are_filled_apart(results):
    first, second = "<!-- table: starts 1 -->", "<!-- table: starts 2 -->"
    filled = pages.fill(page(first) + page(second), results)
    assert filled == page(first, REPORT.split("\n\n")[1] + "\n") + page(second, SECOND)


@pytest.mark.parametrize(
    ("opening", "message"),
    [
        ("<!-- table: speed -->", r"<!-- table: speed -->: there is no .*speed\.md"),
        ("<!-- table: starts 3 -->", "the report has 2 tables; there is no number 3"),
        ("<!-- table: starts 0 -->", "the report has 2 tables; there is no number 0"),
        ("<!-- table: starts: SSIM -->", r"the table has no column 'SSIM'; it has \['PSNR \(dB\)', 'identity'\]"),
    ],
)
def test_what_is_not_there_is_named(results, opening, message):
    with pytest.raises(ValueError, match=message):
        pages.fill(page(opening), results)


def test_pages_without_slots_stay(results):
    text = "| a | b |\n| --- | --- |\n| 1 | 2 |\n"
    assert pages.fill(text, results) == text


def test_reports_are_taken_over_and_pages_filled(tmp_path, monkeypatch, capsys):
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text(page("<!-- table: starts 2 -->"), encoding="utf-8")
    (tmp_path / "docs" / "speed.md").write_text(page("<!-- table: real: PSNR (dB) -->"), encoding="utf-8")
    (tmp_path / "starts.md").write_text(REPORT, encoding="utf-8")
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    monkeypatch.setattr(pages, "RESULTS", tmp_path / "results")

    report = tmp_path / "starts.md"
    assert pages.main([str(report), f"real={report}"]) == 0
    assert capsys.readouterr().out.splitlines() == ["README.md", "docs/speed.md"]
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == page("<!-- table: starts 2 -->", SECOND)
    assert "| t = 150 | 23.03 |\n" in (tmp_path / "docs" / "speed.md").read_text(encoding="utf-8")
    assert pages.main([]) == 0 and capsys.readouterr().out == ""


def test_what_is_no_report_changes_nothing(tmp_path, capsys):
    (tmp_path / "notes.md").write_text("no table\n", encoding="utf-8")
    with pytest.raises(SystemExit):
        pages.main([str(tmp_path / "notes.md")])
    assert "notes.md is no report; accepted are Markdown files with a table" in capsys.readouterr().err
    assert not (pages.RESULTS / "notes.md").exists()
