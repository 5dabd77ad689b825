"""How faces lie in a data set's crops, which a face network has to know: told by the configuration, or measured."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from twin_dcal.config import TwinVerificationConfig
from twin_dcal.data.decode import decode_pixels, read_bytes
from twin_dcal.data.fit import fit, scaled
from twin_dcal.data.templates import TEMPLATES, Points
from twin_dcal.errors import ImageError
from twin_dcal.image_size import ImageSize
from twin_dcal.percent import percent
from twin_dcal.plural import plural
from twin_dcal.prepare.align import by_prominence, find_faces
from twin_dcal.prepare.detector import NEEDED, FaceDetector, is_available

logger = logging.getLogger(__name__)

NUM_MEASURED = 48
"""Crops that are looked at: the median of so many landmarks is exact to about half a per cent of the side."""
_FEWEST = 8
_SAME = 0.03
"""Root mean square distance of landmarks, as a share of the side, up to which crops count as those of a template. Two
detectors differ by less than this on the same crops, and templates by more."""
_SIDE = 224
_LOOKED_AT = 24
_APART = 0.08
"""Median over pictures of the root mean square distance of landmarks to where they should lie, as a share of the side.
Measured: 0.02 for crops of look-alikes and drawn faces; to their own median 0.10 for press photographs and 0.02 for
studio ones, which only the places that a model knows tell from crops."""


def crop_landmarks(config: TwinVerificationConfig, paths: Sequence[Path]) -> Points | None:
    """Landmarks (5, 2) of the crops at `paths`, in a crop of side 1, as `data.crop_template` says; logs what it found.

    Crops whose central part of another shape is used (`data.image_size`) count as the square around that part.

    None for crops that are to be given whole. Without a detector, or where too few faces are found, crops are taken for
    those of `dcal-prepare`, and that is said.
    """
    told = config.data.crop_template
    if told == "none":
        return None
    if told != "auto":
        return TEMPLATES[told]
    if not is_available():
        logger.warning(
            "data.crop_template: no face detector to measure how faces lie in the crops (%s); they are taken for those "
            "of dcal-prepare. Set it to ours, arcface112 or none", NEEDED,
        )  # fmt: skip
        return TEMPLATES["ours"]
    chosen = [
        paths[place] for place in np.linspace(0, len(paths) - 1, min(NUM_MEASURED, len(paths))).astype(int)
    ]
    found = _landmarks(chosen, config.data.image_size)
    if len(found) < min(_FEWEST, len(chosen)):
        logger.warning(
            "data.crop_template: faces were found in %d of %s only; they are taken for those of dcal-prepare. "
            "Set it to ours, arcface112 or none", len(found), plural(len(chosen), "crop"),
        )  # fmt: skip
        return TEMPLATES["ours"]
    measured: Points = np.median(found, axis=0)
    apart = {
        name: float(np.sqrt(((measured - points) ** 2).sum(1).mean())) for name, points in TEMPLATES.items()
    }
    nearest = min(apart, key=lambda name: apart[name])
    logger.info(
        "data.crop_template: faces were found in %d of %s looked at; they lie %.1f %% of the side from where "
        "template '%s' has them%s", len(found), plural(len(chosen), "crop"),
        100 * apart[nearest], nearest, "" if apart[nearest] < _SAME else "; the measured places are used",
    )  # fmt: skip
    return TEMPLATES[nearest] if apart[nearest] < _SAME else measured


def framing_warnings(paths: Sequence[Path], size: ImageSize, known: ArrayLike | None) -> tuple[str, ...]:
    """A warning where pictures are photographs rather than aligned crops: faces lie elsewhere than in crops.

    Nothing is said without a detector, or where it finds too few faces.
    Args: known: landmarks (5, 2) of the crops that a model is made for, of side 1; None compares the pictures with each
    other.
    """
    if not is_available() or len(paths) < _FEWEST:
        return ()
    places = np.linspace(0, len(paths) - 1, min(_LOOKED_AT, len(paths))).astype(int)
    found = np.array(_landmarks([paths[place] for place in places], size))
    if len(found) < _FEWEST:
        return ()
    wanted = np.median(found, axis=0) if known is None else np.asarray(known)
    apart = float(np.median(np.sqrt(((found - wanted) ** 2).sum(2).mean(1))))
    if apart < _APART:
        return ()
    return (
        f"the pictures look like photographs, not like aligned crops: in {len(found)} of them faces lie "
        f"{percent(apart)} of the side from where crops have them. Only the central square of each is seen here: "
        "align them, with dcal-evaluate --align auto or with dcal-prepare first",
    )


def _landmarks(paths: Sequence[Path], size: ImageSize) -> list[Points]:
    detector, found = FaceDetector(), []
    rows, columns = scaled(size, _SIDE)
    corner = np.array([_SIDE - columns, _SIDE - rows]) / 2  # of the part in the square around it
    for path in paths:
        try:
            pixels = fit(decode_pixels(read_bytes(path), str(path)), (rows, columns))
        except ImageError:  # reported where data are read
            continue
        faces = by_prominence(find_faces(pixels, detector), pixels.shape)
        if faces:
            found.append((faces[0].landmarks + corner) / _SIDE)
    return found
