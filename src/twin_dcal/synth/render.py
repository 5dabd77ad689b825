"""A photo of a person: the maps turned, lit, dressed and taken by a camera.

Legend: S pixels a side; fields are (S, S) float32, colours (S, S, 3) linear light until `develop`.
"""

import numpy as np
from numpy.typing import NDArray

from . import features, hair
from .camera import Depth, Points, View, landmarks, sample, view_of
from .canonical import ALBEDO, NORMAL, OCCLUSION, OUTLINE, Field, Maps, skin_colour
from .identity import Person
from .photo import Photo
from .scene import Scene, blend, cover, look

GAMMA = 1 / 2.2
SHADOW_STEPS = (0.06, 0.14, 0.24, 0.38)
"""Where the way to the light is looked at, in face units."""


def expose(person: Person, maps: Maps, frame: Maps, photo: Photo, size: int) -> Field:
    """The light that reaches the sensor, (S, S, 3) linear, without blur or noise."""
    scene, view = look(person, maps, frame, photo, size)
    light = _unit(photo.light)
    layers = sample(maps.layers, scene.texture_x, scene.texture_y)
    strands = hair.Strands(photo.strands_key)
    picture = backdrop(photo, size)
    picture = hair.paint_behind(picture, person, photo, scene, strands)
    picture = _body(picture, person, photo, scene)
    picture = _ears(picture, person, photo, scene)
    albedo = features.mouth(layers[..., ALBEDO], person, photo, scene)
    albedo = features.eyes(albedo, person, photo, scene)
    face = _lit(albedo, layers, maps, photo, scene, view, light)
    face = features.glints(face, person, photo, scene, light)
    picture = blend(picture, face, cover(layers[..., OUTLINE], scene.pixel))
    picture = hair.paint_front(picture, person, photo, scene, strands)
    picture = features.glasses(picture, person.frame, photo, scene)
    return picture * (np.float32(photo.exposure) * np.asarray(photo.tint, np.float32))


def develop(exposed: Field, photo: Photo) -> NDArray[np.uint8]:
    """Blur, gamma and sensor noise: (S, S, 3) uint8."""
    size = exposed.shape[0]
    clean = np.clip(_blur(exposed, photo.blur * size / 112), 0, 1)
    clean **= np.float32(GAMMA)
    if photo.noise:
        grain = np.random.default_rng(photo.noise_key).standard_normal(clean.shape, dtype=np.float32)
        grain *= np.float32(photo.noise)
        clean += grain
        np.clip(clean, 0, 1, out=clean)
    clean *= np.float32(255)
    clean += np.float32(0.5)
    return clean.astype(np.uint8)


def take(
    person: Person, maps: Maps, frame: Maps, photo: Photo, size: int
) -> tuple[NDArray[np.uint8], Points]:
    """Pixels (S, S, 3) uint8 and the true landmarks (5, 2) of a photo."""
    view = view_of(person.frame, Depth(frame.height), photo)
    pixels = develop(expose(person, maps, frame, photo, size), photo)
    return pixels, landmarks(person.geometry, Depth(maps.height), photo, view, size)


def backdrop(photo: Photo, size: int) -> Field:
    """A smooth field through the colours of the backdrop."""
    colours = np.asarray(photo.backdrop, np.float32)
    if len(colours) == 1:
        return np.broadcast_to(colours[0], (size, size, 3))
    place = np.linspace(0, 2, size, dtype=np.float32)
    weights = np.maximum(1 - np.abs(place[:, None] - np.arange(3, dtype=np.float32)), 0)
    weights = weights * weights * (3 - 2 * weights)
    grid = colours.reshape(3, 3, 3)
    across = sum(weights[None, :, b, None] * grid[:, b, None] for b in range(3))  # (3, S, 3)
    return np.asarray(sum(weights[:, a, None, None] * across[a] for a in range(3)))


def _lit(
    albedo: Field, layers: Field, maps: Maps, photo: Photo, scene: Scene, view: View, light: Points
) -> Field:
    """Sky from all sides, a directed light with its shadows, and a gleam where skin mirrors it."""
    sideways, down, forward = _turned_normals(layers, view)
    lx, ly, lz = (np.float32(v) for v in light)
    facing = sideways * lx + down * ly + forward * lz
    lit = np.clip((facing + np.float32(0.2)) / np.float32(1.2), 0, 1)
    lit *= _shadow(maps.height, scene, view, light)
    sky = layers[..., OCCLUSION] * (np.float32(0.78) - np.float32(0.22) * down)
    irradiance = np.float32(1.15 * (1 - photo.key)) * sky + np.float32(1.5 * photo.key) * lit
    half = _unit((light[0], light[1], light[2] + 1)).astype(np.float32)
    gleam = np.clip(sideways * half[0] + down * half[1] + forward * half[2], 0, 1)
    gleam *= gleam
    gleam *= gleam**8  # to the power of 18
    shine = np.float32(photo.shine * photo.key) * gleam * lit
    bright = albedo * irradiance[..., None]
    bright += shine[..., None]
    return np.asarray(bright)


