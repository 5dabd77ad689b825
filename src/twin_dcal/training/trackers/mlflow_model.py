"""The model as MLflow's python_function: crops to embeddings. Data and a module's name; nothing is pickled."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from twin_dcal._version import __version__
from twin_dcal.checkpoint import LoadedModel, load_model
from twin_dcal.data.fit import sides
from twin_dcal.embed import embed_batches
from twin_dcal.errors import ImageError

_BATCH = 32


class CropsToEmbeddings:
    """What `mlflow.pyfunc.load_model` gives."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded

    def predict(
        self, model_input: NDArray[np.uint8], params: dict[str, Any] | None = None
    ) -> NDArray[np.float32]:
        """(N, rows, columns, 3) uint8 RGB crops, aligned and of the model's size, to (N, E) float32 unit rows.

        The cosine of two rows is a pair's score, to be compared with the checkpoint's threshold. ImageError for
        another shape or type.
        """
        size = sides(self.loaded.preprocessing.image_size)
        crops = np.asarray(model_input)
        if crops.dtype != np.uint8 or crops.shape[1:] != (*size, 3):
            raise ImageError(
                f"crops of {crops.dtype} and shape {crops.shape}; needed: uint8, (N, {size[0]}, {size[1]}, 3)"
            )
        images = torch.from_numpy(np.ascontiguousarray(crops.transpose(0, 3, 1, 2)))
        return embed_batches(self.loaded.model, torch.split(images, _BATCH), self.loaded.preprocessing)


def _load_pyfunc(path: str) -> CropsToEmbeddings:
    """MLflow calls this by name with the place of best_model.pth."""
    return CropsToEmbeddings(load_model(path))


def save_for_mlflow(checkpoint: Path, home: Path, *, run_id: str, model_id: str) -> Path:
    """Write `checkpoint` as an MLflow model into `home`, with its signature and its one requirement."""
    import mlflow.pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types import Schema, TensorSpec

    loaded = load_model(checkpoint)
    size, width = sides(loaded.preprocessing.image_size), loaded.model.embedding_dim("combined")
    signature = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, *size, 3))]),
        outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, width))]),
    )
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="(?s).*input example was not provided"
        )  # the signature is exact
        mlflow.pyfunc.save_model(
            str(home), loader_module=__name__, data_path=str(checkpoint), signature=signature,
            mlflow_model=Model(run_id=run_id, model_id=model_id), pip_requirements=[f"twin-dcal=={__version__}"],
        )  # fmt: skip
    return home
