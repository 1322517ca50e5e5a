"""In which precisions and formats the networks of a pipeline are stored, by the names and headers of their files."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from huggingface_hub import HfApi, parse_local_safetensors_file_metadata
from huggingface_hub.errors import HTTPError, SafetensorsParsingError
from huggingface_hub.utils import SafetensorsFileMetadata

from .model_files import ModelFiles, first_line


WEIGHTS = re.compile(  # of diffusers, with its old names of shards too, and of transformers
    r"(?P<component>\w+)/(diffusion_)?(pytorch_)?model(-\d{5}-of-\d{5})?"
    r"(\.(?P<variant>[\w-]+?))?(-\d{5}-of-\d{5})?\.(?P<format>safetensors|bin)"
)
DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}  # others as in the file
BUFFERS = ("running_mean", "running_var", "num_batches_tracked")  # batch normalization stores them with its parameters


@dataclass(frozen=True)
class StoredWeights:
    """One of the precisions and formats in which a network is stored.

    Attributes:
        variant: what `from_pretrained(..., variant=...)` selects these files by; `None` for those loaded by default.
        format: "safetensors" or "bin"; the latter are pickles, which are not opened.
        loaded: whether `from_pretrained` takes these files, told at most their variant: safetensors come before .bin, and
            .bin in several files takes `use_safetensors=False`. From the Hub all networks are taken in the same format.
        num_files: files the weights are split into.
        num_bytes: of all of them together.
        dtypes: of the parameters in them; `None` for .bin, and where the files are only on the Hub, which could not be asked.
        num_parameters: numbers in the parameters; `None` as above.
    """

    variant: str | None
    format: str
    loaded: bool
    num_files: int
    num_bytes: int
    dtypes: tuple[str, ...] | None
    num_parameters: int | None


class Kind(NamedTuple):
    """What the files have in common that make up a `StoredWeights`; the variant is empty for the default."""

    component: str
    variant: str
    format: str


def stored_weights(files: ModelFiles, components: Iterable[str]) -> dict[str, tuple[StoredWeights, ...]]:
    """Describe the weights of each component; the default first, and safetensors before .bin.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file is damaged.
    """
    weights: dict[str, list[StoredWeights]] = {component: [] for component in components}
    kinds: dict[Kind, list[str]] = {}
    for path in sorted(files.sizes):
        match = WEIGHTS.fullmatch(path)
        if match and match["component"] in weights:
            kinds.setdefault(Kind(match["component"], match["variant"] or "", match["format"]), []).append(path)
    for kind in sorted(kinds, key=lambda kind: (kind.variant, kind.format != "safetensors")):
        weights[kind.component].append(_describe(files, kind, kinds))
    return {component: tuple(stored) for component, stored in weights.items()}


def _describe(files: ModelFiles, kind: Kind, kinds: Mapping[Kind, Sequence[str]]) -> StoredWeights:
    paths = kinds[kind]
    is_known = kind.format == "safetensors" and (
        not files.from_cache or all((files.folder / path).is_file() for path in paths)
    )
    counts = _count_parameters(files, paths) if is_known else None
    return StoredWeights(
        variant=kind.variant or None,
        format=kind.format,
        loaded=_is_loaded(kind, kinds, whole_pipeline=files.revision is not None),
        num_files=len(paths),
        num_bytes=sum(files.sizes[path] for path in paths),
        dtypes=None if counts is None else tuple(sorted(DTYPES.get(dtype, dtype) for dtype in counts)),
        num_parameters=None if counts is None else counts.total(),
    )


def _is_loaded(kind: Kind, kinds: Mapping[Kind, Sequence[str]], whole_pipeline: bool) -> bool:
    """Return `StoredWeights.loaded`; `whole_pipeline` is whether all components must be of one format."""
    components = {kind.component for kind in kinds} if whole_pipeline else {kind.component}
    takes_bin = any(_formats(component, kind.variant, kinds) == {"bin"} for component in components)
    if kind.format == "bin":
        return takes_bin and not any("-of-" in path for path in kinds[kind])
    return not takes_bin


def _formats(component: str, variant: str, kinds: Iterable[Kind]) -> set[str]:
    """Return in which formats a component has a variant, or the default if it has no such variant."""
    of_variant, of_default = (
        {kind.format for kind in kinds if kind.component == component and kind.variant == name}
        for name in (variant, "")
    )
    return of_variant or of_default


def _count_parameters(files: ModelFiles, paths: Sequence[str]) -> Counter[str]:
    """Return how many numbers there are of each dtype, but for buffers."""
    counts: Counter[str] = Counter()
    for path in paths:
        for name, tensor in _read_header(files, path).tensors.items():
            if name.rpartition(".")[2] not in BUFFERS:
                counts[str(tensor.dtype)] += tensor.parameter_count
    return counts


def _read_header(files: ModelFiles, path: str) -> SafetensorsFileMetadata:
    try:
        if (files.folder / path).is_file():
            return parse_local_safetensors_file_metadata(files.folder / path)
        return HfApi().parse_safetensors_file_metadata(files.model, path, revision=files.revision)
    except (OSError, HTTPError) as error:
        raise OSError(f"{path} of {files.model} cannot be read: {first_line(error)}") from error
    except (SafetensorsParsingError, AttributeError, TypeError) as error:  # the last two: JSON of another form
        raise ValueError(f"{path} of {files.model} is no safetensors file: {error}") from error
