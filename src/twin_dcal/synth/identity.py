"""Who is photographed: families of twins, their shared face, and the little that tells them apart.

Face coordinates everywhere: x to the viewer's right, y down, z towards the viewer; the pupils lie on y = 0 and a face
is about 2 wide at the cheekbones, so 1 is some 7 cm. Every draw comes from a generator keyed by seed, family and
twin, so a person is the same whatever else is drawn.
"""

from typing import NamedTuple

import numpy as np

from twin_dcal.errors import ConfigError


class Geometry(NamedTuple):
    """Shape of a face, in face units; angles in radians. Also used for the mean and the spread of each trait."""

    cheek_width: float
    """Half the width at the cheekbones."""
    jaw: float
    """Exponent of the outline below the cheekbones; higher is squarer."""
    chin: float
    """Exponent of the outline at the chin; lower is wider."""
    chin_y: float
    top_y: float
    hairline_y: float
    ear_size: float
    eye_x: float
    eye_width: float
    eye_height: float
    eye_tilt: float
    iris_radius: float
    crease: float
    """Height of the fold above the upper lid."""
    brow_y: float
    brow_length: float
    brow_thickness: float
    brow_arch: float
    nose_y: float
    """Of the tip."""
    nose_width: float
    nose_height: float
    nose_bridge: float
    mouth_y: float
    mouth_width: float
    upper_lip: float
    lower_lip: float
    cupid: float
    """Depth of the notch in the upper lip, as a share of its height."""
    cheek_fullness: float
    brow_ridge: float
    chin_height: float
    """How far the chin stands out."""
    fold: float
    """Depth of the folds from nose to mouth."""
    eye_offset: float
    """Asymmetry: right eye lower than left."""
    brow_offset: float
    nose_offset: float
    mouth_offset: float


MEAN = Geometry(
    cheek_width=0.97, jaw=2.5, chin=0.55, chin_y=1.66, top_y=-1.42, hairline_y=-0.95, ear_size=0.30,
    eye_x=0.45, eye_width=0.195, eye_height=0.102, eye_tilt=0.05, iris_radius=0.092, crease=0.05,
    brow_y=-0.25, brow_length=0.27, brow_thickness=0.043, brow_arch=0.05,
    nose_y=0.49, nose_width=0.20, nose_height=0.24, nose_bridge=0.09,
    mouth_y=0.91, mouth_width=0.36, upper_lip=0.085, lower_lip=0.12, cupid=0.3,
    cheek_fullness=0.06, brow_ridge=0.06, chin_height=0.10, fold=0.02,
    eye_offset=0.0, brow_offset=0.0, nose_offset=0.0, mouth_offset=0.0,
)  # fmt: skip
SPREAD = Geometry(
    cheek_width=0.045, jaw=0.35, chin=0.06, chin_y=0.05, top_y=0.05, hairline_y=0.10, ear_size=0.03,
    eye_x=0.025, eye_width=0.016, eye_height=0.014, eye_tilt=0.06, iris_radius=0.004, crease=0.016,
    brow_y=0.035, brow_length=0.025, brow_thickness=0.011, brow_arch=0.025,
    nose_y=0.03, nose_width=0.025, nose_height=0.04, nose_bridge=0.016,
    mouth_y=0.03, mouth_width=0.03, upper_lip=0.018, lower_lip=0.022, cupid=0.12,
    cheek_fullness=0.03, brow_ridge=0.025, chin_height=0.035, fold=0.008,
    eye_offset=0.012, brow_offset=0.014, nose_offset=0.012, mouth_offset=0.016,
)  # fmt: skip
OUTER = frozenset({"cheek_width", "jaw", "chin", "chin_y", "top_y", "hairline_y", "ear_size"})
"""Traits that show outside the face; twins share them to the last bit, so that hair and background tell nothing."""


class Skin(NamedTuple):
    """Colours of a face, each about 0 to 1; all shared by twins."""

    melanin: float
    redness: float
    hair_melanin: float
    hair_red: float
    hair_grey: float
    iris_brown: float
    iris_green: float
    beard: float
    brow_darkness: float
    lip_red: float
    pigment_key: int
    """Key of the low-frequency pigment and of the pores."""


