import ast
import hashlib
import re

import pytest
from huggingface_hub import ModelCard

import difface_diffusers
from difface_diffusers.hub.model_card import Source, model_card, source_of
from difface_diffusers.hub.originals.official import TASKS


SOURCES = [Source("prior.pth", 1_234_567, "ab" * 32), Source("estimator.pth", 89, "cd" * 32)]


@pytest.fixture
def card():
    return ModelCard(model_card(TASKS["restoration"], SOURCES, "fp16", "org/difface"))


def test_tells_the_hub_what_it_is(card):
    assert card.data.license == "other"
    assert card.data.license_name == "s-lab-license-1.0"
    assert card.data.license_link == "https://github.com/zsyOAOA/DifFace/blob/master/LICENSE"
    assert card.data.library_name == "diffusers"
    assert card.data.pipeline_tag == "image-to-image"
    assert "face-restoration" in card.data.tags


def test_says_what_a_reader_must_know(card):
    for text in (
        "non-commercial",
        "not for identifying people",
        "2212.06512",
        "@article{yue2024difface,",
        "| `num_inference_steps` | 100 |",
        "| `start_timestep` | 400 |",
        "| `eta` | 0.5 |",
        'pipe(image, preset="balanced")',
        "| `balanced` | 20 | ",
        "not on these weights",
    ):
        assert text in card.text


def test_names_the_sources_with_their_hashes(card):
    assert f"| `prior.pth` | 1,234,567 | `{'ab' * 32}` |" in card.text
    assert f"| `estimator.pth` | 89 | `{'cd' * 32}` |" in card.text


def test_usage_is_python_that_names_the_repository(card):
    code = re.search(r"```python\n(.*?)```", card.text, re.DOTALL)[1]
    tree = ast.parse(code)
    imported = [alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert imported == ["DifFacePipeline"]
    assert all(name in difface_diffusers.__all__ for name in imported)
    assert 'DifFacePipeline.from_pretrained("org/difface")' in code


def test_offers_half_precision_only_where_it_is(card):
    assert 'from_pretrained("org/difface", variant="fp16", dtype=torch.float16)' in card.text
    assert "fp16" not in model_card(TASKS["restoration"], SOURCES, None, "org/difface")


def test_source_is_measured(tmp_path):
    path = tmp_path / "prior.pth"
    path.write_bytes(b"weights" * 1000)
    assert source_of(path) == Source("prior.pth", 7000, hashlib.sha256(b"weights" * 1000).hexdigest())
