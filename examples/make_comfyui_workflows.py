"""Make the example workflows of `integrations/comfyui`: JSON for ComfyUI, and PNGs that carry it.

    python -m examples.make_comfyui_workflows

The picture in a PNG is what the workflow makes of the portrait of the other examples, with the bundled models.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from integrations.comfyui import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS


EXAMPLES = Path(__file__).parent
OUTPUT = EXAMPLES.parent / "integrations" / "comfyui" / "example_workflows"
VERSION = 0.4  # of ComfyUI's format
WIDTH, GAP = 320, 60  # of a node and between nodes, in ComfyUI's pixels
TITLE, ROW, PICTURE = 60, 26, 260  # heights: of a node without anything in it, of an input, of a picture that it shows
FIXED = "fixed"  # what becomes of a seed after a run
SHOWS_PICTURE = ("LoadImage", "LoadImageMask", "SaveImage", "PreviewImage")
UPLOADS = ("LoadImage", "LoadImageMask")

FILE = ([], {"default": "", "image_upload": True})
COMFYUIS_OWN: dict[str, Any] = {  # inputs and outputs of the nodes of ComfyUI that the workflows use
    "LoadImage": ({"image": FILE}, {"IMAGE": "IMAGE", "MASK": "MASK"}),
    "LoadImageMask": ({"image": FILE, "channel": (["alpha", "red", "green", "blue"], {})}, {"MASK": "MASK"}),
    "MaskToImage": ({"mask": ("MASK", {})}, {"IMAGE": "IMAGE"}),
    "SaveImage": ({"images": ("IMAGE", {}), "filename_prefix": ("STRING", {"default": "ComfyUI"})}, {}),
    "PreviewImage": ({"images": ("IMAGE", {})}, {}),
}


@dataclass(frozen=True)
class Output:
    """An output of another node of a workflow, by that one's name and the output's place."""

    node: str
    place: int = 0


@dataclass(frozen=True)
class Node:
    """A node of a workflow; inputs that are left out have their defaults."""

    kind: str
    inputs: Mapping[str, Any]


Graph = dict[str, Node]  # by names, each after those that it takes from

GRAPHS: dict[str, Graph] = {
    "restore_photo": {
        "photo": Node("LoadImage", {"image": "astronaut_photo.png"}),
        "model": Node("DifFaceLoadModel", {}),
        "restore": Node("DifFaceRestorePhoto", {"model": Output("model"), "image": Output("photo")}),
        "area": Node("MaskToImage", {"mask": Output("restore", 1)}),
        "save": Node("SaveImage", {"images": Output("restore"), "filename_prefix": "restored"}),
        "show": Node("PreviewImage", {"images": Output("area")}),
    },
    "inpaint": {
        "photo": Node("LoadImage", {"image": "astronaut_torn.png"}),
        "tears": Node("LoadImageMask", {"image": "astronaut_torn_mask.png", "channel": "red"}),
        "filler": Node("DifFaceLoadInpaintingModel", {}),
        "model": Node("DifFaceLoadModel", {}),
        "fill": Node("DifFaceInpaint", {"model": Output("filler"), "image": Output("photo"), "mask": Output("tears")}),
        "restore": Node("DifFaceRestorePhoto", {"model": Output("model"), "image": Output("fill")}),
        "save": Node("SaveImage", {"images": Output("restore"), "filename_prefix": "filled"}),
    },
    "several_versions": {
        "photo": Node("LoadImage", {"image": "astronaut_photo.png"}),
        "model": Node("DifFaceLoadModel", {}),
        "restore": Node("DifFaceSeveralVersions", {"model": Output("model"), "image": Output("photo"), "versions": 3}),
        "save": Node("SaveImage", {"images": Output("restore"), "filename_prefix": "version"}),
        "where": Node("PreviewImage", {"images": Output("restore", 1)}),
    },
}


def inputs_of(kind: str) -> dict[str, tuple[Any, dict[str, Any]]]:
    """Return what a kind of node asks for."""
    return COMFYUIS_OWN[kind][0] if kind in COMFYUIS_OWN else NODE_CLASS_MAPPINGS[kind].INPUT_TYPES()["required"]


def outputs_of(kind: str) -> dict[str, str]:
    """Return the types of what a kind of node answers, by names."""
    if kind in COMFYUIS_OWN:
        return COMFYUIS_OWN[kind][1]
    node = NODE_CLASS_MAPPINGS[kind]
    return dict(zip(node.RETURN_NAMES, node.RETURN_TYPES, strict=True))


def is_widget(kind: Any) -> bool:
    """Whether an input is set in the node itself, rather than linked to another."""
    return isinstance(kind, list) or kind in ("INT", "FLOAT", "STRING", "BOOLEAN")


def to_prompt(graph: Graph) -> dict[str, Any]:
    """Return a workflow in the form that ComfyUI's programs take (API)."""
    numbers = {name: str(number) for number, name in enumerate(graph, start=1)}
    prompt = {}
    for name, node in graph.items():
        values = {}
        for key, (_, options) in inputs_of(node.kind).items():
            value = node.inputs.get(key, options.get("default"))
            values[key] = [numbers[value.node], value.place] if isinstance(value, Output) else value
        title = NODE_DISPLAY_NAME_MAPPINGS.get(node.kind, node.kind)
        prompt[numbers[name]] = {"inputs": values, "class_type": node.kind, "_meta": {"title": title}}
    return prompt


