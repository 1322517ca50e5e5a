"""Frames with faces whose places are known."""

from functools import cache

import cv2
import numpy as np

from benchmarks.backgrounds import textured_background
from difface_diffusers.demo.restore_tab import EXAMPLES
from difface_diffusers.faces import Face, YuNetDetector
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


class KnownFaces:
    """A detector that knows where the face is in each of some frames, which it tells by their pixels."""

    def __init__(self, frames, truth):
        self.known = {frame.tobytes(): landmarks for frame, landmarks in zip(frames, truth, strict=True)}
        self.asked = 0

    def detect(self, photo):
        self.asked += 1
        landmarks = self.known.get(photo.tobytes())
        return [] if landmarks is None else [Face((0.0, 0.0, 60.0, 60.0), landmarks, 1.0)]


def film(*scenes, noise=0.0):
    """Frames of scenes, each the places of its face one after the other and the number of a background; and the landmarks."""
    frames, truth = [], []
    for places, seed in scenes:
        for matrix in places:
            frame, landmarks = (background(seed), None) if matrix is None else draw(background(seed), matrix)
            frames.append(noisy(frame, noise, len(frames)) if noise else frame)
            truth.append(landmarks)
    return frames, truth


class TemplateDetector:
    """Finds the face of `draw` at the scale .7 by what it looks like; far quicker than a network."""

    def __init__(self, scale=0.7, score=0.6):
        self.scale, self.score = scale, score

    def detect(self, photo):
        pixels, landmarks = face()
        part = slice(round(0.3 * SIDE), round(0.8 * SIDE))
        small = cv2.resize(pixels[part, part], None, fx=self.scale, fy=self.scale, interpolation=cv2.INTER_AREA)
        alike = cv2.matchTemplate(photo, small, cv2.TM_CCOEFF_NORMED)
        _, score, _, place = cv2.minMaxLoc(alike)
        if score < self.score:
            return []
        points = (landmarks - part.start) * self.scale + place
        return [Face((*points.min(axis=0), *points.max(axis=0)), points, 1.0)]
