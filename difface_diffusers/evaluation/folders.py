"""Judging folders of restored faces by any choice of metrics, file by file, as `protocol` says."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from .distributions import INCEPTION_URL, FeatureNetwork, fid, kid, load_feature_network
from .face_metrics import embed, identity_distance, landmark_distance
from .lpips import ALEXNET_URL, load_lpips
from .metrics import coarse_psnr, gradient_ratio, ms_ssim, psnr, psnr_y, ssim
from .niqe import niqe
from .piqe import piqe
from .protocol import read_image


PairMetric = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
SetMetric = tuple[Callable[[torch.Tensor, torch.Tensor], torch.Tensor], FeatureNetwork]

PAIR_METRICS: dict[str, PairMetric] = {
    metric.__name__: metric
    for metric in (psnr, psnr_y, coarse_psnr, ssim, ms_ssim, gradient_ratio, identity_distance, landmark_distance)
}
SINGLE_METRICS = {metric.__name__: metric for metric in (niqe, piqe)}
METRICS = (*PAIR_METRICS, "lpips", *SINGLE_METRICS, "frechet_distance", "fid", "kid")
DEFAULT_METRICS = ("psnr", "psnr_y", "ssim", "identity_distance", "landmark_distance", "piqe", "frechet_distance")


@dataclass(frozen=True)
class MetricSuite:
    """Metrics that are ready to be taken; see `load_metrics`.

    Attributes:
        pairs: of an image and its reference.
        singles: of an image alone.
        sets: of two sets, each with the network whose features it compares.
    """

    pairs: dict[str, PairMetric]
    singles: dict[str, Callable[[torch.Tensor], torch.Tensor]]
    sets: dict[str, SetMetric]


@dataclass(frozen=True)
class FolderScores:
    """What the metrics say about a folder.

    Attributes:
        means: by metric its mean over the images, or its value for the set; those of a set against the further reference set
            have the ending `_set`.
        images: by file name and metric the value of each image.
        failures: by file name why an image was left out of all of these.
    """

    means: dict[str, float] = field(default_factory=dict)
    images: dict[str, dict[str, float]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


def load_metrics(
    names: Sequence[str], lpips_weights: str | Path | None = None, features: str | Path | None = None
) -> MetricSuite:
    """Make the metrics of these names ready.

    Args:
        names: of `METRICS`.
        lpips_weights: file for `lpips`, see `lpips.load_lpips`.
        features: file for `fid` and `kid`, see `distributions.load_feature_network`.

    Raises:
        ValueError: an unknown name; or a file is missing, with the address it can be had from, or unfit.
        ImportError: the extra `metrics` is not installed and LPIPS needs it.
    """
    unknown = [name for name in names if name not in METRICS]
    if unknown:
        raise ValueError(f"`names` holds {', '.join(unknown)}; accepted are {', '.join(METRICS)}")
    pairs = {name: PAIR_METRICS[name] for name in names if name in PAIR_METRICS}
    if "lpips" in names:
        if lpips_weights is None:
            raise ValueError(f"`lpips_weights` is not given; for lpips it is the file {ALEXNET_URL}")
        pairs["lpips"] = load_lpips(lpips_weights)
    sets: dict[str, SetMetric] = {"frechet_distance": (fid, embed)} if "frechet_distance" in names else {}
    of_features = {name: metric for name, metric in (("fid", fid), ("kid", kid)) if name in names}
    if of_features:
        if features is None:
            raise ValueError(
                f"`features` is not given; for {' and '.join(of_features)} it is a network such as {INCEPTION_URL}"
            )
        network = load_feature_network(features)
        sets |= {name: (metric, network) for name, metric in of_features.items()}
    return MetricSuite(pairs, {name: SINGLE_METRICS[name] for name in names if name in SINGLE_METRICS}, sets)


def score_folder(
    suite: MetricSuite,
    images: Mapping[str, Path],
    references: Mapping[str, Path] | None = None,
    reference_set: Mapping[FeatureNetwork, torch.Tensor] | None = None,
) -> FolderScores:
    """Take the metrics of every image, and of all of them as a set where there are two at least.

    An image that cannot be read or judged, has no reference, or is missing where there is a reference, is a failure; the
    others are judged without it.

    Args:
        suite: what to take; what has nothing to compare with is left out.
        images: the files to judge under the names that pair them with their references.
        references: the clean images, or `None` if there are none.
        reference_set: what the networks of the suite see in other clean images, see `features_of`.

    Raises:
        ImportError: the extra `metrics` is not installed and a metric needs it.
    """
    scores = FolderScores()
    features: dict[FeatureNetwork, list[tuple[torch.Tensor, torch.Tensor | None]]] = {}
    for name, path in tqdm(images.items(), unit="image", leave=False):
        try:
            image = read_image(path)
            reference = None if references is None else _read_reference(references, name)
            values = _score_image(suite, image, reference)
            seen = {
                network: (network(image), None if reference is None else network(reference))
                for _, network in suite.sets.values()
            }
        except (OSError, ValueError) as error:
            scores.failures[path.name] = str(error)
            continue
        scores.images[path.name] = values
        for network, pair in seen.items():
            features.setdefault(network, []).append(pair)
    missing = [] if references is None else [path for name, path in references.items() if name not in images]
    scores.failures.update({path.name: "there is a reference, but no image of its name" for path in missing})
    if scores.images:
        scores.means.update(_means(scores.images))
    if len(scores.images) > 1:
        scores.means.update(_score_sets(suite, features, reference_set or {}))
    return scores


def features_of(suite: MetricSuite, files: Sequence[Path]) -> dict[FeatureNetwork, torch.Tensor]:
    """Return what each network of a suite sees in image files, `[N,D]`.

    Raises:
        OSError: a file cannot be read as an image; the message names it.
        ValueError: an image does not suit a network.
    """
    seen: dict[FeatureNetwork, list[torch.Tensor]] = {network: [] for _, network in suite.sets.values()}
    for path in tqdm(files, unit="image", desc="reference set", leave=False):
        image = read_image(path)
        for network, rows in seen.items():
            rows.append(network(image))
    return {network: torch.cat(rows) for network, rows in seen.items()}


def _read_reference(references: Mapping[str, Path], name: str) -> torch.Tensor:
    if name not in references:
        raise ValueError("there is no reference of its name")
    return read_image(references[name])


def _score_image(suite: MetricSuite, image: torch.Tensor, reference: torch.Tensor | None) -> dict[str, float]:
    values = {name: metric(image).item() for name, metric in suite.singles.items()}
    if reference is not None:
        values |= {name: metric(image, reference).item() for name, metric in suite.pairs.items()}
    return values


def _means(images: dict[str, dict[str, float]]) -> dict[str, float]:
    rows = list(images.values())
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}


def _score_sets(
    suite: MetricSuite,
    features: dict[FeatureNetwork, list[tuple[torch.Tensor, Any]]],
    reference_set: Mapping[FeatureNetwork, torch.Tensor],
) -> dict[str, float]:
    """Take the metrics of sets, against the references and against the further set."""
    values = {}
    for name, (metric, network) in suite.sets.items():
        of_images, of_references = zip(*features[network], strict=True)
        if of_references[0] is not None:
            values[name] = metric(torch.cat(of_images), torch.cat(of_references)).item()
        if network in reference_set:
            values[f"{name}_set"] = metric(torch.cat(of_images), reference_set[network]).item()
    return values