class Mark(NamedTuple):
    """A mole, freckle or scar: a soft ellipse in face coordinates."""

    x: float
    y: float
    radius: float
    contrast: float
    """Share of the skin's light that is lost at the centre; negative is lighter than the skin (a scar)."""
    stretch: float
    """Long over short axis."""
    angle: float
    redness: float


class Person(NamedTuple):
    """One face. `frame` is the family's geometry without the twin's own deviations: crops are aligned by it."""

    family: int
    twin: int
    geometry: Geometry
    frame: Geometry
    skin: Skin
    marks: tuple[Mark, ...]


class Difficulty(NamedTuple):
    """How much tells twins apart and how much hides it. Sizes in face units: 0.029 is a pixel of a 112 px crop."""

    deviation: float
    """Spread of a twin's own geometry, in units of the spread between strangers."""
    num_own_marks: tuple[int, int]
    num_shared_marks: tuple[int, int]
    mark_radius: tuple[float, float]
    mark_contrast: tuple[float, float]
    yaw: float
    """Standard deviations of the pose, in radians."""
    pitch: float
    roll: float
    misalignment: float
    """Standard deviation of shift and scale of the crop, in face units."""
    light: float
    """Strength of directed light and its variation, 0 to 1."""
    expression: float
    noise: float
    """Largest standard deviation of sensor noise, of a full scale of 1."""
    blur: float
    """Largest standard deviation of blur, in pixels of a 112 px crop."""
    quality: tuple[int, int]
    """JPEG quality."""
    glasses: float
    """Share of photos with glasses."""


DIFFICULTIES = {
    "easy": Difficulty(
        deviation=0.8, num_own_marks=(4, 6), num_shared_marks=(0, 1), mark_radius=(0.10, 0.15),
        mark_contrast=(0.7, 0.9), yaw=0.05, pitch=0.03, roll=0.02, misalignment=0.012, light=0.2, expression=0.3,
        noise=0.01, blur=0.3, quality=(88, 95), glasses=0.03,
    ),
    "medium": Difficulty(
        deviation=0.25, num_own_marks=(3, 5), num_shared_marks=(1, 3), mark_radius=(0.035, 0.055),
        mark_contrast=(0.3, 0.5), yaw=0.12, pitch=0.07, roll=0.04, misalignment=0.03, light=0.8, expression=0.8,
        noise=0.03, blur=0.8, quality=(70, 92), glasses=0.15,
    ),
    "hard": Difficulty(
        deviation=0.12, num_own_marks=(2, 4), num_shared_marks=(3, 6), mark_radius=(0.022, 0.035),
        mark_contrast=(0.2, 0.4), yaw=0.22, pitch=0.13, roll=0.08, misalignment=0.04, light=1.0, expression=1.0,
        noise=0.04, blur=1.0, quality=(55, 90), glasses=0.2,
    ),
}  # fmt: skip

_FAMILY, _TWIN = 1, 2  # first entries of generator keys; photos have their own


def difficulty_named(name: str) -> Difficulty:
    """ConfigError for a name that is not one of DIFFICULTIES."""
    if name not in DIFFICULTIES:
        raise ConfigError(f"no difficulty '{name}'. Use {', '.join(DIFFICULTIES)}.")
    return DIFFICULTIES[name]


def draw_family(seed: int, family: int, num_people: int, difficulty: Difficulty) -> list[Person]:
    """The people of one family: one set of shared traits, and each one's own deviations and marks."""
    rng = np.random.default_rng((_FAMILY, seed, family))
    frame = _draw_geometry(rng)
    skin = _draw_skin(rng)
    shared = _draw_marks(rng, frame, difficulty, difficulty.num_shared_marks, ())
    people: list[Person] = []
    taken = shared
    for twin in range(num_people):
        rng = np.random.default_rng((_TWIN, seed, family, twin))
        geometry = _deviate(rng, frame, difficulty.deviation)
        own = _draw_marks(rng, frame, difficulty, difficulty.num_own_marks, taken)
        taken += own
        people.append(Person(family, twin, geometry, frame, skin, shared + own))
    return people


def _draw_geometry(rng: np.random.Generator) -> Geometry:
    return Geometry(*(np.array(MEAN) + np.array(SPREAD) * _bounded_normal(rng, len(MEAN))).tolist())


