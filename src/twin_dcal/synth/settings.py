"""What a SynTwins set is made from, and the names in it."""

from dataclasses import dataclass

import numpy as np

from twin_dcal.errors import ConfigError

from .identity import DIFFICULTIES, Difficulty, Person, difficulty_named, draw_family

FORMAT_VERSION = 1
TEXELS_PER_PIXEL = 2
_KIND = 4  # first entry of generator keys; see identity and photo for others


@dataclass(frozen=True)
class Settings:
    """The same settings give the same bytes.

    `images` is the number of photos of each person, `image_size` in pixels. Shares are of families.
    """

    families: int = 200
    images: int = 16
    image_size: int = 112
    difficulty: str = "medium"
    seed: int = 0
    val_share: float = 0.1
    test_share: float = 0.2
    single_share: float = 0.05
    triplet_share: float = 0.03
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        difficulty_named(self.difficulty)
        if self.families < 3:
            raise ConfigError(
                f"families: {self.families} is too few; train, val and test take one each. Use 3 or more."
            )
        if self.images < 2:
            raise ConfigError(f"images: {self.images} a person is too few to compare. Use 2 or more.")
        if self.image_size < 32:
            raise ConfigError(f"image_size: {self.image_size} pixels show no face. Use 32 or more.")
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"seed: {self.seed} is out of range. Use a number from 0 to 2^63 - 1.")

    @property
    def level(self) -> Difficulty:
        return DIFFICULTIES[self.difficulty]

    @property
    def texels(self) -> int:
        """Side of the maps that photos are taken from."""
        return TEXELS_PER_PIXEL * self.image_size

    def split_of(self, family: int) -> str:
        """The first families train, the last ones test."""
        num_test = max(1, round(self.test_share * self.families))
        num_val = max(1, round(self.val_share * self.families))
        if family >= self.families - num_test:
            return "test"
        return "val" if family >= self.families - num_test - num_val else "train"

    def people_of(self, family: int) -> list[Person]:
        """A twin pair, sometimes a triplet or a single person; the same whatever the other settings."""
        chance = np.random.default_rng((_KIND, self.seed, family)).random()
        single, triplet = chance < self.single_share, chance > 1 - self.triplet_share
        count = 1 if single else 3 if triplet else 2
        return draw_family(self.seed, family, count, self.level)


def person_id(family: int, twin: int) -> str:
    """Such as 00017b: the family's number and a letter for each twin."""
    return f"{family:05d}{'abc'[twin]}"


def photo_name(family: int, twin: int, number: int) -> str:
    """Such as 00017b_003.jpg."""
    return f"{person_id(family, twin)}_{number:03d}.jpg"


def mask_name(family: int, one: int, other: int) -> str:
    """Such as 00017ab.png: the difference map of two members of a family."""
    return f"{family:05d}{'abc'[one]}{'abc'[other]}.png"
