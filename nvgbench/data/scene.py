"""Drawing one image of ``shapes``: a scene is a few parameters and can be rendered at any size.

Coordinates: the image is the unit square, x to the right, y down. Outlines are signed distances (negative inside) in units of
the object's radius. A pixel's coverage follows from the distance at its centre, which anti-aliases edges without supersampling.

Shape letters: n objects, P pixels in raster order, H and W pixels.
"""

from __future__ import annotations

import colorsys
import functools
import math
from dataclasses import dataclass

import numpy as np

KINDS = ("circle", "square", "triangle", "star", "cross")
ARRANGEMENTS = ("single", "several")
BACKGROUNDS = ("gradient", "stripes", "checks", "noise")

_HUES = 8
_NOISE_NODES = 5
_SHADOW_STRENGTH, _SHADOW_SOFTNESS, _SHADOW_REACH = 0.35, 0.22, 0.13
_SHADE, _HIGHLIGHT = 0.16, 0.22


@dataclass(frozen=True)
class Scene:
    """Everything that an image is rendered from.

    Attributes:
        kind: of all objects, one of `KINDS`.
        centres_n2, radii_n, angles_n: where the objects are, in the unit square and in radians.
        body_n3, core_n3: RGB in [0, 1] of the two parts of each object.
        light_2: unit vector from the objects towards the light, in the image plane.
        background: one of `BACKGROUNDS`.
        ground_23: its two colours.
        texture: angle and frequency of stripes, checks and gradients.
        noise: values at the nodes of the noise field, [0, 1].
    """

    kind: str
    centres_n2: np.ndarray
    radii_n: np.ndarray
    angles_n: np.ndarray
    body_n3: np.ndarray
    core_n3: np.ndarray
    light_2: np.ndarray
    background: str
    ground_23: np.ndarray
    texture: tuple[float, float]
    noise: np.ndarray


def draw_scene(kind: str, arrangement: str, rng: np.random.Generator) -> Scene:
    """Draw the parameters of a scene; how much they vary decides how hard the data set is."""
    if arrangement == "single":
        centres = rng.uniform(0.44, 0.56, (1, 2))
        radii = rng.uniform(0.30, 0.38, 1)
    else:
        corners = np.array([(0.27, 0.27), (0.73, 0.27), (0.27, 0.73), (0.73, 0.73)])
        chosen = rng.permutation(4)[: rng.integers(3, 5)]
        centres = corners[chosen] + rng.uniform(-0.03, 0.03, (len(chosen), 2))
        radii = rng.uniform(0.155, 0.19, len(chosen))
    count = len(radii)
    dark = bool(rng.integers(2))
    body = np.array([_object_colour(rng, dark) for _ in range(count)])
    # The core is mixed towards white or black, whichever differs from both body and background.
    core = body + (np.full(3, 1.0 if dark else 0.0) - body) * (0.55 if dark else 0.5)
    light = rng.uniform(0, 2 * math.pi)
    return Scene(
        kind=kind,
        centres_n2=centres,
        radii_n=radii,
        angles_n=rng.uniform(-0.4, 0.4, count),
        body_n3=body,
        core_n3=core,
        light_2=np.array([math.cos(light), math.sin(light)]),
        background=BACKGROUNDS[rng.integers(len(BACKGROUNDS))],
        ground_23=_ground_colours(rng, dark),
        texture=(rng.uniform(0, math.pi), rng.uniform(2.0, 4.0)),
        noise=rng.uniform(0, 1, (_NOISE_NODES, _NOISE_NODES)),
    )


def _object_colour(rng: np.random.Generator, dark_ground: bool) -> tuple[float, float, float]:
    hue = (rng.integers(_HUES) + rng.uniform(-0.2, 0.2)) / _HUES
    value = rng.uniform(0.85, 1.0) if dark_ground else rng.uniform(0.6, 0.8)
    return colorsys.hsv_to_rgb(hue % 1, rng.uniform(0.75, 0.95), value)


def _ground_colours(rng: np.random.Generator, dark: bool) -> np.ndarray:
    hue, saturation = rng.uniform(), rng.uniform(0.1, 0.3)
    value = rng.uniform(0.14, 0.24) if dark else rng.uniform(0.82, 0.9)
    step = 0.09
    return np.array([colorsys.hsv_to_rgb(hue, saturation, value), colorsys.hsv_to_rgb(hue, saturation, value + step)])


