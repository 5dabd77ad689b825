"""How long does the page take for a pair, and do many clients for a minute leave its memory flat?

The page runs in a process of its own on one thread; ViT-S/16 at 224 px with untrained weights unless --model is given,
photos of 600 px. First one client: the median wall time of a pair with decision, squares and attention overlays must be
below 1 s; the server's CPU seconds are printed beside it and tell how much of that was waiting for a busy machine.
Then --clients at once for --seconds: every answer must be 200, and the resident memory at the end at most 5 % above
that after the first quarter. Exit 0 for PASS, 1 for FAIL.
Run: python benchmarks/web.py [--clients 50] [--seconds 60] [--model best_model.pth]
"""

import argparse
import http.client
import io
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image

MAX_PAIR_SECONDS = 1.0
MAX_GROWTH = 1.05
PHOTO_PIXELS = 600
SERVE = """
import logging, sys, torch
torch.set_num_threads(1)
logging.basicConfig(format="%(message)s")
logging.getLogger("twin_dcal.web.server").setLevel(logging.INFO)
from twin_dcal.inference.engine import TwinInferenceEngine
from twin_dcal.web.server import serve
engine = TwinInferenceEngine(sys.argv[1], device="cpu", align="never")  # the photos are noise
try:
    from twin_dcal.web.explaining import explanations
    explains = explanations(engine)
except ImportError:
    explains = {}
serve(engine, port=0, explains=explains)
"""


def main() -> int:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--pairs", type=int, default=15, help="of the single client")
    parser.add_argument("--model", help="best_model.pth; without it an untrained --backbone")
    parser.add_argument("--backbone", default="vit_small_patch16_224")
    parser.add_argument("--image-size", type=int, default=224)
    options = parser.parse_args()
    if min(options.clients, options.pairs) < 1 or options.seconds <= 0:
        parser.error("--clients and --pairs are 1 or more, --seconds more than 0")
    with tempfile.TemporaryDirectory() as folder:
        model = options.model or untrained(Path(folder), options.backbone, options.image_size)
        command = [sys.executable, "-c", SERVE, str(model)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
            try:
                return measure(server, options)
            finally:
                server.terminate()


def untrained(folder: Path, backbone: str, image_size: int) -> Path:
    """A model file with random weights, a threshold and no error curve."""
    from twin_dcal.checkpoint import save_model
    from twin_dcal.config import TwinVerificationConfig
    from twin_dcal.metrics.error_curve import Threshold
    from twin_dcal.models.dcal import DCALVerificationModel

    config = TwinVerificationConfig.from_dict(
        {"model": {"backbone": backbone, "pretrained": False, "glca_pool": "local"},
         "data": {"data_dir": str(folder), "image_size": image_size}}
    )  # fmt: skip
    path = folder / "best_model.pth"
    model = DCALVerificationModel.from_config(config)
    save_model(path, model, config, threshold=Threshold(0.5, {"data": "none: untrained"}))
    return path


def measure(server: "subprocess.Popen[str]", options: argparse.Namespace) -> int:
    assert server.stderr is not None
    port = int(re.search(r":(\d+)/", server.stderr.readline())[1])  # type: ignore[index]
    offered = b'"attention"' in ask(port, "GET", "/api/model")[1]
    forms = [form(seed, attention=offered) for seed in range(8)]
    ask(port, "POST", "/api/verify", *forms[0])
    walls, began = [], cpu_seconds(server.pid)
    for turn in range(options.pairs):
        started = time.perf_counter()
        status, _ = ask(port, "POST", "/api/verify", *forms[turn % len(forms)])
        assert status == 200
        walls.append(time.perf_counter() - started)
    cpu = (cpu_seconds(server.pid) - began) / options.pairs
    what = "attention overlays" if offered else "no overlays (this installation has no explanations)"
    print(f"one pair with {what}, {options.pairs} times: median {statistics.median(walls):.2f} s, slowest "
          f"{max(walls):.2f} s, CPU {cpu:.2f} s; limit {MAX_PAIR_SECONDS:g} s wall")  # fmt: skip
    failures, waits, memory = crowd(server.pid, port, forms, options)
    ordered = sorted(waits)
    print(f"{options.clients} clients for {options.seconds:g} s: {len(waits)} pairs, {len(failures)} errors "
          f"{sorted(set(failures))}, median wait {statistics.median(waits):.1f} s, "
          f"95 % {ordered[int(0.95 * len(ordered))]:.1f} s")  # fmt: skip
    early = memory[len(memory) // 4]
    growth = memory[-1] / early
    print(f"resident memory {memory[0]:.0f} MB at the start, {early:.0f} MB after a quarter, {memory[-1]:.0f} MB at "
          f"the end, {max(memory):.0f} MB at most: {growth:.3f} times; limit {MAX_GROWTH:g}")  # fmt: skip
    passed = statistics.median(walls) < MAX_PAIR_SECONDS and not failures and growth <= MAX_GROWTH
    print("PASS" if passed else "FAIL")
    return 0 if passed else 1


def crowd(pid, port, forms, options):
    """What went wrong, how long each answer took in seconds, and resident megabytes every half second."""
    end = time.monotonic() + options.seconds
    failures, waits, memory = [], [], [resident_megabytes(pid)]

    def client(seed):
        rng = np.random.default_rng(seed)
        while time.monotonic() < end:
            started = time.perf_counter()
            try:
                status, body = ask(port, "POST", "/api/verify", *forms[rng.integers(len(forms))])
            except OSError as error:
                status, body = type(error).__name__, b""
            waits.append(time.perf_counter() - started)
            if status != 200 or b'"similarity"' not in body:
                failures.append(str(status))

    threads = [threading.Thread(target=client, args=(seed,)) for seed in range(options.clients)]
    for thread in threads:
        thread.start()
    while time.monotonic() < end:
        time.sleep(0.5)
        memory.append(resident_megabytes(pid))
    for thread in threads:
        thread.join()
    return failures, waits, [*memory, resident_megabytes(pid)]


def form(seed, *, attention):
    """A multipart body with two photos, and its headers."""
    rng = np.random.default_rng(seed)
    body = b""
    texts = {"crops": "true", **({"explain": "attention"} if attention else {})}
    for name, text in texts.items():
        body += f'--x-x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n'.encode()
    for name in ("img1", "img2"):
        small = Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8))
        file = io.BytesIO()
        small.resize((PHOTO_PIXELS, PHOTO_PIXELS)).save(file, "JPEG")
        head = f'--x-x\r\nContent-Disposition: form-data; name="{name}"; filename="photo"\r\n\r\n'
        body += head.encode() + file.getvalue() + b"\r\n"
    return body + b"--x-x--\r\n", {"Content-Type": "multipart/form-data; boundary=x-x"}


def ask(port, method, path, body=b"", headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    try:
        connection.request(method, path, body, headers or {})
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_megabytes(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) / 1024  # type: ignore[index]


if __name__ == "__main__":
    sys.exit(main())