def to_workflow(graph: Graph) -> dict[str, Any]:
    """Return a workflow in the form that ComfyUI's page opens."""
    entries = {name: to_entry(node, number) for number, (name, node) in enumerate(graph.items(), start=1)}
    links: list[list[Any]] = []
    for name, node in graph.items():
        for slot, socket in enumerate(entries[name]["inputs"]):
            output, number = node.inputs[socket["name"]], len(links) + 1
            source = entries[output.node]
            links.append([number, source["id"], output.place, entries[name]["id"], slot, socket["type"]])
            socket["link"] = number
            source["outputs"][output.place]["links"].append(number)
    lay_out(graph, entries)
    return {
        "last_node_id": len(entries),
        "last_link_id": len(links),
        "nodes": list(entries.values()),
        "links": links,
        "groups": [],
        "config": {},
        "extra": {},
        "version": VERSION,
    }


def lay_out(graph: Graph, entries: Mapping[str, dict[str, Any]]) -> None:
    """Place each node to the right of those that it takes from, and below those that are there already."""
    columns: dict[str, int] = {}
    bottoms: defaultdict[int, int] = defaultdict(int)
    for name, node in graph.items():
        sources = [value.node for value in node.inputs.values() if isinstance(value, Output)]
        columns[name] = column = 1 + max((columns[source] for source in sources), default=-1)
        entries[name]["pos"] = [column * (WIDTH + GAP), bottoms[column]]
        bottoms[column] += entries[name]["size"][1] + GAP


def to_entry(node: Node, number: int) -> dict[str, Any]:
    """Return a node as ComfyUI's page takes it, without its place and its links."""
    asked = inputs_of(node.kind)
    widgets = []
    for key, (kind, options) in asked.items():
        if is_widget(kind):
            widgets.append(node.inputs.get(key, options.get("default")))
            widgets += [FIXED] if options.get("control_after_generate") else []
    widgets += ["image"] if node.kind in UPLOADS else []  # the button's
    sockets = [{"name": key, "type": kind, "link": None} for key, (kind, _) in asked.items() if not is_widget(kind)]
    outputs = [
        {"name": key, "type": kind, "links": [], "slot_index": place}
        for place, (key, kind) in enumerate(outputs_of(node.kind).items())
    ]
    rows = max(len(sockets), len(outputs)) + len(widgets)
    return {
        "id": number,
        "type": node.kind,
        "pos": [0, 0],
        "size": [WIDTH, TITLE + ROW * rows + PICTURE * (node.kind in SHOWS_PICTURE)],
        "flags": {},
        "order": number - 1,
        "mode": 0,
        "inputs": sockets,
        "outputs": outputs,
        "properties": {"Node name for S&R": node.kind},
        "widgets_values": widgets,
    }


def run_prompt(prompt: Mapping[str, Any], folder: Path, node_classes: Mapping[str, Any]) -> list[torch.Tensor]:
    """Run a workflow as ComfyUI would.

    Args:
        prompt: see `to_prompt`.
        folder: what takes the place of ComfyUI's folder of inputs.
        node_classes: of the nodes that are not ComfyUI's own.

    Returns:
        What it saves and previews, IMAGEs.
    """
    shown: list[torch.Tensor] = []

    def read(image: str, mode: str) -> torch.Tensor:
        return torch.from_numpy(np.asarray(Image.open(folder / image).convert(mode)).astype(np.float32) / 255)[None]

    own = {
        "LoadImage": lambda image: (read(image, "RGB"), torch.zeros(1, 64, 64)),
        "LoadImageMask": lambda image, channel: (read(image, "RGB")[..., ["red", "green", "blue"].index(channel)],),
        "MaskToImage": lambda mask: (mask[..., None].expand(-1, -1, -1, 3),),
        "SaveImage": lambda images, filename_prefix: shown.append(images),
        "PreviewImage": shown.append,
    }
    answers: dict[str, Any] = {}
    with torch.inference_mode():
        for number, node in prompt.items():
            inputs = {
                key: answers[value[0]][value[1]] if isinstance(value, list) else value
                for key, value in node["inputs"].items()
            }
            kind = node["class_type"]
            run = own.get(kind) or getattr(node_classes[kind](), node_classes[kind].FUNCTION)
            answers[number] = run(*inputs.values()) if kind == "PreviewImage" else run(**inputs)
    return shown


def draw(images: Sequence[torch.Tensor]) -> Image.Image:
    """Return the pictures of IMAGEs of one size side by side."""
    row = torch.cat([picture for image in images for picture in image], dim=1)
    return Image.fromarray((row * 255).round().to(torch.uint8).numpy())


def main(argv: Sequence[str] | None = None) -> int:
    """Write the workflows and the PNGs."""
    parser = argparse.ArgumentParser(description="Make the example workflows of integrations/comfyui.")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="folder")
    output = parser.parse_args(argv).output
    output.mkdir(parents=True, exist_ok=True)
    for name, graph in GRAPHS.items():
        workflow, prompt = to_workflow(graph), to_prompt(graph)
        (output / f"{name}.json").write_text(json.dumps(workflow, indent=2) + "\n")
        texts = PngInfo()
        texts.add_text("prompt", json.dumps(prompt))
        texts.add_text("workflow", json.dumps(workflow))
        picture = draw(run_prompt(prompt, EXAMPLES, NODE_CLASS_MAPPINGS))
        picture.save(output / f"{name}.png", pnginfo=texts, optimize=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
