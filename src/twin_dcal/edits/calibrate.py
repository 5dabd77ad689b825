"""The strength of editing at which an untouched face network confuses twins as often as it confuses real ones.

What is known of real twins are error rates: on ND-TWIN an off-the-shelf network has a twin EER of .34 to .38. So
strength is found by measuring: photographs of training people are edited more and less, until the network's EER of
edited twins is the one asked for.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twin_dcal.environment import num_threads
from twin_dcal.errors import ConfigError, ModelError
from twin_dcal.metrics.error_rates import eer, sort_scores
from twin_dcal.model_file.onnx_bytes import refuse_weights_elsewhere
from twin_dcal.prepare.geometry import fit_similarity
from twin_dcal.privacy import set_privacy_defaults
from twin_dcal.progress import ProgressBar, track

from .dataset import Person, Settings, dealt, detector, read_people
from .folder import SETTINGS_NAME, read_settings
from .looking import Seen, look
from .recipes import edited

ARCFACE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
"""Landmarks in the 112-pixel crops that face networks of the ArcFace kind are trained on."""
WEAKEST, STRONGEST = 0.1, 2.5
_MOST_PEOPLE, _MOST_PHOTOS = 90, 20
NEAR = 0.004  # of the target EER; the sample's own standard error is some .02
_STEPS = 8
_BATCH = 32


@dataclass(frozen=True)
class Calibration:
    """What was measured, for the set's description."""

    network: str
    """Name of the file."""
    sha256: str
    target_eer: float
    achieved_eer: float
    strength: float
    people: int
    photos: int


