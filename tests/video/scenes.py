"""Frames with faces whose places are known."""

from functools import cache

import cv2
import numpy as np

from benchmarks.backgrounds import textured_background
from difface_diffusers.demo.restore_tab import EXAMPLES
from difface_diffusers.faces import YuNetDetector
from difface_diffusers.faces.alignment import align, compose, transform, warp
from difface_diffusers.imaging.files import read_photo


SIDE = 128  # of the faces that are pasted, pixels
HEIGHT, WIDTH = 180, 320


@cache
def face():
    """An aligned face `[SIDE,SIDE,3]` uint8 and its landmarks `[5,2]`."""
    photo = read_photo(EXAMPLES / "photograph.png").pixels
    landmarks = YuNetDetector().detect(photo)[0].landmarks
    to_face = align(landmarks, SIDE)
    return warp(photo, to_face, (SIDE, SIDE)), transform(landmarks, to_face)


@cache
def background(seed=0):
    return textured_background(np.random.default_rng(seed), HEIGHT, WIDTH)


def place(x, y, scale=0.6, angle=0.0):
    """The matrix `[2,3]` that puts the middle of the face to (x, y)."""
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    turn = np.array([[cosine, -sine], [sine, cosine]])
    return np.column_stack([turn, (x, y) - turn @ (SIDE / 2, SIDE / 2)])


def draw(frame, matrix, tone=1.0, mirrored=False):
    """Paste the face into a frame; return what comes out and the landmarks there."""
    pixels, landmarks = face()
    if mirrored:
        matrix = compose(np.array([[-1.0, 0, SIDE], [0, 1, 0]]), matrix)
        pixels = 255 - pixels  # another person
    rows, columns = np.mgrid[:SIDE, :SIDE]
    oval = np.hypot((columns - SIDE / 2) / (0.38 * SIDE), (rows - 0.55 * SIDE) / (0.48 * SIDE))
    opacity = np.clip((1 - oval) * 12, 0, 1).astype(np.float32)
    size = frame.shape[:2]
    alpha = warp(opacity, matrix, size, cv2.BORDER_CONSTANT)[..., None].clip(0, 1)
    picture = warp((pixels * tone).astype(np.float32), matrix, size)
    drawn = (frame * (1 - alpha) + picture * alpha).clip(0, 255).round().astype(np.uint8)
    return drawn, transform(landmarks, matrix)


def noisy(frame, strength, seed):
    noise = np.random.default_rng(seed).normal(0, strength, frame.shape)
    return (frame + noise).clip(0, 255).round().astype(np.uint8)


def gray(frame):
    return cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
