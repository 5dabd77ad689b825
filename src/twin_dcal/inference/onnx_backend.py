"""An exported model through ONNX Runtime, on the CPU. Neither torch nor the onnx package is imported."""

import hashlib
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twin_dcal.data.fit import sides
from twin_dcal.environment import num_threads
from twin_dcal.errors import ConfigError, ModelError
from twin_dcal.model_file.onnx_bytes import metadata, refuse_damaged
from twin_dcal.model_file.room import room
from twin_dcal.plural import plural
from twin_dcal.privacy import set_privacy_defaults

from .backend import FeatureType, ModelSource, unit_rows
from .onnx_metadata import INPUT, Described, promised_size, read_metadata

# Images in one run, by kind of weights. More cost no less, since activations leave the cache, and the runtime keeps
# memory for the largest run it has seen. int8 scales the activations of a whole run alike: alone, an image's features
# do not depend on its batch mates.
IMAGES_AT_ONCE = {"none": 4, "int8": 1}

_opening = threading.Lock()
"""The arena of the process is the one that was registered last: one model is opened at a time."""

_SILENT = 4  # log severity "fatal": errors arrive as exceptions


class OnnxBackend:
    """A file of `dcal-export`. Safe to call from several threads.

    OMP_NUM_THREADS sets the number of threads; without it, one for each core.
    """

    def __init__(self, path: str | Path, device: str = "auto", content: bytes | None = None) -> None:
        """Open a model. Args: content: of the file, where it is at hand.

        ConfigError for a device other than the CPU, or where onnxruntime is not installed; ModelError, in one line, for
        a file that is none of ours, damaged, or contradicts itself.
        """
        if device not in ("auto", "cpu"):
            raise ConfigError(
                f"device {device!r}: exported models run on the CPU here; use best_model.pth, or auto"
            )
        content = Path(path).read_bytes() if content is None else content
        refuse_damaged(content, str(path))
        self._session = _open_session(content, str(path))
        # Read by us: the runtime's own reading of text that is not UTF-8 ends in an error of its binding.
        self._described = read_metadata(metadata(content), str(path), hashlib.sha256(content).hexdigest())
        _refuse_contradictions(self._session, self._described)

    @property
    def source(self) -> ModelSource:
        return self._described.source

    @property
    def device(self) -> str:
        return "cpu"

    @property
    def exported(self) -> Mapping[str, Any]:
        """How the file was made: checkpoint, quantization, and what the check against torch found."""
        return self._described.exported

    def embed(
        self, pixels_BSSC: NDArray[np.uint8], feature_type: FeatureType = "combined"
    ) -> NDArray[np.float32]:
        """(B, E) float32 with unit rows, from (B, H, W, 3) uint8 RGB. ModelError where the graph cannot be run."""
        length, at_once = self._described.features[feature_type], IMAGES_AT_ONCE[self._described.quantization]
        rows = [np.empty((0, length), np.float32)]
        for start in range(0, len(pixels_BSSC), at_once):
            part = np.ascontiguousarray(pixels_BSSC[start : start + at_once])
            rows.append(self._run(part, feature_type))
            if rows[-1].shape != (len(part), length):
                raise ModelError(
                    f"{self.source.path}: damaged: its graph gives {rows[-1].shape} for {plural(len(part), 'image')}"
                )
        return unit_rows(np.concatenate(rows), self.source.path)

    def _run(self, pixels_BSSC: NDArray[np.uint8], feature_type: FeatureType) -> NDArray[np.float32]:
        try:
            (features,) = self._session.run([feature_type], {INPUT: pixels_BSSC})
        except Exception as error:  # the runtime's own errors share no base of their own
            raise ModelError(f"{self.source.path}: its graph cannot be run ({_reason(error)})") from error
        return np.asarray(features, np.float32)


def _open_session(content: bytes, path: str) -> Any:
    """A session of the graph, and of nothing but these bytes: what refers to other files is refused."""
    set_privacy_defaults()
    try:
        import onnxruntime
    except ImportError as error:
        raise ConfigError(f"{path}: needs onnxruntime: pip install 'twin-dcal[onnx]'") from error
    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _SILENT
    options.intra_op_num_threads, options.inter_op_num_threads = num_threads(), 1
    # `refuse_damaged` lets no weights in other files through; if one did, it would be looked for here.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    options.add_session_config_entry("session.use_env_allocators", "1")
    rows, columns = promised_size(metadata(content))
    try:
        with _opening:
            _set_room(onnxruntime, room(len(content), rows, columns))
            # Without a second try on the same device, of which the runtime would print a report. Constants, which the
            # exporter has folded, are not worked out while the graph is opened: that takes memory beside `room`.
            return onnxruntime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"], enable_fallback=0,
                disabled_optimizers=["ConstantFolding"],
            )  # fmt: skip
    except Exception as error:
        raise ModelError(f"{path}: not an ONNX model, or damaged ({_reason(error)})") from error


def _set_room(onnxruntime: Any, num_bytes: int) -> None:
    """The next session gets memory of its own, no more than this."""
    place = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    as_requested = 1  # grown by what is asked for, rather than by powers of two
    arena = onnxruntime.OrtArenaCfg({"max_mem": num_bytes, "arena_extend_strategy": as_requested})
    onnxruntime.create_and_register_allocator(place, arena)


def _refuse_contradictions(session: Any, described: Described) -> None:
    """ModelError unless the graph takes the pixels and gives the features that its metadata names."""
    source = described.source
    found = {
        "inputs": {given.name: (given.type, *given.shape[1:]) for given in session.get_inputs()},
        "outputs": {given.name: (given.type, *given.shape[1:]) for given in session.get_outputs()},
    }
    expected = {
        "inputs": {INPUT: ("tensor(uint8)", *sides(source.image_size), 3)},
        "outputs": {name: ("tensor(float)", length) for name, length in described.features.items()},
    }
    for what, there in found.items():
        if there != expected[what]:
            raise ModelError(
                f"{source.path}: its metadata contradicts its graph: {what} {expected[what]} are promised, "
                f"{str(there)[:200]} are there; export it again"
            )


def _reason(error: Exception) -> str:
    """One line, without the runtime's error number and the file names of its own source."""
    line = " ".join(str(error).split())
    if "Available memory of" in line:  # of the arena, which is as large as `room` allows
        return "it asks for more memory than a model of its size may have"
    return line.rpartition(" : ")[2][:200] or type(error).__name__
