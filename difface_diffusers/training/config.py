"""Typed settings of the trainings; a YAML file states only what differs from the defaults."""

import dataclasses
import math
import re
import typing
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from ..degradation.blind import DegradationRanges
from ..utils.atomic import whole_file
from ..utils.extras import import_extra
from .augmentation import AugmentationRanges


AUTO = "auto"
EXPONENT = re.compile(r"[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+$")


@dataclass(frozen=True)
class DataConfig:
    """Which faces are seen, and how.

    Attributes:
        image_size: side of the square training images, pixels.
        horizontal_flip: mirror every second face.
        augmentation: further changes of the clean face; none unless given.
        group_pattern: regular expression on the file's stem; files with the same match form a group (one identity,
            say). `None`: every file stands alone.
        max_per_group: how many files of a group an epoch draws.
        skip_broken: leave out images that are broken or not square; otherwise they are an error.
        on_device: keep all faces in the memory of the device that is trained on, and change and degrade them there, batch by
            batch; otherwise they are read and degraded one by one on the CPU. "auto" does so on a GPU if they take at most a
            third of its memory and are not to be worn (`degradation.wear_probability`), which is done one by one alone.
    """

    image_size: int = 128
    horizontal_flip: bool = True
    augmentation: AugmentationRanges = field(default_factory=AugmentationRanges)
    group_pattern: str | None = None
    max_per_group: int = 1
    skip_broken: bool = False
    on_device: bool | str = AUTO

    def __post_init__(self) -> None:
        _check_lowest(self, 1, "image_size", "max_per_group")
        _check_switch(self, "on_device")
        try:
            re.compile(self.group_pattern or "")
        except re.error as error:
            raise ValueError(f"`group_pattern` is {self.group_pattern!r}, no regular expression: {error}.") from error


@dataclass(frozen=True)
class LoopConfig:
    """How the optimization runs; one step is one update of the weights.

    Attributes:
        max_steps: updates in all.
        batch_size: images per process and forward pass.
        gradient_accumulation_steps: forward passes per update.
        optimizer: "adamw", or "muon", whose steps are of the same size in all directions, see `muon.Muon`: fewer of them teach
            as much, at the same learning rate, and each takes a little longer. Another one than before forgets its moments.
        learning_rate: of the optimizer, after the warm-up.
        final_learning_rate: reached by a cosine at `max_steps`; not above `learning_rate`.
        warmup_steps: steps of the learning rate's linear rise, `max_steps` at most; the last of them has all of it.
        weight_decay: of the optimizer.
        max_grad_norm: gradients are clipped to this norm; `None` leaves them as they are.
        ema_decay: of the averaged weights, which are the ones that are saved; in step k it is k / (k + 9) at most, so
            that the initial weights are soon forgotten.
        mixed_precision: "no", "bf16", or "auto", which is "bf16" where the device has instructions for it; without them it is
            many times slower than "no".
        compile: let `torch.compile` make one program of the network, which takes minutes at the start. "auto" does so on a
            GPU; sheets and validation do without.
        gradient_checkpointing: compute activations again in the backward pass: slower, in far less memory.
        seed: of the initial weights, the data order and all noise.
        num_workers: processes that load data; 0 loads in the training process.
        log_every: steps between two lines of log.jsonl.
        sheet_every: steps between two sample sheets.
        validate_every: steps between two validations, if there are faces for it, see `MonitoringConfig`.
        checkpoint_every: steps between two checkpoints.
        checkpoints_kept: older checkpoints are deleted.
        max_seconds: time that one call of the training takes at most, from its beginning to the saved model; the learning rate
            then runs down by the clock, see `learning_rate`. `None`: as long as it takes.
    """

    max_steps: int = 10_000
    batch_size: int = 16
    gradient_accumulation_steps: int = 1
    optimizer: str = "adamw"
    learning_rate: float = 1e-4
    final_learning_rate: float = 1e-5
    warmup_steps: int = 500
    weight_decay: float = 0.0
    max_grad_norm: float | None = 1.0
    ema_decay: float = 0.999
    mixed_precision: str = AUTO
    compile: bool | str = AUTO
    gradient_checkpointing: bool = False
    seed: int = 0
    num_workers: int = 0
    log_every: int = 50
    sheet_every: int = 1000
    validate_every: int = 1000
    checkpoint_every: int = 500
    checkpoints_kept: int = 2
    max_seconds: float | None = None

    def __post_init__(self) -> None:
        _check_lowest(self, 1, "max_steps", "batch_size", "gradient_accumulation_steps", "log_every", "sheet_every")
        _check_lowest(self, 1, "validate_every", "checkpoint_every", "checkpoints_kept")
        _check_lowest(self, 0, "learning_rate", "final_learning_rate", "warmup_steps", "weight_decay", "seed")
        _check_lowest(self, 0, "num_workers")
        _check_finite(self, "learning_rate", "weight_decay")
        if self.max_seconds is not None and not 0 < self.max_seconds < math.inf:
            raise ValueError(
                f"`max_seconds` is {self.max_seconds}; it must be above 0 and finite, or null for no limit."
            )
        _check_highest(self, "final_learning_rate", "learning_rate")
        _check_highest(self, "warmup_steps", "max_steps")
        if self.max_grad_norm is not None and not self.max_grad_norm > 0:
            raise ValueError(f"`max_grad_norm` is {self.max_grad_norm}; it must be above 0, or null for no clipping.")
        if self.optimizer not in ("adamw", "muon"):
            raise ValueError(f'`optimizer` is "{self.optimizer}"; it must be "adamw" or "muon".')
        if self.mixed_precision not in (AUTO, "no", "bf16"):
            raise ValueError(f'`mixed_precision` is "{self.mixed_precision}"; it must be "auto", "no" or "bf16".')
        _check_switch(self, "compile")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"`ema_decay` is {self.ema_decay}; it must be within [0, 1).")


