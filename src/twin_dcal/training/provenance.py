"""What goes into a model file about the pictures it was trained on: drawn or not, and what they look like."""

import logging
from functools import cached_property

from twin_dcal.config import TwinVerificationConfig
from twin_dcal.data.faceset import FaceData
from twin_dcal.model_file.familiarity import MIN_IMAGES, Familiarity, familiarity_of
from twin_dcal.model_file.provenance import DRAWN, FACE_NETWORK, OTHER_MODEL, training_warnings
from twin_dcal.models.face.open import is_face_network
from twin_dcal.plural import plural
from twin_dcal.synth.folder import are_drawn

logger = logging.getLogger(__name__)


class Provenance:
    """Of one run's data; pictures are looked at once, when a model is first written."""

    def __init__(self, config: TwinVerificationConfig, data: FaceData) -> None:
        self._config, self._data = config, data

    @cached_property
    def familiarity(self) -> Familiarity | None:
        """What training pictures look like, and how far validation pictures are from them; None where there are few."""
        train, validation = self._data.train.paths, self._data.val.paths
        people = plural(self._data.val.num_people, "person", "people")
        told = f"validation: {people}, {plural(len(validation), 'image')}"
        found = familiarity_of(train, validation, self._config.data.image_size, told)
        if found is None:
            logger.info(
                "fewer than %d training or validation images: the model file cannot say what they look like, and "
                "nothing that is unlike them will be warned about", MIN_IMAGES,
            )  # fmt: skip
        return found

    @cached_property
    def faces(self) -> dict[str, str]:
        """For the `training` of a model file: `faces` where all were drawn, and `start`, what knew faces before."""
        start = FACE_NETWORK if is_face_network(self._config.model.backbone) else None
        start = OTHER_MODEL if self._config.model.init_from else start
        told = {"faces": DRAWN} if are_drawn(self._data.train.paths) else {}
        return told if start is None else {**told, "start": start}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What users of the model should know."""
        return training_warnings(self.faces)
