"""One export: trace, quantize, check, and only then write."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from twin_dcal._version import __version__
from twin_dcal.checkpoint import LoadedModel
from twin_dcal.errors import ConfigError, ModelError
from twin_dcal.evaluation.inputs import DataFiles, keep_to_split, read_comparisons
from twin_dcal.evaluation.protocol import Comparisons
from twin_dcal.files import replacing
from twin_dcal.inference.onnx_backend import OnnxBackend
from twin_dcal.inference.onnx_metadata import FORMAT, FORMAT_VERSION, preprocessing_in_words, to_strings
from twin_dcal.inference.torch_backend import TorchBackend
from twin_dcal.model_file.onnx_bytes import sealed
from twin_dcal.model_file.provenance import training_warnings
from twin_dcal.progress import ProgressBar

from . import faces
from .checks import Difference, TwinAuc, compare_auc, differences
from .graph import OPSET, require_onnx, to_onnx
from .quantization import to_int8

if TYPE_CHECKING:
    import onnx

TOLERANCE = 1e-4
"""Largest difference to torch in any element of a feature, float32; measured ones are near 1e-6."""
MAX_AUC_DROP = 0.005
"""Of int8, in the AUC against twins."""

# Ids of people: an exported file goes where the training data does not.
_KEPT_HOME = ("split",)

NO_FILES = DataFiles()

Quantization = Literal["none", "int8"]


@dataclass(frozen=True)
class Exported:
    """What was written, and what the checks found. auc: of int8 only. warnings: what its users should know."""

    path: Path
    sha256: str
    num_bytes: int
    difference: Difference
    auc: TwinAuc | None
    warnings: tuple[str, ...] = ()


def export_model(
    model: str | Path, output: str | Path, *, quantize: Quantization = "none", opset: int = OPSET,
    images: Sequence[str] = (), val_data: str | None = None, files: DataFiles = NO_FILES,
) -> Exported:  # fmt: skip
    """Write a checkpoint as one ONNX file, checked against torch.

    Args: images: files to check on; without any those of `val_data`, else drawn faces. val_data: a data set, whose val
    split is taken, or a pairs file; int8 is judged on it. files: what describes it. ModelError, and nothing written,
    where float32 differs from torch by more than TOLERANCE or int8 loses more than MAX_AUC_DROP of twin AUC;
    ConfigError for int8 without `val_data`.
    """
    require_onnx()
    if quantize == "int8" and val_data is None:
        raise ConfigError("--quantize int8 needs --val_data: it is refused where twins are told apart worse")
    with ProgressBar(4 if quantize == "int8" else 3, "exporting", "steps", after_s=0) as bar:
        return _export(Path(model), Path(output), quantize, opset, images, val_data, files, bar)


def _export(
    model: Path, output: Path, quantize: Quantization, opset: int, images: Sequence[str], val_data: str | None,
    files: DataFiles, bar: ProgressBar,
) -> Exported:  # fmt: skip
    bar.note("as ONNX")
    torch_backend = TorchBackend(model, "cpu")
    loaded = torch_backend.loaded
    validation = None if val_data is None else _validation(val_data, files, loaded)
    graph = to_onnx(loaded, opset)
    content = with_metadata(graph, loaded, {"quantization": "none"})
    exact = OnnxBackend(output, content=content)
    bar.update()
    bar.note("compared with torch")
    told = _checked(torch_backend, exact, images, validation)
    bar.update()
    auc = None
    if quantize == "int8" and validation is not None:
        graph = to_int8(graph)
        content = with_metadata(graph, loaded, {"quantization": "int8"})
        bar.note("int8 judged")
        auc = _judged(validation, exact, OnnxBackend(output, content=content))
        bar.update()
    exported = {
        "quantization": quantize, "opset": opset, "checkpoint_sha256": loaded.sha256, "float32_check": asdict(told),
        "twin_auc": None if auc is None else auc.to_dict(),
    }  # fmt: skip
    content = with_metadata(graph, loaded, exported)
    final = OnnxBackend(output, content=content)  # what is about to be written opens
    with replacing(output) as file:
        file.write(content)
    bar.update()
    return Exported(
        output, final.source.sha256, len(content), told, auc, training_warnings(final.source.training)
    )


def _validation(val_data: str, files: DataFiles, loaded: LoadedModel) -> Comparisons:
    comparisons = read_comparisons(val_data, files, "val")
    return keep_to_split(comparisons, "val", loaded.training.get("split", {}))


def _checked(
    torch_backend: TorchBackend, exact: OnnxBackend, images: Sequence[str], validation: Comparisons | None
) -> Difference:
    size = exact.source.image_size
    if images:
        chosen = faces.some_of(images, size, "--images")
    elif validation is not None:
        chosen = faces.some_of(validation.names, size, validation.source)
    else:
        chosen = faces.drawn(size)
    found = differences(torch_backend, exact, chosen.pixels, chosen.told)
    if not found.max_difference <= TOLERANCE:  # also for NaN
        raise ModelError(
            f"{torch_backend.source.path}: exported, its features differ from torch's by {found.max_difference:.2g} on "
            f"{found.faces}; at most {TOLERANCE:g} is accepted, so nothing is written"
        )
    return found


def _judged(validation: Comparisons, exact: OnnxBackend, quantized: OnnxBackend) -> TwinAuc:
    before, after = (faces.embed_files(each, validation.names) for each in (exact, quantized))
    auc = compare_auc(validation, before, after, exact.source.threshold, exact.source.fusion)
    if auc.drop > MAX_AUC_DROP:
        raise ModelError(
            f"int8 lowers the twin AUC on {validation.source} from {auc.before:.4f} to {auc.after:.4f}; at most "
            f"{MAX_AUC_DROP} is accepted, so nothing is written. Export without --quantize"
        )
    return auc


def with_metadata(graph: "onnx.ModelProto", loaded: LoadedModel, exported: Mapping[str, Any]) -> bytes:
    """The file's bytes. ModelError for a network beyond the 2 GB that one file can hold."""
    pixels, config = loaded.preprocessing, loaded.config
    threshold, calibration, curve = loaded.threshold, loaded.calibration, loaded.error_curve
    strings = to_strings(
        {
            "format": FORMAT, "format_version": FORMAT_VERSION, "version": __version__,
            "preprocessing": {**pixels.to_dict(), "in_words": preprocessing_in_words(pixels.image_size)},
            "backbone": config.model.backbone, "branches": list(loaded.model.branches),
            "features": {value.name: value.type.tensor_type.shape.dim[1].dim_value for value in graph.graph.output},
            "threshold": None if threshold is None else asdict(threshold),
            "calibration": None if calibration is None else calibration.to_dict(),
            "error_curve": None if curve is None else curve.to_dict(),
            "fusion": None if loaded.fusion is None else loaded.fusion.to_dict(),
            "templates": [each.to_dict() for each in loaded.templates],
            "familiarity": None if loaded.familiarity is None else loaded.familiarity.to_dict(),
            "config": {"model": config.model.model_dump(mode="json", exclude={"pretrained"})},
            "training": {key: value for key, value in loaded.training.items() if key not in _KEPT_HOME},
            "exported": exported,
        }
    )  # fmt: skip
    del graph.metadata_props[:]
    for key, text in strings.items():
        graph.metadata_props.add(key=key, value=text)
    graph.producer_name, graph.producer_version = "twin_dcal", __version__
    graph.doc_string = preprocessing_in_words(pixels.image_size)
    try:
        return sealed(bytes(graph.SerializeToString()))
    except Exception as error:
        raise ModelError(
            f"one ONNX file holds 2 GB, and {config.model.backbone} is larger: {error}"
        ) from error