def _turned_normals(layers: Field, view: View) -> tuple[Field, Field, Field]:
    """Normals (right, down, towards the viewer) after turning the head."""
    right, low, out = np.ascontiguousarray(np.moveaxis(layers[..., NORMAL], -1, 0))
    cos_yaw, sin_yaw = np.float32(view.cos_yaw), np.float32(view.sin_yaw)
    cos_pitch, sin_pitch = np.float32(view.cos_pitch), np.float32(view.sin_pitch)
    sideways = right * cos_yaw + out * sin_yaw
    forward = out * cos_yaw - right * sin_yaw
    return sideways, low * cos_pitch + forward * sin_pitch, forward * cos_pitch - low * sin_pitch


def _shadow(height: Field, scene: Scene, view: View, light: Points) -> Field:
    """Light left (0.3 to 1) where the height field stands between a point and the light, by a few steps along it."""
    lx, ly, lz = light
    dy, forward = ly * view.cos_pitch - lz * view.sin_pitch, lz * view.cos_pitch + ly * view.sin_pitch
    dx, dz = lx * view.cos_yaw - forward * view.sin_yaw, forward * view.cos_yaw + lx * view.sin_yaw
    across = max(float(np.hypot(dx, dy)), 1e-3)
    highest = scene.z
    for distance in SHADOW_STEPS:
        x = scene.x + np.float32(dx / across * distance)
        there = sample(height, x, scene.y + np.float32(dy / across * distance))
        there -= np.float32(max(dz, 0.05) / across * distance)
        highest = np.maximum(highest, there)
    blocked = np.clip((highest - scene.z) / np.float32(0.07), 0, 1)
    return np.asarray(1 - np.float32(0.7) * blocked)


def _body(picture: Field, person: Person, photo: Photo, scene: Scene) -> Field:
    """Neck and clothes, under the head."""
    x, y = scene.plane_x, scene.plane_y
    width = np.float32(0.62 * person.frame.cheek_width)
    neck = cover(np.abs(x) - width - np.float32(0.15) * np.clip(y - 1.5, 0, 1), scene.pixel)
    neck = neck * cover(np.float32(0.9) - y, scene.pixel)
    shade = np.float32(0.55) * (1 - np.float32(0.5) * (x / width) ** 2) * np.clip((y - 1.1) / 1.2, 0.35, 1)
    skin = _mean_skin(person) * np.clip(shade, 0.1, 1)[..., None]
    picture = blend(picture, skin, neck)
    collar = np.float32(1.68) - np.float32(0.35) * np.clip(np.abs(x) - width, -0.4, 2)
    fold = 1 + np.float32(0.12) * np.sin(5 * x + 3 * y)
    cloth = np.asarray(photo.clothes, np.float32) * np.float32(0.8) * fold[..., None]
    return blend(picture, cloth, cover(collar - y, scene.pixel))


def _ears(picture: Field, person: Person, photo: Photo, scene: Scene) -> Field:
    if photo.hair_length > hair.LONG:
        return picture
    face = person.frame
    across = (np.abs(scene.x) - np.float32(face.cheek_width)) / np.float32(0.11)
    along = (scene.y - np.float32(0.18) + np.float32(0.3) * across * np.float32(0.11)) / np.float32(
        face.ear_size
    )
    level = np.sqrt(across**2 + along**2)
    shade = np.float32(0.62) - np.float32(0.22) * np.clip(1 - level, 0, 1)
    ear = _mean_skin(person) * np.array([1.0, 0.88, 0.85], np.float32) * shade[..., None]
    return blend(picture, ear, cover((level - 1) * np.float32(0.11), scene.pixel))


def _mean_skin(person: Person) -> Field:
    melanin = np.array(person.skin.melanin, np.float32)
    return skin_colour(melanin, np.array(0.5 * person.skin.redness, np.float32))


def _blur(picture: Field, deviation: float) -> Field:
    """Gaussian blur with a standard deviation in pixels, 7 taps."""
    if deviation < 0.2:
        return picture
    taps = np.exp(-0.5 * (np.arange(4) / deviation) ** 2)
    taps = (taps / (taps[0] + 2 * taps[1:].sum())).astype(np.float32)
    for axis in (0, 1):
        padding = [(0, 0)] * 3
        padding[axis] = (3, 3)
        padded = np.pad(picture, padding, mode="edge")
        length = picture.shape[axis]
        window = [padded[i : i + length] if axis == 0 else padded[:, i : i + length] for i in range(7)]
        picture = window[3] * taps[0]
        for away in (1, 2, 3):
            both = window[3 - away] + window[3 + away]
            both *= taps[away]
            picture += both
    return picture


def _unit(vector: tuple[float, float, float]) -> Points:
    array = np.asarray(vector, np.float64)
    return array / float(np.linalg.norm(array))
