"""Checkpoints of the original DifFace to this package's models."""

from .lama import convert_lama
from .prior import convert_prior
from .srcnn import convert_srcnn
from .swinir import convert_swinir


__all__ = ["convert_lama", "convert_prior", "convert_srcnn", "convert_swinir"]
