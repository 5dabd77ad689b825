"""One photo's circumstances: pose, light, expression, hair style, background, camera. Never the person.

Everything here is drawn from a generator keyed by (seed, family, twin, photo), and nothing is kept from one photo of
a person to the next: circumstances cannot tell twins apart.
"""

from typing import NamedTuple

import numpy as np

from .identity import Difficulty

_PHOTO = 3

NO_GLASSES = 0.0


class Photo(NamedTuple):
    """Angles in radians, lengths in face units, colours linear in [0, 1]."""

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    shift_x: float = 0.0
    shift_y: float = 0.0
    scale: float = 1.0
    light: tuple[float, float, float] = (0.0, -0.3, 1.0)
    """Direction towards the light; need not be of unit length."""
    key: float = 0.2
    """Share of directed light; the rest comes from all sides."""
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)
    exposure: float = 1.0
    shine: float = 0.0
    smile: float = 0.0
    mouth_open: float = 0.0
    lids: float = 1.0
    """Opening of the eyes; 1 is at rest."""
    gaze_x: float = 0.0
    gaze_y: float = 0.0
    brow_raise: float = 0.0
    hair_length: float = 0.0
    """0 short, 1 to the shoulders."""
    hair_volume: float = 0.08
    fringe: float = 0.0
    """How far the hairline is covered by a fringe."""
    parting: float = 0.0
    glasses: float = NO_GLASSES
    """Width of the frame's line; 0 for none."""
    glasses_shape: float = 0.5
    """0 round, 1 square."""
    clothes: tuple[float, float, float] = (0.3, 0.3, 0.3)
    backdrop: tuple[tuple[float, float, float], ...] = ((0.5, 0.5, 0.5),)
    """Colours of a 3 × 3 grid behind the head, or a single one."""
    strands_key: int = 0
    """Key of the texture of hair."""
    blur: float = 0.0
    """Standard deviation in pixels of a 112 px crop."""
    noise: float = 0.0
    noise_key: int = 0
    quality: int = 95
    """JPEG quality."""


def draw_photo(seed: int, family: int, twin: int, number: int, difficulty: Difficulty) -> Photo:
    """The circumstances of one photo; the same for the same arguments, always."""
    rng = np.random.default_rng((_PHOTO, seed, family, twin, number))
    level = difficulty
    light = _draw_light(rng)
    warm = rng.normal(0, 0.10 * level.light)
    long_hair = rng.random() < 0.45
    backdrop = _draw_backdrop(rng)
    return Photo(
        yaw=_bounded(rng, level.yaw),
        pitch=_bounded(rng, level.pitch),
        roll=_bounded(rng, level.roll),
        shift_x=_bounded(rng, level.misalignment),
        shift_y=_bounded(rng, level.misalignment),
        scale=1 + _bounded(rng, level.misalignment),
        light=light,
        key=float(rng.uniform(0.15, 0.25 + 0.55 * level.light)),
        tint=(float(np.exp(warm)), float(np.exp(rng.normal(0, 0.02))), float(np.exp(-warm))),
        exposure=float(np.exp(_bounded(rng, 0.25 * level.light))),
        shine=float(rng.uniform(0, 0.12)),
        smile=float(level.expression * rng.beta(1, 1.3)),
        mouth_open=float(level.expression * rng.beta(1, 2.5)),
        lids=float(1 - level.expression * rng.beta(1.2, 4) * 0.8),
        gaze_x=_bounded(rng, 0.35 * level.expression),
        gaze_y=_bounded(rng, 0.2 * level.expression),
        brow_raise=float(level.expression * rng.normal(0, 0.025)),
        hair_length=float(rng.uniform(0.45, 1.0) if long_hair else rng.uniform(0, 0.15)),
        hair_volume=float(rng.uniform(0.03, 0.16)),
        fringe=float(rng.uniform(0.3, 1) if rng.random() < 0.25 else 0),
        parting=float(rng.normal(0, 0.25)),
        glasses=float(rng.uniform(0.02, 0.045) if rng.random() < level.glasses else NO_GLASSES),
        glasses_shape=float(rng.uniform(0, 1)),
        clothes=_colour(rng.uniform(0.01, 0.8, 3) ** 1.5),
        backdrop=backdrop,
        strands_key=int(rng.integers(2**31)),
        blur=float(rng.uniform(0, level.blur)),
        noise=float(rng.uniform(0.2, 1) * level.noise),
        noise_key=int(rng.integers(2**31)),
        quality=int(rng.integers(level.quality[0], level.quality[1] + 1)),
    )


def _draw_light(rng: np.random.Generator) -> tuple[float, float, float]:
    """A direction in front of the face, mostly from above."""
    azimuth, elevation = rng.uniform(-1.3, 1.3), rng.uniform(-0.2, 1.0)
    across = np.cos(elevation)
    return float(np.sin(azimuth) * across), float(-np.sin(elevation)), float(np.cos(azimuth) * across)


def _draw_backdrop(rng: np.random.Generator) -> tuple[tuple[float, float, float], ...]:
    """One colour, or nine that vary around a grey."""
    plain = rng.random() < 0.3
    grey = rng.uniform(0.02, 0.8, (1, 1)) + rng.normal(0, 0.12, (1 if plain else 9, 1))
    colours = grey * np.exp(rng.normal(0, 0.22, (1, 3)) + rng.normal(0, 0.12, (len(grey), 3)))
    return tuple(_colour(colour) for colour in np.clip(colours, 0.01, 0.95))


def _bounded(rng: np.random.Generator, deviation: float) -> float:
    """A normal draw, cut at 2 standard deviations."""
    return float(np.clip(rng.normal(), -2, 2) * deviation)


def _colour(values: np.ndarray) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])
