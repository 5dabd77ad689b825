"""A model file that is open for use: how pictures are prepared for it, and the threshold it decides at."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twin_dcal.errors import ConfigError, ModelError
from twin_dcal.metrics.error_curve import Rates
from twin_dcal.prepare.align import FaceChoice

from .aligning import Align, Aligner, Prepared, Surface
from .backend import Backend, ModelSource, open_backend
from .deciding import Deciding, checked_similarity
from .given import check_one_of
from .images import ImageInput, read_pixels
from .pictures import Embedder


class OpenedModel:
    """What a `TwinInferenceEngine` keeps between two calls: its model, its aligner, its threshold. Args: see there."""

    def __init__(
        self, model_path: str | Path, device: str | None = None, threshold: float | None = None,
        align: Align = "auto", *, threshold_probability: float | None = None,
    ) -> None:  # fmt: skip
        self._device = _named_device(device)
        self.backend: Backend = open_backend(model_path, self._device)
        self._aligner = Aligner(align, self.source.landmarks)
        self._deciding = Deciding.of_model(self.source)
        if threshold is not None and threshold_probability is not None:
            raise ConfigError("threshold and threshold_probability exclude each other; give one")
        if threshold is not None:
            self.set_threshold(threshold)
        if threshold_probability is not None:
            self.set_threshold_probability(threshold_probability)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the place of the model file rather than its content: the file is opened anew, in another process say.
        ModelError then, if it has changed."""
        place = str(Path(self.source.path).resolve())
        return _opened_again, (
            type(self), place, self._device, self.align, self.surface, self._deciding, self.source.sha256,
        )  # fmt: skip

    def __repr__(self) -> str:
        source, threshold = self.source, self._deciding.threshold
        decides = "no threshold" if threshold is None else f"threshold {threshold:+.3f}"
        return (
            f"TwinInferenceEngine({source.path!s}: {source.backbone}, {'+'.join(source.branches)}, {decides})"
        )

    @property
    def source(self) -> ModelSource:
        """The model file, and what it says about deciding."""
        return self.backend.source

    @property
    def embedder(self) -> Embedder:
        """What makes features of pictures."""
        return Embedder(
            self.backend, lambda one: self.prepare_image(one.image, one.called, one.face, shared=one.shared)
        )

    @property
    def align(self) -> Align:
        return self._aligner.align

    @align.setter
    def align(self, value: Align) -> None:
        self._aligner = Aligner(value, self.source.landmarks, self.surface)

    @property
    def surface(self) -> Surface:
        """Where messages are read, which tells what options are called in them; a command sets it to "command", a
        prompt to "prompt"."""
        return self._aligner.surface

    @surface.setter
    def surface(self, value: Surface) -> None:
        check_one_of(value, Surface, "surface")
        self._aligner.surface = value

    @property
    def deciding(self) -> Deciding:
        """Threshold, calibration and error rates that results are from."""
        return self._deciding

    @property
    def threshold(self) -> float:
        """The similarity from which a pair counts as the same person. ModelError where none was ever set."""
        return self._deciding.required()

    @property
    def threshold_source(self) -> dict[str, Any]:
        """Where the threshold is from, with the FMR and FNMR it has on validation pairs where these are known."""
        self._deciding.required()
        return dict(self._deciding.origin)

    def set_threshold(self, value: float) -> None:
        """Decide at this similarity from now on. ConfigError for one outside [-1, 1]."""
        self._deciding = self._deciding.moved(value)

    def set_threshold_probability(self, value: float) -> None:
        """Decide at the lowest similarity with this verification_score from now on. ConfigError where none has it, and
        without a calibration."""
        self._deciding = self._deciding.moved_to_probability(value)

    def rates(self, threshold: float) -> Rates | None:
        """Error rates of deciding at `threshold`, on the pairs that results are from; None where none are known.
        ConfigError for one outside [-1, 1]."""
        return self._deciding.rates(checked_similarity(threshold))

    def prepare(self, image: ImageInput, name: str = "image") -> NDArray[np.uint8]:
        """The pixels that the network sees, (rows, columns, 3) uint8."""
        return self.prepare_image(image, name).pixels

    def prepare_image(
        self, image: ImageInput, name: str = "image", face: FaceChoice = "largest", *,
        surface: Surface | None = None, shared: bool = False,
    ) -> Prepared:  # fmt: skip
        """Find the face in a picture and align it: the pixels that the network sees, the face, and warnings about it.

        Args: face: which of several: "largest", or its number from the left; surface: where a message about it is read,
        if elsewhere than the engine's others; shared: the choice is for another picture too (see `prepare_pair`).
        """
        called = str(image) if isinstance(image, str | Path) else name
        prepared = self._aligner(
            read_pixels(image, name), self.source.image_size, called, face, surface, shared
        )
        return prepared.judged_by(self.source.familiarity)

    look = prepare_image
    """The name of `prepare_image` in earlier releases."""


def _named_device(given: object) -> str:
    """ConfigError for what names no device. torch's own device objects do."""
    if given is not None and not isinstance(given, str) and type(given).__name__ != "device":
        raise ConfigError(f"device: a {type(given).__name__}; give auto, cpu, cuda or cuda:0")
    return "auto" if given is None else str(given) or "auto"


def _opened_again(
    kind: type[OpenedModel], path: str, device: str, align: Align, surface: Surface, deciding: Deciding,
    sha256: str,
) -> OpenedModel:  # fmt: skip
    """The engine that was pickled, with its threshold."""
    engine = kind(path, device, align=align)
    if engine.source.sha256 != sha256:
        raise ModelError(f"{path}: has changed since the engine was pickled; open it anew")
    engine._deciding, engine.surface = deciding, surface
    return engine
