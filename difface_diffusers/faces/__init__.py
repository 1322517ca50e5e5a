"""Faces in photographs: finding, aligning and putting them back."""

from .detection import Face, FaceDetector, YuNetDetector


__all__ = ["Face", "FaceDetector", "YuNetDetector"]
