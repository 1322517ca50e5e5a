"""The entry point, in processes of its own."""

import subprocess
import sys
from importlib.metadata import entry_points

import pytest


HEAVY = ("torch", "diffusers", "numpy", "PIL", "cv2", "huggingface_hub", "accelerate", "tqdm")
RUN = "import sys, difface; sys.argv = ['difface', *{arguments}]; sys.exit(difface.main())"


def run(*arguments):
    code = RUN.format(arguments=list(arguments))
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def imported(*arguments):
    """Return which of the heavy packages a command imports before it leaves."""
    code = (
        f"import atexit, sys; atexit.register(lambda: print('imported', [n for n in {HEAVY} if n in sys.modules]))\n"
    )
    code += RUN.format(arguments=list(arguments))
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return answer, eval(answer.stdout.rpartition("imported ")[2])


@pytest.mark.parametrize("arguments", [["--help"], ["restore", "--help"], ["train", "--help"], ["video", "--help"]])
def test_help_imports_nothing_that_takes_long(arguments):
    answer, found = imported(*arguments)
    assert answer.returncode == 0 and "usage: difface" in answer.stdout
    assert found == []


def test_a_mistake_imports_nothing_that_takes_long():
    answer, found = imported("restore", "photo.jpg")
    assert answer.returncode == 2 and "required: -o/--output" in answer.stderr
    assert found == []


def test_a_command_has_the_whole_package():
    answer = run("info")
    assert answer.returncode == 0, answer.stderr
    assert "DifFacePipeline" in answer.stdout


@pytest.mark.parametrize("name", ["difface", "difface-diffusers"])
def test_both_names_lead_there(name):
    (script,) = entry_points(group="console_scripts", name=name)
    assert script.value == "difface:main"
