"""What does each compiled dependency do behind the command's back? One process each, watched and held open.

    python benchmarks/watch_dependencies.py [--seconds 60] [--without_switches] [--only onnxruntime,wandb]

Each library does a small piece of its work under `watch_network.py`, with a home and a temporary folder of its own, and
its process is then held open. Told are the threads that are none of Python's at the end (in the process and its
children), what was asked of the network, and what was written outside the working folder. `--without_switches` leaves
out `twin_dcal.privacy`: what the switches are for. Exit code 1 if anything was asked.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

WATCH = Path(__file__).with_name("watch_network.py")
KEPT = ("PATH", "PYTHONPATH", "LANG", "LD_LIBRARY_PATH")  # libraries are quieter under CI or pytest

ONNX = """
from onnx import TensorProto, helper
import onnxruntime
one = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
graph = helper.make_graph([helper.make_node("Abs", ["x"], ["y"])], "g", [one],
                          [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
kept = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
kept.run(None, {"x": np.ones(1, np.float32)})
"""

WORK = {
    "torch": "import torch; torch.nn.Conv2d(3, 8, 3)(torch.rand(2, 3, 64, 64)).sum().backward()",
    "timm": "import timm, torch; timm.create_model('test_vit', pretrained=False)(torch.rand(1, 3, 160, 160))",
    "torchvision": "import torch; from torchvision.transforms import v2; v2.Resize(8)(torch.rand(3, 64, 64))",
    "onnxruntime": ONNX,
    "opencv-python-headless": "import cv2; cv2.GaussianBlur(np.zeros((2000, 2000, 3), np.uint8), (9, 9), 2)",
    "pillow": "from PIL import Image; Image.new('RGB', (99, 99)).save('x.jpg'); Image.open('x.jpg').load()",
    "pillow-heif": "import pillow_heif; from PIL import Image; pillow_heif.register_heif_opener(); "
    "Image.new('RGB', (64, 64)).save('x.heic'); Image.open('x.heic').load()",
    "av": "import av; f = av.open('x.mkv', 'w'); s = f.add_stream('mpeg4', rate=5); s.width = s.height = 64; "
    "[f.mux(s.encode(av.VideoFrame(64, 64, 'yuv420p'))) for _ in range(5)]; f.mux(s.encode()); f.close(); "
    "kept = av.open(open('x.mkv', 'rb'), format='matroska'); list(kept.decode(video=0))",
    "mlflow": "import mlflow; mlflow.set_tracking_uri('sqlite:///m.db'); mlflow.set_experiment('x'); "
    "mlflow.start_run(); mlflow.log_metric('a', 1)",
    "wandb": "import wandb; kept = wandb.init(mode='offline', project='p'); kept.log({'a': 1})",
    "tensorboard": "from torch.utils.tensorboard import SummaryWriter; SummaryWriter('l').add_scalar('a', 1)",
    "scikit-learn": "from sklearn.manifold import TSNE; TSNE(perplexity=3).fit_transform(np.random.rand(20, 5))",
    "pyarrow": "import pyarrow as pa, pyarrow.parquet as pq; pq.write_table(pa.table({'a': [1]}), 'x.parquet'); "
    "pq.read_table('x.parquet')",
    "simplejpeg": "import simplejpeg as s; s.decode_jpeg(s.encode_jpeg(np.zeros((99, 99, 3), np.uint8)))",
    "rustworkx": "import rustworkx; rustworkx.max_weight_matching(rustworkx.PyGraph())",
    "matplotlib": "import matplotlib.pyplot as plt; plt.plot([1]); plt.savefig('x.png')",
    "ray": "from twin_dcal.extraction.ray_cluster import joined; cluster = joined('auto'); kept = cluster.__enter__(); "
    "kept.get(kept.remote(lambda: 1).remote())",
    "uvicorn": "import fastapi, threading, uvicorn; kept = uvicorn.Server(uvicorn.Config(fastapi.FastAPI(), port=0)); "
    "threading.Thread(target=kept.run, daemon=True).start()",
}
"""A small piece of what this package uses each for."""

HELD = """
import json, os, sys, threading, time
from pathlib import Path
import numpy as np
seconds, with_switches = float(sys.argv[1]), sys.argv[2] == "1"
if with_switches:
    from twin_dcal.privacy import set_privacy_defaults
    set_privacy_defaults()
{work}
time.sleep(seconds)
def threads(pid):
    found = [(task / "comm").read_text().strip() for task in Path(f"/proc/{{pid}}/task").iterdir()]
    for task in Path(f"/proc/{{pid}}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += threads(child)
    return found
Path("threads.json").write_text(json.dumps([threads(os.getpid()), threading.active_count()]))
if {name!r} in ("wandb",):
    kept.finish()
"""


def watch(name: str, seconds: float, with_switches: bool) -> dict[str, object]:
    with tempfile.TemporaryDirectory(prefix="watch-") as folder:
        home, temporary, work = (Path(folder, part) for part in ("home", "tmp", "work"))
        for part in (home, temporary, work):
            part.mkdir()
        environment = {key: os.environ[key] for key in KEPT if key in os.environ}
        environment |= {"HOME": str(home), "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}
        code = HELD.format(work=WORK[name], name=name)
        done = subprocess.run(
            [sys.executable, str(WATCH), "--log", str(work / "asked.json"), "--", sys.executable, "-c", code,
             str(seconds), str(int(with_switches))],
            cwd=work, env=environment, capture_output=True, text=True,
        )  # fmt: skip
        if not (work / "threads.json").exists():
            raise SystemExit(f"{name}: {done.stderr[-2000:]}")
        told = json.loads((work / "asked.json").read_text())
        native, python = json.loads((work / "threads.json").read_text())
        written = sorted(
            f"{place}/{path.relative_to(root)}"
            for place, root in (("HOME", home), ("TMPDIR", temporary))
            for path in root.rglob("*") if path.is_file()
        )  # fmt: skip
        return {"asked": told["asked"], "seconds": told["seconds"], "threads": Counter(native), "python": python,
                "written": written}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60, help="how long each is held open")
    parser.add_argument("--without_switches", action="store_true", help="leave out twin_dcal.privacy")
    parser.add_argument("--only", help="names, with commas between")
    options = parser.parse_args()
    names = options.only.split(",") if options.only else list(WORK)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda name: watch(name, options.seconds, not options.without_switches), names))
    print("| library | held, s | threads beside Python's | asked | written outside |\n|---|---|---|---|---|")
    for name, told in zip(names, found, strict=True):
        more = sum(told["threads"].values()) - told["python"]
        asked = ", ".join(f"{times} × {what}" for what, times in told["asked"].items()) or "nothing"
        written = (
            f"{len(told['written'])} files: {', '.join(told['written'][:4])}"
            if told["written"]
            else "nothing"
        )
        print(f"| {name} {version(name)} | {told['seconds']:.0f} | {more} | {asked} | {written} |")
    return int(any(told["asked"] for told in found))


if __name__ == "__main__":
    sys.exit(main())