def _deviate(rng: np.random.Generator, frame: Geometry, size: float) -> Geometry:
    """`frame` with every inner trait moved by `size` times its spread between strangers."""
    inner = np.array([name not in OUTER for name in Geometry._fields])
    step = size * np.array(SPREAD) * _bounded_normal(rng, len(frame)) * inner
    return Geometry(*(np.array(frame) + step).tolist())


def _bounded_normal(rng: np.random.Generator, size: int) -> np.ndarray:
    return np.clip(rng.normal(size=size), -2, 2)


def _draw_skin(rng: np.random.Generator) -> Skin:
    melanin = rng.beta(1.3, 1.8)
    hair = np.clip(rng.uniform(0.1, 1.1) + 0.6 * melanin, 0, 1)
    return Skin(
        melanin=float(melanin),
        redness=float(rng.uniform(0, 1)),
        hair_melanin=float(hair),
        hair_red=float(rng.beta(1, 4)),
        hair_grey=float(rng.uniform(0.2, 0.8) if rng.random() < 0.15 else 0.0),
        iris_brown=float(np.clip(rng.uniform(-0.3, 1.0) + melanin, 0, 1)),
        iris_green=float(rng.uniform(0, 1)),
        beard=float(rng.uniform(0.1, 0.7) if rng.random() < 0.35 else 0.0),
        brow_darkness=float(rng.uniform(0.5, 0.9)),
        lip_red=float(rng.uniform(0.2, 1)),
        pigment_key=int(rng.integers(2**31)),
    )


def _draw_marks(
    rng: np.random.Generator,
    face: Geometry,
    difficulty: Difficulty,
    count: tuple[int, int],
    taken: tuple[Mark, ...],
) -> tuple[Mark, ...]:
    """Marks on bare skin, none on top of another one of the family."""
    marks: list[Mark] = []
    for _ in range(int(rng.integers(count[0], count[1] + 1))):
        radius = float(rng.uniform(*difficulty.mark_radius))
        place = _free_place(rng, face, radius, (*taken, *marks))
        contrast = float(rng.uniform(*difficulty.mark_contrast))
        if rng.random() < 0.1:  # a scar: longer, and lighter than the skin
            stretch, contrast = float(rng.uniform(1.8, 2.6)), -0.5 * contrast
        else:
            stretch = float(rng.uniform(1.0, 1.4))
        angle, redness = float(rng.uniform(0, np.pi)), float(rng.uniform(0, 1))
        marks.append(Mark(*place, radius, contrast, stretch, angle, redness))
    return tuple(marks)


def _free_place(
    rng: np.random.Generator, face: Geometry, radius: float, taken: tuple[Mark, ...]
) -> tuple[float, float]:
    """A place on bare skin, away from the marks there are; ever nearer to them the longer it takes."""
    apart = 1.5
    while True:
        x, y = rng.uniform(-0.8, 0.8), rng.uniform(face.hairline_y + 0.3, face.chin_y - 0.18)
        apart *= 0.995
        clear = all(np.hypot(x - m.x, y - m.y) > apart * (radius + m.radius) for m in taken)
        if clear and _is_bare_skin(face, x, y, radius):
            return float(x), float(y)


def _is_bare_skin(face: Geometry, x: float, y: float, radius: float) -> bool:
    """Inside the outline by some margin, and off eyes, brows, nostrils and mouth."""
    below = max(y - 0.2, 0) / (face.chin_y - 0.2)
    above = max(0.2 - y, 0) / (0.2 - face.top_y)
    width = face.cheek_width * (1 - below**face.jaw) ** face.chin * (1 - above**2.4) ** (1 / 2.4)
    if abs(x) > 0.8 * width - radius:
        return False
    side = abs(abs(x) - face.eye_x)
    eye = (side / (0.30 + radius)) ** 2 + ((y + 0.02) / (0.15 + radius)) ** 2
    brow = (side / (0.33 + radius)) ** 2 + ((y - face.brow_y) / (0.12 + radius)) ** 2
    mouth = (x / (face.mouth_width + 0.14 + radius)) ** 2 + ((y - face.mouth_y) / (0.18 + radius)) ** 2
    nostrils = (x / (face.nose_width + radius)) ** 2 + ((y - face.nose_y - 0.08) / (0.10 + radius)) ** 2
    return min(eye, brow, mouth, nostrils) > 1