def render(scene: Scene, size: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The image and its masks.

    Returns:
        uint8 ``[size, size, 3]``, and int32 ``[size, size]`` maps: ``object`` (0 background, 1 … n), ``part`` (0 background,
        2i - 1 the body and 2i the core of object i) and ``semantic`` (0 background, 1 object), exact at pixel centres.
    """
    pixels_P2 = _pixel_centres(size)
    image_P3 = _background(scene, size)
    count = len(scene.radii_n)
    # The objects and, away from the light, their shadows.
    shift = -scene.light_2 * _SHADOW_REACH
    centres = np.concatenate([scene.centres_n2, scene.centres_n2 + shift * scene.radii_n[:, None]]).astype(np.float32)
    radii = np.tile(scene.radii_n, 2).astype(np.float32)[:, None]
    local_x = (pixels_P2[:, 0] - centres[:, :1]) / radii
    local_y = (pixels_P2[:, 1] - centres[:, 1:]) / radii
    cos = np.tile(np.cos(scene.angles_n), 2).astype(np.float32)[:, None]
    sin = np.tile(np.sin(scene.angles_n), 2).astype(np.float32)[:, None]
    distance, depth = _distance(scene.kind, cos * local_x + sin * local_y, cos * local_y - sin * local_x)
    shadow_P = _SHADOW_STRENGTH * np.clip(0.5 - distance[count:] / _SHADOW_SOFTNESS, 0, 1).max(axis=0)
    image_P3 = image_P3 * (1 - shadow_P)[:, None]
    distance = distance[:count]
    pixel = np.float32(1 / size) / radii[:count]
    body_alpha = np.clip(0.5 - distance / pixel, 0, 1)
    core_alpha = np.clip(0.5 - (distance + 0.5 * depth) / pixel, 0, 1)
    light_x, light_y = scene.light_2.astype(np.float32)
    towards = local_x[:count] * light_x + local_y[:count] * light_y
    spot = (local_x[:count] - 0.45 * light_x) ** 2 + (local_y[:count] - 0.45 * light_y) ** 2
    shade = 1 + _SHADE * towards
    glow = _HIGHLIGHT * np.exp(spot * -6)
    object_P = np.zeros(size * size, dtype=np.int32)
    part_P = np.zeros(size * size, dtype=np.int32)
    for i in range(count):
        colour_P3 = scene.body_n3[i] + core_alpha[i][:, None] * (scene.core_n3[i] - scene.body_n3[i]).astype(np.float32)
        colour_P3 = colour_P3.astype(np.float32) * shade[i][:, None]
        colour_P3 += glow[i][:, None] * (1 - colour_P3)
        image_P3 += body_alpha[i][:, None] * (colour_P3 - image_P3)
        inside = distance[i] < 0
        object_P[inside] = i + 1
        part_P[inside] = 2 * i + 1 + (distance[i][inside] < -0.5 * depth)
    image = (np.clip(image_P3, 0, 1) * 255 + 0.5).astype(np.uint8).reshape(size, size, 3)
    masks = {"object": object_P, "part": part_P, "semantic": (object_P > 0).astype(np.int32)}
    return image, {name: mask.reshape(size, size) for name, mask in masks.items()}


def _distance(kind: str, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float]:
    """Signed distance to the outline of a shape of about unit radius, and the distance from its centre to the outline."""
    if kind == "circle":
        return np.hypot(x, y) - 1, 1.0
    if kind == "square":
        return np.maximum(np.abs(x), np.abs(y)) - 0.84, 0.84
    if kind == "cross":
        x, y = np.abs(x), np.abs(y)
        return np.maximum(np.maximum(x, y) - 1.02, np.minimum(x, y) - 0.34), 0.34
    angle, radius = np.arctan2(x, -y), np.hypot(x, y)
    if kind == "triangle":
        sector = 2 * math.pi / 3
        folded = (angle % sector) - sector / 2
        return radius * np.cos(folded) - 0.6, 0.6
    assert kind == "star", kind
    sector = 2 * math.pi / 5
    folded = np.abs((angle + sector / 2) % sector - sector / 2)
    tip, notch = np.array([1.16, 0.0]), 0.54 * np.array([math.cos(sector / 2), math.sin(sector / 2)])
    normal = np.array([notch[1] - tip[1], tip[0] - notch[0]]) / np.linalg.norm(notch - tip)
    depth = float(normal @ tip)
    return radius * (np.float32(normal[0]) * np.cos(folded) + np.float32(normal[1]) * np.sin(folded)) - depth, depth


def _background(scene: Scene, size: int) -> np.ndarray:
    """float32 ``[P, 3]``: two similar colours mixed by a smooth pattern."""
    first, second = scene.ground_23.astype(np.float32)
    return first + _pattern(scene, size).astype(np.float32)[:, None] * (second - first)


def _pattern(scene: Scene, size: int) -> np.ndarray:
    """The weight of the second background colour at every pixel, [0, 1]."""
    if scene.background == "noise":
        weights = _interpolation(size)
        return (weights @ scene.noise @ weights.T).reshape(-1)
    angle, frequency = scene.texture
    x, y = _pixel_centres(size).T - 0.5
    along = x * math.cos(angle) + y * math.sin(angle)
    if scene.background == "gradient":
        return np.clip(along / 1.2 + 0.5, 0, 1)
    across = y * math.cos(angle) - x * math.sin(angle)
    turn = 2 * math.pi * frequency
    if scene.background == "stripes":
        return 0.5 + 0.5 * np.clip(2 * np.sin(turn * along), -1, 1)
    return 0.5 + 0.5 * np.clip(3 * np.sin(turn * along) * np.sin(turn * across), -1, 1)


@functools.lru_cache(maxsize=8)
def _pixel_centres(size: int) -> np.ndarray:
    """float32 ``[P, 2]``: x and y of the pixel centres."""
    line = (np.arange(size, dtype=np.float32) + 0.5) / size
    y, x = np.meshgrid(line, line, indexing="ij")
    return np.stack([x.reshape(-1), y.reshape(-1)], axis=1)


@functools.lru_cache(maxsize=8)
def _interpolation(size: int) -> np.ndarray:
    """Weights ``[size, nodes]`` that interpolate between evenly spaced nodes with a smoothstep."""
    place = (np.arange(size) + 0.5) / size * (_NOISE_NODES - 1)
    node = np.minimum(place.astype(int), _NOISE_NODES - 2)
    part = place - node
    part = part * part * (3 - 2 * part)
    weights = np.zeros((size, _NOISE_NODES))
    weights[np.arange(size), node] = 1 - part
    weights[np.arange(size), node + 1] = part
    return weights
