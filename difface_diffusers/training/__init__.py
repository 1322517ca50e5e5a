"""Training of priors, estimators and students; needs the extra `train`."""

from pathlib import Path

from .config import EstimatorConfig, PriorConfig, StudentConfig, build_config, load_config
from .estimator import train_estimator
from .failures import TrainingError
from .loop import TrainingResult
from .mixture import DataSource, parse_source
from .prior import train_prior
from .student import train_student


def shipped_config(name: str) -> Path | None:
    """Return the path of a config that ships with the package (`mini_prior`, say), or `None`."""
    path = Path(__file__).parent / "configs" / f"{name}.yaml"
    return path if path.is_file() else None


__all__ = [
    "DataSource",
    "EstimatorConfig",
    "PriorConfig",
    "StudentConfig",
    "TrainingError",
    "TrainingResult",
    "build_config",
    "load_config",
    "parse_source",
    "shipped_config",
    "train_estimator",
    "train_prior",
    "train_student",
]
