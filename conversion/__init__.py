"""Checkpoints of the original DifFace to this package's models: the door to `difface_diffusers.hub`."""

from difface_diffusers.hub.originals import convert_lama, convert_prior, convert_srcnn, convert_swinir


__all__ = ["convert_lama", "convert_prior", "convert_srcnn", "convert_swinir"]
