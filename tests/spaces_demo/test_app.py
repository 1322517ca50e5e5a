import importlib.metadata
import re
from pathlib import Path

import gradio as gr
from huggingface_hub import RepoCard

from spaces_demo import app


ROOT = Path(__file__).parents[2]
SPACE = ROOT / "spaces_demo"


def versions(path):
    """Names and versions of the `name==version` lines of a file; an empty version where there is none."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    return {re.split("[<>=]", line)[0].replace("_", "-"): line.partition("==")[2] for line in lines}


def test_builds_the_demo_of_the_models_that_are_named(pipe, tmp_path, monkeypatch):
    pipe.save_pretrained(tmp_path)
    monkeypatch.setenv("DIFFACE_MODEL", str(tmp_path))
    steps = [block.value for block in app.build_demo().blocks.values() if getattr(block, "label", "") == "Steps"]
    assert steps == [4, 20, 4]  # the defaults of the tiny one, of the bundled one that fills holes, and for videos


def test_what_it_installs_is_what_the_package_needs_as_it_was_tested():
    needed = {
        re.split("[<>=]", requirement)[0].replace("_", "-")
        for requirement in importlib.metadata.requires("difface-diffusers")
        if "extra" not in requirement or re.search("extra == '(demo|video)'", requirement)
    }
    installed = versions(SPACE / "requirements.txt")
    tested = versions(ROOT / "constraints.txt")
    assert set(installed) == needed
    assert all(version == tested[name] for name, version in installed.items() if name != "torch")


def test_its_card_names_the_file_and_the_version():
    card = RepoCard.load(SPACE / "README.md", ignore_metadata_errors=False).data
    assert card.sdk == "gradio" and card.sdk_version == gr.__version__
    assert (SPACE / card.app_file).is_file()
    assert len(card.short_description) <= 60  # the Hub takes no more
