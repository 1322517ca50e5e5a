"""What the networks of a pipeline must be: an unconditional prior of RGB faces, and an estimator of such faces."""

from typing import Any

import numpy as np
from diffusers.schedulers.scheduling_utils import SchedulerMixin

from ..models.estimator import takes_mask
from ..models.unet import unit_of_sides
from .schedulers import wants_variance


ACCEPTED_OF_UNET: dict[str, tuple] = {
    "in_channels": (3,),
    "out_channels": (3, 6),  # epsilon, or with the variance
    "class_embed_type": (None,),
    "num_class_embeds": (None,),
}
ACCEPTED_OF_ESTIMATOR: dict[str, tuple] = {"in_channels": (3,), "out_channels": (3, None)}
ACCEPTED_OF_INPAINTER = ACCEPTED_OF_ESTIMATOR | {"in_channels": (3, 4)}  # some count the mask


def size_of_faces(unet: Any) -> tuple[int, int]:
    """Return the height and width of the faces that a prior was trained on, pixels.

    Raises:
        ValueError: its config does not say, or they cannot be halved from level to level.
    """
    size = unet.config.sample_size
    sides = size if isinstance(size, list | tuple) else [size, size]
    unit = unit_of_sides(unet.config.get("patch_size", 1), len(unet.config.block_out_channels))
    if len(sides) != 2 or not all(isinstance(side, int | np.integer) and side > 0 == side % unit for side in sides):
        raise ValueError(
            f"`unet` has the `sample_size` {size!r}; it must be the side of the faces that it was trained on, or their"
            f" height and width, in multiples of {unit}. `unet.register_to_config(sample_size=...)` sets it."
        )
    return int(sides[0]), int(sides[1])


def check_networks(unet: Any, estimator: Any, is_inpainting: bool) -> None:
    """Raise a `ValueError` for networks that cannot work together on RGB faces, as far as their configs say."""
    if takes_mask(estimator) != is_inpainting:
        kinds = ("no", "inpaints", "fills holes") if is_inpainting else ("a", "restores", "restores")
        raise ValueError(
            "`estimator` is a {}, which takes {} mask; a pipeline that {} needs one that {}.".format(
                type(estimator).__name__, *kinds
            )
        )
    size_of_faces(unet)
    _check_config("unet", unet, ACCEPTED_OF_UNET)
    _check_config("estimator", estimator, ACCEPTED_OF_INPAINTER if is_inpainting else ACCEPTED_OF_ESTIMATOR)


def check_variance(unet: Any, scheduler: SchedulerMixin) -> None:
    """Raise a `ValueError` if the scheduler wants a variance that the prior has not learned."""
    if wants_variance(scheduler) and unet.config.out_channels != 6:
        raise ValueError(
            f"`scheduler` wants a learned variance (`variance_type` {scheduler.config.variance_type!r}), but"
            f" the UNet has {unet.config.out_channels} output channels; 6 are needed."
        )


def _check_config(name: str, network: Any, accepted: dict[str, tuple]) -> None:
    config = getattr(network, "config", {})  # an estimator of one's own may have none
    for entry, values in accepted.items():
        if (value := config.get(entry, values[0])) not in values:
            raise ValueError(f"`{name}` has `{entry}` {value!r}; accepted is {' or '.join(map(repr, values))}.")
