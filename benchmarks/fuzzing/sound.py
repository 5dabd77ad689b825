"""Sound model files, small ones of every kind, that mutations start from."""

import json
from pathlib import Path

import numpy as np
import onnx
import timm
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file

from twin_dcal.checkpoint import save_model
from twin_dcal.config import TwinVerificationConfig
from twin_dcal.inference.onnx_metadata import FORMAT, FORMAT_VERSION, INPUT, to_strings
from twin_dcal.metrics.calibration import Isotonic, Platt
from twin_dcal.metrics.error_curve import ErrorCurve, Threshold
from twin_dcal.metrics.fusion import Fusion
from twin_dcal.model_file.onnx_bytes import sealed
from twin_dcal.models.dcal import DCALVerificationModel

SIZE = 32
PLATT = Platt(7.0, -2.0, 0.5, 10, 10, "drawn")
CURVE = ErrorCurve.from_dict({
    "thresholds": [0.1, 0.5, 0.9], "fnmr": [0.0, 0.5, 1.0], "fmr": {"all": [1.0, 0.5, 0.0], "twin": [1.0, 0.7, 0.0]},
    "num_genuine": 10, "num_impostors": {"all": 10, "twin": 4}, "data": "drawn",
})  # fmt: skip
ISOTONIC = Isotonic((0.1, 0.5, 0.9), (0.2, 0.6, 0.9), 0.5, 3, 4, "drawn")
TRAINING = {
    "epoch": 3,
    "step": 12,
    "figures": {"twin_eer": 0.25},
    "split": {"train": ["a", "b"], "val": ["c"], "test": []},
}
THRESHOLD = Threshold(
    0.5, {"data": "drawn", "criterion": "eer", "fmr": 0.25, "fnmr": 0.25, "impostors": "twin"}
)


def pixels() -> np.ndarray:
    """Two pairs of pictures, (4, S, S, 3) uint8: much alike, and not."""
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 256, (2, SIZE, SIZE, 3), dtype=np.uint8)
    near = np.clip(one.astype(int) + rng.integers(-9, 10, one.shape), 0, 255).astype(np.uint8)
    return np.stack([one, near, np.full_like(one, 40), other])


def configured(folder: Path, **model) -> TwinVerificationConfig:
    return TwinVerificationConfig.from_dict({
        "model": {"backbone": "test_vit", "pretrained": False, "glca_pool": "local", **model},
        "data": {"image_size": SIZE, "crop_template": "none", "data_dir": str(folder)},
        "training": {"batch_size": 8, "images_per_person": 2, "num_epochs": 1},
        "runtime": {"output_dir": str(folder), "num_workers": 0, "device": "cpu", "num_threads": 1},
    })  # fmt: skip


