"""Saved models to start from: in a folder or on the Hub, alone or as part of a pipeline."""

from pathlib import Path

from diffusers.models.modeling_utils import ModelMixin
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HTTPError, IncompleteSnapshotError, RepositoryNotFoundError

from ..hub.ids import may_be_hub_id
from ..hub.named_models import resolve_model
from ..models import LaMaEstimator


INDEX, CONFIG = "model_index.json", "config.json"


def load_pretrained(model_class: type[ModelMixin], source: str, component: str) -> ModelMixin:
    """Load a saved model, or a pipeline's; a base class's are the class's own.

    Args:
        model_class: of the answer.
        source: folder or Hub id, "bundled" or "official".
        component: name of the model in a pipeline.

    Raises:
        ValueError: there is nothing there, or a model of another class.
        OSError: a file is missing there.
    """
    source = resolve_model(
        source, "DifFaceInpaintPipeline" if issubclass(model_class, LaMaEstimator) else "DifFacePipeline"
    )
    texts = Path(source) if Path(source).is_dir() else _fetch_texts(source, component)
    place = {"subfolder": component} if (texts / INDEX).is_file() else {}
    saved, accepted = (
        model_class.load_config(texts, **place)["_class_name"],
        [base.__name__ for base in model_class.__mro__],
    )
    if saved not in accepted:
        raise ValueError(f"{source} holds a {saved}; it must hold a {model_class.__name__}.")
    revision = {} if texts == Path(source) else {"revision": texts.name}
    return model_class.from_pretrained(source, **place, **revision)


def _fetch_texts(source: str, component: str) -> Path:
    """Return the folder of a repository's revision in the cache, with what tells a model from a pipeline."""
    if not may_be_hub_id(source):
        raise ValueError("there is no such folder.")
    try:
        return Path(snapshot_download(source, allow_patterns=[INDEX, CONFIG, f"{component}/{CONFIG}"]))
    except IncompleteSnapshotError as error:  # other files of it are in the cache, and the Hub cannot be asked
        return Path(error.snapshot_path)
    except RepositoryNotFoundError as error:
        raise ValueError(
            "there is no such folder, nor a repository of the Hub that may be read; one that is private or gated takes a token"
            " of an account with access, from `hf auth login` or in HF_TOKEN."
        ) from error
    except (OSError, HTTPError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"there is no such folder, it is not in the cache, and the Hub does not give it: {reason}"
        ) from error