@dataclass(frozen=True)
class MonitoringConfig:
    """What a training shows of itself; nothing of it changes the weights.

    Attributes:
        validation: clean faces that are not trained on, to judge the averaged weights by.
        tensorboard: write curves and sheets for TensorBoard.
        push_to_hub: ORG/NAME of a repository that receives the averaged weights with each checkpoint.
        private: make it a private one; an existing repository stays as it is.
    """

    validation: str | None = None
    tensorboard: bool = False
    push_to_hub: str | None = None
    private: bool = False


@dataclass(frozen=True)
class PriorConfig:
    """Training of the unconditional diffusion prior.

    Attributes:
        model: arguments of `DifFaceUNet2DModel`; six output channels switch the learned variance on. None of them with
            initial weights stand for those of the saved UNet; so do none of the estimator's and the student's.
        scheduler: arguments of `DDPMScheduler`, which noises the images.
        initial_weights: a saved UNet or pipeline to start from: "bundled", "official", its folder or Hub id. Of the same
            architecture but any `sample_size`, and as wide on each level or narrower; a narrower one is widened first. For
            a network on patches it may be one on single pixels, of a `sample_size` that is smaller by the patches' side.
        focus_timestep: timesteps below it are drawn with `focus_probability`, the others share the rest; validation looks
            at those below it alone.
        focus_probability: see `focus_timestep`; `None` draws all timesteps alike.
        min_snr_gamma: cap on the weight that the clean image has in the error of epsilon, as signal-to-noise ratio, say 5;
            timesteps with a higher ratio count less, see `losses.min_snr_weights`. `None` counts all alike. Validation
            always does, so that its figures can be compared.
    """

    model: dict[str, Any] = field(default_factory=dict)
    scheduler: dict[str, Any] = field(default_factory=dict)
    initial_weights: str | None = None
    focus_timestep: int = 450
    focus_probability: float | None = None
    min_snr_gamma: float | None = None
    data: DataConfig = field(default_factory=DataConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    monitoring: MonitoringConfig = field(default_factory=MonitoringConfig)

    def __post_init__(self) -> None:
        if self.focus_probability is not None and not 0 <= self.focus_probability <= 1:
            raise ValueError(f"`focus_probability` is {self.focus_probability}; it must be within 0 .. 1 or null.")
        if self.min_snr_gamma is not None and not 0 < self.min_snr_gamma < math.inf:
            raise ValueError(f"`min_snr_gamma` is {self.min_snr_gamma}; it must be above 0 and finite, or null.")


@dataclass(frozen=True)
class EstimatorConfig:
    """Training of a diffused estimator with nothing but an L1 loss.

    Attributes:
        architecture: "swinir" or "srcnn", which undo the blind degradation, or "lama", which fills holes.
        model: arguments of the architecture's class.
        initial_weights: a saved estimator of the same architecture, or a pipeline, to start from: "bundled", "official", its
            folder or Hub id.
        degradation: ranges of the blind degradation; "lama" sees none.
        scratch_probability: share of the holes that are scratches, 0 .. 1; the others are the paper's. For "lama" alone.
    """

    architecture: str = "swinir"
    model: dict[str, Any] = field(default_factory=dict)
    initial_weights: str | None = None
    degradation: DegradationRanges = field(default_factory=DegradationRanges)
    scratch_probability: float = 0.0
    data: DataConfig = field(default_factory=DataConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    monitoring: MonitoringConfig = field(default_factory=MonitoringConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.scratch_probability <= 1:
            raise ValueError(f"`scratch_probability` is {self.scratch_probability}; it must be within 0 .. 1.")


@dataclass(frozen=True)
class StudentConfig:
    """Distillation of a pipeline's prior into a student of one call.

    Attributes:
        teacher: the pipeline, by "bundled" or its folder or Hub id; its estimator, prior, scheduler and default settings
            make the targets.
        model: arguments of `DifFaceUNet2DModel`, the student's.
        initial_weights: a saved UNet of the same architecture, or a pipeline, to start from, the teacher's say: "bundled",
            "official", its folder or Hub id.
        degradation: ranges of the blind degradation that the teacher restores.
    """

    teacher: str
    model: dict[str, Any] = field(default_factory=dict)
    initial_weights: str | None = None
    degradation: DegradationRanges = field(default_factory=DegradationRanges)
    data: DataConfig = field(default_factory=DataConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    monitoring: MonitoringConfig = field(default_factory=MonitoringConfig)


TrainingConfig = PriorConfig | EstimatorConfig | StudentConfig
ConfigT = typing.TypeVar("ConfigT", bound=TrainingConfig)


def build_config(config_class: type[ConfigT], values: dict[str, Any]) -> ConfigT:
    """Build a config from nested dictionaries; unknown keys and wrong types raise a `ValueError` that names them."""
    return _build(config_class, values, "")


def load_config(config_class: type[ConfigT], path: str | Path) -> ConfigT:
    """Read a config from a YAML file, in which `5e-5` is a number.

    Raises:
        ValueError: the file is not a YAML mapping, or `build_config` refuses what it says.
    """
    values = read_settings(path)
    try:
        return build_config(config_class, values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def read_settings(path: str | Path) -> dict[str, Any]:
    """Return what a YAML file says; a `ValueError` if it is not a YAML mapping."""
    yaml = _yaml()
    try:
        values = yaml.load(Path(path).read_text(encoding="utf-8"), _with_exponents(yaml.SafeLoader)) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds a {type(values).__name__}; it must be a mapping of settings.")
    return values


def save_config(config: TrainingConfig, path: Path) -> None:
    """Write every setting, defaults included, as a YAML file that `load_config` reads."""
    write_settings(dataclasses.asdict(config), path)


def write_settings(values: dict[str, Any], path: Path) -> None:
    """Write settings as a YAML file that `read_settings` reads."""
    yaml = _yaml()
    text = yaml.dump(values, Dumper=_with_exponents(yaml.SafeDumper), sort_keys=False)
    with whole_file(path) as file:
        file.write(text.encode())


def _yaml() -> ModuleType:
    return import_extra("yaml", "train", "Training needs")


def _with_exponents(base: Any) -> Any:
    """Return a loader or dumper of PyYAML to which 5e-5 is a number; YAML 1.1 takes it for text."""
    changed = type(base.__name__, (base,), {})
    changed.add_implicit_resolver("tag:yaml.org,2002:float", EXPONENT, list("-+.0123456789"))
    return changed


def _check_lowest(config: Any, lowest: int, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if not value >= lowest:
            raise ValueError(f"`{name}` is {value}; it must be at least {lowest}.")


def _check_highest(config: Any, name: str, highest: str) -> None:
    value, limit = getattr(config, name), getattr(config, highest)
    if not value <= limit:
        raise ValueError(f"`{name}` is {value}; it must be at most `{highest}`, {limit}.")


def _check_switch(config: Any, name: str) -> None:
    value = getattr(config, name)
    if not isinstance(value, bool) and value != AUTO:
        raise ValueError(f"`{name}` is {value!r}; it must be auto, true or false.")


def _check_finite(config: Any, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if not math.isfinite(value):
            raise ValueError(f"`{name}` is {value}; it must be finite.")


def _build(config_class: Any, values: dict[str, Any], prefix: str) -> Any:
    types = typing.get_type_hints(config_class)
    unknown = [name for name in values if name not in types]
    if unknown:
        names = ", ".join(f"`{prefix}{name}`" for name in unknown)
        raise ValueError(f"unknown setting {names}; known are {', '.join(types)}.")
    settings = {name: _convert(types[name], value, f"{prefix}{name}") for name, value in values.items()}
    required = [
        entry.name for entry in dataclasses.fields(config_class) if MISSING is entry.default is entry.default_factory
    ]
    missing = [name for name in required if name not in settings]
    if missing:
        raise ValueError(f"`{prefix}{missing[0]}` is missing; it has no default.")
    return config_class(**settings)


def _convert(expected: Any, value: Any, name: str) -> Any:
    if dataclasses.is_dataclass(expected) and isinstance(value, dict):
        return _build(expected, value, f"{name}.")
    accepted = typing.get_args(expected) if not isinstance(expected, type) else (expected,)
    if typing.get_origin(expected) is tuple:
        item = accepted[0]
        if isinstance(value, list | tuple) and len(value) == len(accepted):
            return tuple(_convert(item, entry, name) for entry in value)
    elif typing.get_origin(expected) is dict:
        if isinstance(value, dict):
            return {key: tuple(entry) if isinstance(entry, list) else entry for key, entry in value.items()}
    elif type(value) in accepted:
        return value
    elif float in accepted and type(value) is int:
        return float(value)
    elif int in accepted and type(value) is float and value.is_integer():  # 1e6
        return int(value)
    raise ValueError(
        f"`{name}` is {value!r}; it must be {expected.__name__ if isinstance(expected, type) else expected}."
    )