def face_onnx() -> onnx.ModelProto:
    """A face network of two stages on 32 x 32 pixels, an embedding of 8 numbers."""
    rng = np.random.default_rng(1)
    shapes = {
        "w0": (4, 3, 3, 3),
        "s0": (4, 1, 1),
        "w1": (4, 4, 3, 3),
        "s1": (4, 1, 1),
        "fc": (256, 8),
        "b": (8,),
    }
    weights = [
        numpy_helper.from_array(rng.normal(0, 0.3, shape).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    nodes, x = [], "input"
    for stage in range(2):
        nodes.append(helper.make_node(
            "Conv", [x, f"w{stage}"], [f"c{stage}"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]
        ))  # fmt: skip
        nodes.append(helper.make_node("PRelu", [f"c{stage}", f"s{stage}"], [x := f"x{stage}"]))
    nodes += [
        helper.make_node("Flatten", [x], ["flat"]),
        helper.make_node("Gemm", ["flat", "fc", "b"], ["embedding"]),
    ]
    ends = {"input": ["batch", 3, SIZE, SIZE], "embedding": ["batch", 8]}
    given, out = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in ends.items()
    )
    graph = helper.make_graph(nodes, "face", [given], [out], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def timm_folder(folder: Path) -> Path:
    """A face network in timm's format."""
    folder.mkdir()
    arguments = {"depths": [1, 1, 1, 1], "dims": [4, 6, 8, 10]}
    torch.manual_seed(2)
    network = timm.create_model("convnext_atto", num_classes=8, **arguments)
    save_file(network.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({
        "architecture": "convnext_atto", "num_classes": 8, "model_args": arguments,
        "pretrained_cfg": {"input_size": [3, SIZE, SIZE], "mean": [0.5] * 3, "std": [0.5] * 3},
    }))  # fmt: skip
    return folder


def checkpoints(folder: Path) -> dict[str, Path]:
    """By kind of backbone: a plain ViT, a convolutional network, face networks from ONNX and in timm's format."""
    onnx.save(face_onnx(), folder / "face.onnx")
    face = {"num_heads": 2, "num_blocks": 1, "attention_dim": None}
    configs = {
        "vit": configured(folder),
        "cnn": configured(folder, backbone="test_resnet", attention_dim=32, num_heads=2, num_blocks=1),
        "onnx": configured(
            folder, backbone="onnx", pretrained=str(folder / "face.onnx"), feature_strides=[4], **face
        ),
        "timm": configured(
            folder, backbone="timm", pretrained=str(timm_folder(folder / "timm")), feature_strides=[4], **face
        ),
    }  # fmt: skip
    found = {}
    for kind, config in configs.items():
        torch.manual_seed(3)
        model = DCALVerificationModel.from_config(config)
        split = model.backbone.untouched_dim
        found[kind] = folder / f"{kind}.pth"
        save_model(
            found[kind], model, config, threshold=THRESHOLD, calibration=ISOTONIC if kind == "cnn" else PLATT,
            error_curve=CURVE, training=TRAINING,
            fusion=Fusion(split, 0.5, (3.0, 2.0, -1.0), (2.0, 1.0, 0.5), "drawn") if split else None,
        )  # fmt: skip
    return found


def exported_by_hand() -> onnx.ModelProto:
    """What `dcal-export` writes, of a graph that is made at once: mean colours of patches, a matrix, unit rows."""
    rng = np.random.default_rng(4)
    nodes, weights = [], []

    def constant(name, array):
        weights.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def add(kind, inputs, output, **attributes):
        nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    x = add("Cast", [INPUT], "float", to=TensorProto.FLOAT)
    x = add("Div", [x, constant("scale", np.float32(255))], "scaled")
    x = add("Transpose", [x], "channels", perm=[0, 3, 1, 2])
    x = add("AveragePool", [x], "pooled", kernel_shape=[8, 8], strides=[8, 8])
    x = add("Flatten", [x], "rows")
    lengths = {"combined": 16, "sa": 8, "glca": 8}
    for name, length in lengths.items():
        matrix = constant(f"{name}.weight", rng.normal(size=(48, length)).astype(np.float32))
        y = add("MatMul", [x, matrix], f"{name}.raw")
        norm = add("ReduceL2", [y, constant(f"{name}.axes", np.array([1]))], f"{name}.norm", keepdims=1)
        add("Div", [y, norm], name)
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", length])
        for name, length in lengths.items()
    ]
    given = helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["batch", SIZE, SIZE, 3])
    graph = helper.make_graph(nodes, "by hand", [given], outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    described = {
        "format": FORMAT, "format_version": FORMAT_VERSION, "version": "0", "backbone": "test_vit",
        "branches": ["sa", "glca", "pwca"], "features": lengths, "fusion": None, "calibration": PLATT.to_dict(),
        "preprocessing": {"image_size": SIZE, "mean": [0.5] * 3, "std": [0.5] * 3, "landmarks": None},
        "threshold": {"value": THRESHOLD.value, "origin": dict(THRESHOLD.origin)}, "error_curve": CURVE.to_dict(),
        "training": {"epoch": 3}, "exported": {"quantization": "none"},
    }  # fmt: skip
    for key, value in to_strings(described).items():
        model.metadata_props.add(key=key, value=value)
    return model


def exported(folder: Path, checkpoint: Path) -> bytes:
    """What `dcal-export` writes of a checkpoint."""
    from twin_dcal.export.flow import export_model

    export_model(checkpoint, folder / "exported.onnx")
    return (folder / "exported.onnx").read_bytes()


def by_hand() -> bytes:
    return sealed(exported_by_hand().SerializeToString())
