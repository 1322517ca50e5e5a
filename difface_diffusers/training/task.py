"""What the loop trains, and how its model is built."""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from diffusers.models.modeling_utils import ModelMixin
from PIL import Image

from .config import TrainingConfig
from .pretrained import load_pretrained


class Task(Protocol):
    """What is trained. `name` is the subfolder of the finished model."""

    name: str
    model: ModelMixin

    @property
    def config(self) -> TrainingConfig:
        """The settings of the whole training."""

    def loss(self, model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the scalar loss of a batch; `model` is `self.model` as accelerate wraps it."""

    def validate(
        self, model: ModelMixin, batch: dict[str, torch.Tensor], generators: list[torch.Generator]
    ) -> dict[str, torch.Tensor]:
        """Return figures of each face, `[B]`, under their names; the lowest `loss` marks the best weights.

        All noise comes from `generators`, one a face.
        """

    def sheet(self, model: ModelMixin, batch: dict[str, torch.Tensor]) -> Image.Image:
        """Draw what the model does with a fixed batch."""


def copy_weights(source: ModelMixin, target: ModelMixin) -> None:
    """Give a model the weights of another one of the same architecture."""
    try:
        target.load_state_dict(source.state_dict())
    except RuntimeError as error:
        raise ValueError("a model of another architecture.") from error


def build_model(
    model_class: type[ModelMixin],
    settings: dict[str, Any],
    initial_weights: str | None,
    component: str,
    transfer: Callable[[Any, Any], None] = copy_weights,
) -> ModelMixin:
    """Build the model that a config describes.

    Args:
        model_class: what to build.
        settings: its arguments; none with initial weights stand for those of the saved model.
        initial_weights: folder or Hub id of a saved model, or of a pipeline that has one, to start from; `None` starts at
            random.
        component: name of the model in a pipeline.
        transfer: called with the saved model and the new one, gives the latter its weights; raises a `ValueError` where
            they do not fit.

    Raises:
        ValueError: unknown or unfit settings; initial weights that are missing or do not fit.
    """
    if initial_weights is None:
        return _build(model_class, settings)
    try:
        initial = load_pretrained(model_class, initial_weights, component)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"`initial_weights` is {initial_weights}; it must be the folder of a saved model or pipeline, or the id of one on"
            f" the Hub: {error}"
        ) from error
    try:
        model = _build(model_class, settings) if settings else model_class.from_config(initial.config)
        transfer(initial, model)
    except ValueError as error:
        raise ValueError(f"`initial_weights` is {initial_weights}: {error}") from error
    return model


def _build(model_class: type[ModelMixin], settings: dict[str, Any]) -> ModelMixin:
    try:
        return model_class(**settings)
    except TypeError as error:
        raise ValueError(f"`model`: {error}") from error
