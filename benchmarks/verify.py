"""How much CPU time does `dcal-verify` take for two photographs, all in all?

Fresh processes, one after the other in turns, user and system seconds of each by the resource usage of children; the
best of --times counts, since other programs make the rest slower. One thread: two wait for each other busily on a busy
machine, which counts as CPU time. Limits: 1 s with an exported model, into which no
torch may be imported; with its checkpoint half of the 6.4 s that it took before. Without --model and --exported an
untrained network of --backbone is made and exported. Exit 0 for PASS, 1 for FAIL.
Run: python benchmarks/verify.py [--model best_model.pth --exported best_model.onnx] [--times 5]
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

LIMITS_S = {"exported": 1.0, "checkpoint": 3.2}
MODULES = "import sys; from twin_dcal.cli import verify; verify.body(sys.argv[1:]); assert 'torch' not in sys.modules"


def main() -> int:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--model", help="best_model.pth")
    parser.add_argument("--exported", help="the same as .onnx")
    parser.add_argument("--backbone", default="vit_tiny_patch16_224")
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args()
    if (options.model is None) != (options.exported is None):
        parser.error("--model and --exported go together")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models = options.model, options.exported
        checkpoint, exported = map(Path, models) if options.model else untrained(folder, options.backbone)
        photos = [photo(folder / f"{seed}.jpg", seed) for seed in (1, 2)]
        commands = {
            kind: [sys.executable, "-m", "twin_dcal.cli.verify", *arguments(model, photos, folder)]
            for kind, model in (("exported", exported), ("checkpoint", checkpoint))
        }
        without = [sys.executable, "-c", MODULES, *arguments(exported, photos, folder)]
        subprocess.run(without, check=True, stdout=subprocess.DEVNULL)
        spent: dict[str, list[float]] = {kind: [] for kind in commands}
        for _ in range(1 + options.times):  # the first one writes bytecode
            for kind, command in commands.items():
                spent[kind].append(cpu_seconds(command))
    passed = True
    for kind, seconds in spent.items():
        best = min(seconds[1:])
        passed &= best <= LIMITS_S[kind]
        told = ", ".join(f"{each:.2f}" for each in seconds[1:])
        print(f"{kind:<10} {best:.2f} s of CPU time at best ({told}); limit {LIMITS_S[kind]:g} s")
    print("PASS" if passed else "FAIL")
    return 0 if passed else 1


def arguments(model: Path, photos: list[Path], folder: Path) -> list[str]:
    one, two = map(str, photos)
    return [
        "--model",
        str(model),
        "--img1",
        one,
        "--img2",
        two,
        "--align",
        "never",
        "--output_dir",
        str(folder),
    ]


def cpu_seconds(command: list[str]) -> float:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["OMP_NUM_THREADS"] = "1"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, stdout=subprocess.DEVNULL, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in (0, 1):
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}")
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def photo(path: Path, seed: int) -> Path:
    small = np.random.default_rng(seed).integers(0, 256, (40, 40, 3), np.uint8)
    Image.fromarray(small).resize((600, 600)).save(path, "JPEG")
    return path


def untrained(folder: Path, backbone: str) -> tuple[Path, Path]:
    """A checkpoint with random weights and a threshold, and the same exported."""
    from twin_dcal.checkpoint import save_model
    from twin_dcal.config import TwinVerificationConfig
    from twin_dcal.metrics.error_curve import Threshold
    from twin_dcal.models.dcal import DCALVerificationModel

    config = TwinVerificationConfig.from_dict(
        {
            "model": {"backbone": backbone, "pretrained": False},
            "data": {"data_dir": str(folder), "image_size": 224},
        }
    )
    path = folder / "best_model.pth"
    save_model(
        path,
        DCALVerificationModel.from_config(config),
        config,
        threshold=Threshold(0.5, {"data": "none: untrained"}),
    )
    subprocess.run([sys.executable, "-m", "twin_dcal.cli.export", "--model", str(path)], check=True)
    return path, path.with_suffix(".onnx")


if __name__ == "__main__":
    sys.exit(main())
