"""What does an embedding cost through ONNX Runtime, float32 and int8, against torch?

OMP_NUM_THREADS=1 python benchmarks/export.py [--backbone vit_small_patch16_224 --image-size 224 --batch-size 8]

Random weights: time does not depend on them. CPU time of one thread, alternating, in one process.
"""

import sys
import tempfile
from pathlib import Path

import measure
import numpy as np
import torch

from twin_dcal.checkpoint import save_model
from twin_dcal.config import TwinVerificationConfig
from twin_dcal.export import flow
from twin_dcal.export.graph import to_onnx
from twin_dcal.export.quantization import to_int8
from twin_dcal.inference.onnx_backend import OnnxBackend
from twin_dcal.inference.torch_backend import TorchBackend
from twin_dcal.models.dcal import DCALVerificationModel

TARGET = 0.65


def backends(options, folder):
    """torch, and both exports of the same model."""
    torch.manual_seed(0)
    config = TwinVerificationConfig.from_dict({
        "model": {"backbone": options.backbone, "pretrained": False, "glca_pool": options.glca_pool},
        "data": {"image_size": options.image_size},
    })  # fmt: skip
    path = Path(folder, "best_model.pth")
    save_model(path, DCALVerificationModel.from_config(config), config)
    exact = TorchBackend(path, "cpu")
    graph = to_onnx(exact.loaded)
    made = {"torch": exact}
    for name, model, quantization in (("float32", graph, "none"), ("int8", to_int8(graph), "int8")):
        content = flow.with_metadata(model, exact.loaded, {"quantization": quantization})
        made[name] = OnnxBackend(f"{name}.onnx", content=content)
        print(f"{name}: {len(content) / 1e6:.1f} MB", file=sys.stderr)
    return made


def main():
    parser = measure.parser(__doc__.splitlines()[0])
    parser.add_argument("--glca-pool", choices=["cls", "local"], default="cls")
    options = parser.parse_args()
    torch.set_num_threads(1)
    size = options.image_size
    pixels = np.random.default_rng(0).integers(0, 256, (options.batch_size, size, size, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        made = backends(options, folder)
    steps = {name: (lambda backend=backend: backend.embed(pixels)) for name, backend in made.items()}
    times = measure.alternate(steps, options.rounds, torch.device("cpu"))
    features = {name: step() for name, step in steps.items()}
    print(f"{options.backbone}, batch {options.batch_size}, {size} px, one thread, torch {torch.__version__}")
    for name in ("float32", "int8"):
        middle, low, high = measure.ratio(times, name, "torch")
        print(measure.verdict(f"{name}: time", middle, TARGET, f"[{low:.2f}, {high:.2f}]"))
        cosine = (features[name] * features["torch"]).sum(1).min()
        print(f"{name + ': smallest cosine to torch':<36} {cosine:.5f}")


if __name__ == "__main__":
    main()