class FaceNetwork:
    """A face network in ONNX format, as such files come: RGB (N, 3, S, S), (x - 127.5) / 128, any length of embeddings.

    ConfigError for a missing file or onnxruntime; ModelError for a graph of another kind.
    """

    def __init__(self, path: str | Path) -> None:
        set_privacy_defaults()
        try:
            runtime: Any = import_module("onnxruntime")
        except ImportError:
            raise ConfigError(
                "calibrating needs ONNX Runtime. Install it with pip install 'twin-dcal[onnx]'."
            ) from None
        self.path = Path(path)
        if not self.path.is_file():
            raise ConfigError(f"--calibrate_with {path}: no such file. Name a face network in ONNX format.")
        content = self.path.read_bytes()
        refuse_weights_elsewhere(content, str(path))
        self.sha256 = hashlib.sha256(content).hexdigest()
        options = runtime.SessionOptions()
        options.log_severity_level = 4  # errors arrive as exceptions
        options.intra_op_num_threads = num_threads()
        try:
            self._session: Any = runtime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the runtime's own errors share no base of their own
            raise ModelError(
                f"{path}: ONNX Runtime cannot load it ({str(error).splitlines()[0][:120]})"
            ) from None
        inputs = self._session.get_inputs()
        shape = list(inputs[0].shape) if len(inputs) == 1 else []
        if len(shape) != 4 or shape[1] != 3 or not isinstance(shape[2], int) or shape[2] != shape[3]:
            raise ModelError(
                f"{path}: takes {[each.shape for each in inputs]}, not (N, 3, S, S) with S known"
            )
        self._name, self.size = inputs[0].name, shape[2]

    def embed(self, pixels_BSS3: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(B, E), rows of length 1."""
        rows = []
        for start in range(0, len(pixels_BSS3), _BATCH):
            part = (pixels_BSS3[start : start + _BATCH].astype(np.float32) - 127.5) / 128
            rows.append(
                self._session.run(None, {self._name: np.ascontiguousarray(part.transpose(0, 3, 1, 2))})[0]
            )
        embedded = np.concatenate(rows)
        return np.asarray(embedded / np.linalg.norm(embedded, axis=1, keepdims=True), np.float32)

    def crop(self, pixels_HW3: NDArray[np.uint8], landmarks_52: NDArray[np.float64]) -> NDArray[np.uint8]:
        """A photograph as the network knows faces, if its landmarks lay here."""
        cv2: Any = import_module("cv2")
        matrix = fit_similarity(landmarks_52, ARCFACE * (self.size / 112))
        matrix[:, 2] += matrix[:, :2].sum(axis=1) / 2 - 0.5  # OpenCV counts from the centres of pixels
        small = cv2.GaussianBlur(pixels_HW3, (0, 0), 0.5 * max(1 / np.hypot(*matrix[:, 0]) - 0.8, 0.2))
        return np.asarray(
            cv2.warpAffine(small, matrix, (self.size, self.size), flags=cv2.INTER_CUBIC), np.uint8
        )


def calibrated(
    faces: str | Path,
    network: str | Path,
    settings: Settings,
    target_eer: float,
    output: str | Path | None = None,
) -> Settings:
    """The settings with the strength that a network finds; taken from `output` if a set was begun there with the same.

    Errors as `calibrate`'s and FaceNetwork's.
    """
    opened = FaceNetwork(network)
    is_begun = output is not None and (Path(output) / SETTINGS_NAME).is_file()
    kept = read_settings(Path(output)).get("calibration") if output is not None and is_begun else None
    if kept and (kept.get("sha256"), kept.get("target_eer")) == (opened.sha256, target_eer):
        return replace(settings, strength=kept["strength"], calibration=kept)
    found = calibrate(faces, opened, settings, target_eer)
    return replace(settings, strength=found.strength, calibration=asdict(found))


def calibrate(faces: str | Path, network: FaceNetwork, settings: Settings, target_eer: float) -> Calibration:
    """Bisect the strength on a sample of the training people.

    ConfigError for a target that no strength reaches, or a data set with too few photographs.
    """
    if not 0.02 <= target_eer < 0.5:
        raise ConfigError(f"--target_eer {target_eer}: use .02 to .49; real twins are at .34 to .38")
    people = [person for person in read_people(faces, settings.seed) if person.split == "train"]
    sample = _sample(people, settings)
    if not sample:
        raise ConfigError(
            f"{faces}: nobody in train has the photographs for {settings.selves} selves to calibrate on"
        )
    photos = sum(len(hand) for _, hands in sample for hand in hands)
    strength, found = _search(partial(twin_eer, network, sample, settings), settings.strength, target_eer)
    if abs(found - target_eer) > 5 * NEAR:
        raise ConfigError(
            f"--target_eer {target_eer}: no strength from {WEAKEST} to {STRONGEST} reaches it; "
            f"{strength:.2f} gives {found:.3f}"
        )
    return Calibration(
        network.path.name,
        network.sha256,
        target_eer,
        round(found, 4),
        round(strength, 4),
        len(sample),
        photos,
    )


def _search(measure: Callable[[float], float], start: float, target: float) -> tuple[float, float]:
    """The strength whose EER is near the target, and that EER; EER falls with strength, nearly along a line."""
    low, high, at_low, at_high = WEAKEST, STRONGEST, 0.5, 0.0
    strength = start
    with ProgressBar(_STEPS, "calibrating", "strengths") as bar:
        for step in range(_STEPS):
            found = measure(strength)
            bar.note(f"strength {strength:.3f}, EER {found:.3f}")
            bar.update()
            if abs(found - target) <= NEAR or step == _STEPS - 1:
                break
            if found > target:
                low, at_low = strength, found
            else:
                high, at_high = strength, found
            # Along the line between the ends, yet never so near one of them that the search stands still.
            share = (at_low - target) / max(at_low - at_high, 1e-9)
            strength = low + (high - low) * min(max(share, 0.1), 0.9)
    return strength, found


Sampled = tuple[str, list[list[Seen]]]


def _sample(people: Sequence[Person], settings: Settings) -> list[Sampled]:
    """Some people and their photographs, dealt as in the set."""
    rng = np.random.default_rng((16, settings.seed))
    chosen: list[Sampled] = []
    for at in track(rng.permutation(len(people)).tolist(), "looking", "people"):
        if len(chosen) == _MOST_PEOPLE:
            break
        person = people[at]
        looks = [look(path, detector(), settings.limits) for path in person.paths[:_MOST_PHOTOS]]
        hands = dealt([each for each in looks if isinstance(each, Seen)], settings, person.name)
        if len(hands) > 1:
            chosen.append((person.name, hands))
    return chosen


def twin_eer(network: FaceNetwork, sample: Sequence[Sampled], settings: Settings, strength: float) -> float:
    """Equal error rate of genuine pairs against pairs of edited twins, over all pairs of each family.

    The network sees each picture where the data set's faces lie on the whole, as it would in training and use; not
    aligned by the picture's own landmarks.
    """
    shares = [
        shot.found.points / shot.pixels.shape[0] for _, hands in sample for hand in hands for shot in hand
    ]
    usual = np.mean(shares, axis=0)
    genuine, twins = [], []
    wanted = replace(settings, strength=strength)
    for person, hands in sample:
        crops, whose = [], []
        for half, hand in enumerate(hands):
            edit = wanted.edit(person, half)
            pictures = [edited(settings.recipe, shot.pixels, shot.camera, edit) for shot in hand]
            crops += [network.crop(pixels, usual * pixels.shape[0]) for pixels in pictures]
            whose += [half] * len(hand)
        embedded = network.embed(np.stack(crops))
        one, other = np.triu_indices(len(crops), 1)
        scores = (embedded @ embedded.T)[one, other]
        same = np.array(whose)[one] == np.array(whose)[other]
        genuine.append(scores[same])
        twins.append(scores[~same])
    return float(eer(sort_scores(np.concatenate(genuine), np.concatenate(twins))).eer)
