import gradio as gr
import pytest

from difface_diffusers.demo.live import Preview, TileDone
from difface_diffusers.demo.run_panel import RunPanel, progress_bar


@pytest.fixture
def panel():
    with gr.Blocks():
        panel = RunPanel("Run")
        panel.add_preview()
    return panel


def previews(chains, closed):
    try:
        yield from (Preview(step, 2, []) for _ in range(chains) for step in (1, 2))
        yield "answer"
    finally:
        closed.append(True)


def watch(panel, made, **expected):
    """What the progress says, without its bar, and what is returned."""
    seen, closed = [], []
    events = panel.watch(previews(made, closed), **expected)
    while True:
        try:
            seen.append(next(events)[panel.progress].removeprefix("<label>Drawing: step ").split("<")[0])
        except StopIteration as end:
            assert closed == [True]
            return seen, end.value


def test_steps_are_counted_over_the_chains(panel):
    assert watch(panel, 2, chains=2) == (["1 of 4", "2 of 4", "3 of 4", "4 of 4"], "answer")


def test_the_total_grows_where_more_chains_come_than_expected(panel):
    assert watch(panel, 2) == (["1 of 2", "2 of 2", "3 of 4", "4 of 4"], "answer")


def test_tiles_of_the_background_are_counted_too(panel):
    events = panel.watch(event for event in (Preview(1, 1, []), TileDone(1, 3), "answer"))
    next(events)
    assert next(events) == {panel.progress: progress_bar("Enlarging: tile 1 of 3", 1, 3)}


def test_closing_it_closes_what_is_watched(panel):
    closed = []
    events = previews(1, closed)
    watched = panel.watch(events)
    next(watched)
    watched.close()
    assert closed == [True]


def test_the_bar():
    assert progress_bar("Drawing", 2, 6) == '<label>Drawing<progress value="2" max="6"></progress></label>'
    assert progress_bar("Waiting") == "<label>Waiting<progress></progress></label>"
