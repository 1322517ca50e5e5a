"""The model card of a converted pipeline."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from huggingface_hub.utils.sha import sha_fileobj

from .originals.official import FASTER, LICENSE_URL, PROJECT_URL, RELEASE_URL, Task


@dataclass(frozen=True)
class Source:
    """An original file that a pipeline was converted from."""

    name: str
    num_bytes: int
    sha256: str


def source_of(path: str | Path) -> Source:
    """Return name, size and hash of a file."""
    path = Path(path)
    with path.open("rb") as file:
        return Source(path.name, path.stat().st_size, sha_fileobj(file).hex())


def model_card(task: Task, sources: Sequence[Source], variant: str | None, repo_id: str) -> str:
    """Write the README of a pipeline that was converted from the original's checkpoints.

    Args:
        task: what the pipeline does.
        sources: the files that it was made from.
        variant: "fp16" if the folder also holds that one.
        repo_id: what `from_pretrained` finds it by.

    Returns:
        Markdown, with the front matter that the Hub reads.
    """
    name = task.pipeline_class.__name__
    half = f'{name}.from_pretrained("{repo_id}", variant="{variant}", dtype=torch.float16)'
    hint = f"\nHalf of the download, for a GPU: `{half}`.\n" if variant else ""
    files = "\n".join(f"| `{source.name}` | {source.num_bytes:,} | `{source.sha256}` |" for source in sources)
    settings = "\n".join(f"| `{key.removeprefix('default_')}` | {value} |" for key, value in task.defaults.items())
    faster = "\n".join(
        f"| `{name}` | {preset['num_inference_steps']} | {task.to_fine_chain[name]:.0f} |"
        for name, preset in FASTER.items()
    )
    return f"""\
---
license: other
license_name: s-lab-license-1.0
license_link: {LICENSE_URL}
library_name: diffusers
pipeline_tag: image-to-image
tags:
  - face-restoration
  - image-restoration
  - difface
---

# {task.title}

{task.purpose} The weights are those of the original [DifFace]({PROJECT_URL}) (Yue and Loy, TPAMI 2024,
[arXiv 2212.06512](https://arxiv.org/abs/2212.06512)), converted to safetensors for
[diffusers](https://github.com/huggingface/diffusers) by difface_diffusers {version("difface-diffusers")}.

## Use

With the package `difface_diffusers`:

```python
import torch
from difface_diffusers import {name}

pipe = {name}.from_pretrained("{repo_id}").to("cuda")
restored = {task.call}.images[0]
```
{hint}
The faces must be aligned as in FFHQ. For whole photographs there is `restore_photo`, which finds, aligns and restores
the faces and puts them back.

What is left out of a call is set as in the original:

| setting | default |
| --- | ---: |
{settings}

The preset `original` names them all, and faster ones go by DPM-Solver++, which draws no noise after x_N:
`{task.call[:-1]}, preset="balanced")`.

| preset | network calls | to a fine chain (PSNR, dB) |
| --- | ---: | ---: |
{faster}

How near they come was measured on the bundled 256-pixel model, not on these weights. The fine chain is {task.fine_chain}.

## Source

| file | bytes | sha256 |
| --- | ---: | --- |
{files}

Official files have these names at {RELEASE_URL}. Every tensor of
them was used, and none is missing.

## Limits

- It invents detail that looks right. A restoration is a plausible face, not evidence: **not for identifying people**.
- It was trained on FFHQ and shares its biases; profiles, hands, hats and several faces in one crop come out badly.
- What the degraded face does not show at all may come back as another age, gaze or expression, or without glasses.

## License

The weights are under the
[S-Lab License 1.0]({LICENSE_URL}): **non-commercial use
only**, converted or not; for anything else, ask the authors of DifFace. The code of difface_diffusers is under
Apache-2.0.

## Citation

```bibtex
@article{{yue2024difface,
  title   = {{DifFace: Blind Face Restoration with Diffused Error Contraction}},
  author  = {{Yue, Zongsheng and Loy, Chen Change}},
  journal = {{IEEE Transactions on Pattern Analysis and Machine Intelligence}},
  year    = {{2024}}
}}
```
"""
