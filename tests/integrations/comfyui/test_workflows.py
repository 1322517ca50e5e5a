import json
from collections import Counter

import pytest
from PIL import Image

from examples.make_comfyui_workflows import COMFYUIS_OWN, EXAMPLES, GRAPHS, OUTPUT, run_prompt, to_prompt, to_workflow

from .conftest import FOLDER


NAMES = sorted(GRAPHS)


def read(name):
    return json.loads((FOLDER / "example_workflows" / f"{name}.json").read_text())


def definition(nodes, kind):
    """Inputs, and names and types of the outputs, of a kind of node."""
    if kind in nodes:
        node = nodes[kind]
        return node.INPUT_TYPES()["required"], list(zip(node.RETURN_NAMES, node.RETURN_TYPES, strict=True))
    inputs, outputs = COMFYUIS_OWN[kind]
    return inputs, list(outputs.items())


def test_there_is_a_workflow_and_a_picture_for_each():
    files = {path.name for path in (FOLDER / "example_workflows").iterdir()}
    assert files == {f"{name}.{suffix}" for name in NAMES for suffix in ("json", "png")}
    assert OUTPUT == FOLDER / "example_workflows"


@pytest.mark.parametrize("name", NAMES)
def test_files_are_in_step_with_the_nodes(name):
    """If not: python -m examples.make_comfyui_workflows."""
    workflow = to_workflow(GRAPHS[name])
    assert read(name) == workflow
    texts = Image.open(FOLDER / "example_workflows" / f"{name}.png").text
    assert json.loads(texts["workflow"]) == workflow
    assert json.loads(texts["prompt"]) == to_prompt(GRAPHS[name])


@pytest.mark.parametrize("name", NAMES)
def test_links_join_what_fits(name, nodes):
    workflow = read(name)
    by_id = {node["id"]: node for node in workflow["nodes"]}
    assert workflow["version"] == 0.4
    assert workflow["last_node_id"] == max(by_id) and workflow["last_link_id"] == len(workflow["links"])
    for number, source, place, target, slot, kind in workflow["links"]:
        output, socket = by_id[source]["outputs"][place], by_id[target]["inputs"][slot]
        _, outputs = definition(nodes, by_id[source]["type"])
        inputs, _ = definition(nodes, by_id[target]["type"])
        assert (output["name"], output["type"]) == outputs[place] and outputs[place][1] == kind
        assert inputs[socket["name"]][0] == socket["type"] == kind
        assert number in output["links"] and socket["link"] == number
    linked = Counter(link for node in workflow["nodes"] for socket in node["inputs"] for link in [socket["link"]])
    assert linked == Counter(link[0] for link in workflow["links"])


@pytest.mark.parametrize("name", NAMES)
def test_values_are_accepted(name, nodes):
    prompt, workflow = to_prompt(GRAPHS[name]), read(name)
    for node in workflow["nodes"]:
        inputs, _ = definition(nodes, node["type"])
        values = iter(node["widgets_values"])
        for key, (kind, options) in inputs.items():
            if kind in ("IMAGE", "MASK") or str(kind).startswith("DIFFACE"):
                assert prompt[str(node["id"])]["inputs"][key][0] in prompt
                continue
            value = next(values)
            assert prompt[str(node["id"])]["inputs"][key] == value
            if options.get("image_upload"):
                assert (EXAMPLES / value).is_file()
            elif isinstance(kind, list):
                assert value in kind
            elif kind in ("INT", "FLOAT"):
                assert options["min"] <= value <= options["max"]
            if options.get("control_after_generate"):
                assert next(values) == "fixed"
        assert list(values) == (["image"] if node["type"].startswith("LoadImage") else [])


@pytest.mark.parametrize("name", NAMES)
def test_runs(name, nodes, part, load, pipe, inpainter):
    pipes = {"DifFaceLoadModel": pipe, "DifFaceLoadInpaintingModel": inpainter}
    stand_ins = {kind: loader(load(each)) for kind, each in pipes.items()}
    shown = run_prompt(json.loads(json.dumps(to_prompt(GRAPHS[name]))), EXAMPLES, nodes | stand_ins)
    assert len(shown) == sum(node.kind in ("SaveImage", "PreviewImage") for node in GRAPHS[name].values())
    assert all(image.shape[1:] == (512, 512, 3) for image in shown)


def loader(model):
    """A node that loads a model that is there."""

    class Loader:
        FUNCTION = "load"

        def load(self, **_):
            return (model,)

    return Loader
