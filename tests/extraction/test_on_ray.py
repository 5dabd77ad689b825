"""Parts on a Ray cluster: who computes what, and what happens when workers, nodes or the command die."""

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tiny import tiny_model

from twin_dcal.cli.extract import main
from twin_dcal.errors import ConfigError, ImageError
from twin_dcal.extraction import on_ray, ray_cluster
from twin_dcal.extraction.parts import Part
from twin_dcal.prepare.detector import is_available

HERE = (on_ray.__version__, is_available())
NAMES = {number: [f"{number}-{row}.png" for row in range(3)] for number in (0, 1, 2, 5)}


# The loop, on a cluster that is made up


class RayError(Exception):
    pass


class RayTaskError(RayError):
    def __init__(self, cause):
        super().__init__(f"a traceback\n{cause!r}")
        self.cause = cause


class MadeUp:
    """Stands in for the module `ray`. answer: worker's number, method and names to a value, or an error to raise."""

    class exceptions:
        RayError, RayTaskError = RayError, RayTaskError

    def __init__(self, answer, last_first=False):
        self.answer, self.last_first = answer, last_first
        self.num_workers, self.killed, self.given = 0, [], []

    def remote(self, **each):
        return lambda kind: SimpleNamespace(remote=self.start)

    def put(self, value):
        return value

    def wait(self, refs, timeout):
        assert refs
        at = -1 if self.last_first else 0
        return [refs[at]], refs

    def get(self, ref):
        value = self.answer(*ref)
        if isinstance(value, Exception):
            raise value
        return value

    def kill(self, worker):
        self.killed.append(worker.number)

    def start(self):
        self.num_workers += 1
        return Worker(self, self.num_workers)


class Worker:
    def __init__(self, ray, number):
        self.number = number
        for method in ("open", "part"):
            setattr(self, method, Method(ray, number, method))


class Method:
    def __init__(self, ray, number, method):
        self.call = ray, number, method

    def remote(self, given):
        ray, number, method = self.call
        ray.given.append((number, method, tuple(given) if method == "part" else None))
        return number, method, tuple(given) if method == "part" else None


class Bar:
    def __init__(self):
        self.done = 0

    def update(self, count):
        self.done += count


def computed(ray, number=2):
    bar = Bar()
    order = on_ray.Order(b"", ".", "combined", 2, 0, True)
    found = dict(on_ray._computed(ray, order, number, {"num_cpus": 1}, NAMES, bar))
    assert bar.done == sum(map(len, NAMES.values()))
    return found


def part_of(names):
    """A part that tells its pictures by its features."""
    value = float(names[0].partition("-")[0])
    return Part(np.full((3, 1), value, np.float32), np.arange(3), np.empty((0, 2), np.str_))


def answers(number, method, given):
    return HERE if method == "open" else on_ray.Result(part_of(given), [], "node")


@pytest.mark.parametrize("last_first", [False, True])
def test_every_part_is_computed_once_in_whatever_order(last_first):
    ray = MadeUp(answers, last_first)
    found = computed(ray)
    assert sorted(found) == [0, 1, 2, 5]
    assert all(found[number].features[0, 0] == number for number in found)
    assert sorted(given[0] for _, method, given in ray.given if method == "part") == [
        "0-0.png",
        "1-0.png",
        "2-0.png",
        "5-0.png",
    ]


def test_the_part_of_a_worker_that_died_is_given_to_another():
    died = []

    def answer(number, method, given):
        if number == 1 and given == tuple(NAMES[2]) and not died:
            died.append(number)
            return RayError("The actor died")
        return answers(number, method, given)

    ray = MadeUp(answer)
    found = computed(ray, number=1)
    assert (sorted(found), ray.killed, ray.num_workers) == ([0, 1, 2, 5], [1], 2)
    assert [given for _, method, given in ray.given].count(tuple(NAMES[2])) == 2
    assert [given for _, method, given in ray.given].count(tuple(NAMES[0])) == 1


def test_a_part_that_kills_its_workers_ends_the_command():
    def answer(number, method, given):
        return (
            RayError("first\nworker killed: out of memory\n")
            if given == tuple(NAMES[1])
            else answers(number, method, given)
        )

    with pytest.raises(
        ConfigError, match=r"died 3 times over the pictures from 1-0.png to 1-2.png \(worker killed"
    ):
        computed(MadeUp(answer))


def test_workers_that_die_at_the_model_end_the_command():
    with pytest.raises(ConfigError, match="died 3 times while they open the model"):
        computed(MadeUp(lambda number, method, given: RayError("killed")))


def test_workers_that_find_no_room_hold_up_nothing():
    """The second never opens the model: nothing is given to it."""
    ray = MadeUp(answers)
    ray.wait = lambda refs, timeout: ([next(ref for ref in refs if ref[0] == 1)], refs)
    assert sorted(computed(ray)) == [0, 1, 2, 5]
    assert {number for number, method, _ in ray.given if method == "part"} == {1}


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (lambda *given: RayTaskError(ConfigError("node: no such model")), "node: no such model"),
        (lambda *given: RayTaskError(RuntimeError("No module named 'twin_dcal'")), "not installed on every node"),
        (lambda *given: ("0.0.1", is_available()), "a node has twin_dcal 0.0.1"),
        (lambda *given: (HERE[0], not is_available()), "'prepare' is installed on some nodes only"),
    ],
)  # fmt: skip
def test_what_is_wrong_on_a_node_is_one_line(answer, told):
    with pytest.raises(ConfigError, match=told) as raised:
        computed(MadeUp(answer))
    assert "\n" not in str(raised.value)


def test_a_picture_that_is_here_must_be_seen_by_the_node(tmp_path):
    here, nowhere = tmp_path / "here.png", tmp_path / "nowhere.png"
    here.touch()
    on_ray._refuse_unseen(on_ray.Result(part_of(["0-"]), [str(nowhere)], "node7"))
    with pytest.raises(ConfigError, match=f"node7 does not see {here}"):
        on_ray._refuse_unseen(on_ray.Result(part_of(["0-"]), [str(nowhere), str(here)], "node7"))


def test_an_error_of_ours_keeps_its_kind():
    both = type("RayTaskError(ImageError)", (RayTaskError, ImageError), {})  # as Ray makes them
    assert type(on_ray._own(RayTaskError(ImageError("a.png: damaged")))) is ImageError
    assert isinstance(on_ray._own(both(ImageError("a.png: damaged"))), ImageError)
    full = OSError(28, "No space left on device")
    assert on_ray._own(RayTaskError(full)) is full
    fault = RayTaskError(IndexError("ours"))
    assert on_ray._own(fault) is fault, "with the worker's traceback"


# Room


def node(alive=True, **resources):
    return {"Alive": alive, "Resources": resources}


@pytest.mark.parametrize(
    ("nodes", "gpus", "readers", "number", "each"),
    [
        ([node(CPU=2.0), node(CPU=3.5), node(alive=False, CPU=9.0)], True, 2, 5, {"num_cpus": 1}),
        ([node(CPU=16.0, GPU=2.0), node(CPU=8.0)], True, 2, 2, {"num_gpus": 1, "num_cpus": 3}),
        ([node(CPU=5.0, GPU=4.0), node(CPU=6.0, GPU=1.0)], True, 2, 2, {"num_gpus": 1, "num_cpus": 3}),
        ([node(CPU=16.0, GPU=2.0), node(CPU=8.0)], False, 2, 24, {"num_cpus": 1}),
    ],
)
def test_workers_fill_the_cluster(nodes, gpus, readers, number, each):
    assert on_ray.workers_that_fit(nodes, gpus, readers) == (number, each)


def test_no_room_is_said():
    with pytest.raises(
        ConfigError, match="no node of the cluster has 9 CPUs beside a GPU; lower --num_workers"
    ):
        on_ray.workers_that_fit([node(CPU=8.0, GPU=1.0)], True, 8)
    with pytest.raises(ConfigError, match="no node of the cluster has 1 CPU"):
        on_ray.workers_that_fit([node()], True, 8)


# Addresses


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("ray"))


def mistake(capsys, model_path, photos, tmp_path, *more):
    given = [
        "--model",
        model_path,
        "--images_dir",
        photos,
        "--output",
        tmp_path / "features.npz",
        "--align",
        "never",
    ]
    assert main([*map(str, given), *more]) == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "error: " in line)
    assert not (tmp_path / "features.npz").exists()
    return line


def test_addresses_that_are_none_or_silent_are_one_line(model_path, tiny_faces, tmp_path, capsys):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        silent = f"127.0.0.1:{closed.getsockname()[1]}"
        told = mistake(capsys, model_path, tiny_faces, tmp_path, "--ray", silent)
    assert told.startswith(f"error: --ray {silent}: nothing answers there (")
    for wrong in ("ray://127.0.0.1:10001", "head", "head:http"):
        assert "give auto, or HOST:PORT" in mistake(capsys, model_path, tiny_faces, tmp_path, "--ray", wrong)
    assert "use auto, cpu or cuda" in mistake(
        capsys, model_path, tiny_faces, tmp_path, "--ray", "auto", "--device", "cuda:1"
    )


@contextmanager
def head_that_says(answer):
    """The address of a server that reads what it is sent and answers this."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    link = server.accept()[0]
                    link.recv(99)
                    link.sendall(answer)
                    link.close()

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


HTTP2 = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_what_is_not_ray_is_said(model_path, tiny_faces, tmp_path, capsys, answer):
    with head_that_says(answer) as address:
        told = mistake(capsys, model_path, tiny_faces, tmp_path, "--ray", address)
    assert (
        told == f"error: --ray {address}: what answers there is not Ray; give HOST:PORT of the cluster's head"
    )


def test_without_ray_its_extra_is_named(model_path, tiny_faces, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr(ray_cluster, "running", lambda: None)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = dict(os.environ)
    assert "pip install 'twin-dcal[ray]'" in mistake(
        capsys, model_path, tiny_faces, tmp_path, "--ray", "auto"
    )
    assert {name: value for name, value in os.environ.items() if name.startswith("RAY_A")} == {
        name: value for name, value in before.items() if name.startswith("RAY_A")
    }
    assert not list(tmp_path.glob("dcal-ray-*"))


def test_auto_joins_what_this_user_started_and_answers(tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    word = tmp_path / "ray_current_cluster"
    monkeypatch.setattr(ray_cluster, "_LEFT_WORD", word)
    assert ray_cluster.running() is None
    with socket.socket() as head:
        head.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{head.getsockname()[1]}"
        word.write_text(address)
        assert ray_cluster.running() is None, "nothing answers"
    with head_that_says(HTTP2) as address:
        word.write_text(address)
        assert ray_cluster.running() == address
        monkeypatch.setattr(os, "getuid", lambda: word.stat().st_uid + 1)
        assert (ray_cluster.running() is None) == (word.stat().st_uid != 0), "another user's"
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.5:6379")
    assert ray_cluster.running() == "10.0.0.5:6379"


# Real clusters


needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra 'ray'")
needs_two_cpus = pytest.mark.skipif(ray_cluster._num_cpus() < 2, reason="needs two CPUs for two workers")
COMMAND = """
import sys
from twin_dcal.extraction import extract
extract.PART = 48
from twin_dcal.cli.extract import main
sys.exit(main(sys.argv[1:]))
"""
NUM_COPIES = 60


@pytest.fixture(scope="module")
def many(tiny_faces, tmp_path_factory):
    """1,440 pictures in 30 parts, one of them damaged."""
    folder = tmp_path_factory.mktemp("many")
    for copy in range(NUM_COPIES):
        shutil.copytree(tiny_faces / "test", folder / f"{copy:02}")
    (folder / "07" / "6a" / "0.png").write_text("no picture")
    return folder


class Place:
    """A folder to run the command in, with a home and a short temporary folder of its own, and what it starts."""

    def __init__(self, folder, short, model_path, pictures):
        self.folder, self.short = folder, short
        self.output = folder / "features.npz"
        self.mark = uuid.uuid4().hex
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        self.environment |= {
            "HOME": str(folder),
            "TMPDIR": str(short),
            "MARK": self.mark,
            "OMP_NUM_THREADS": "1",
        }
        self.given = [
            "--model",
            model_path,
            "--images_dir",
            pictures,
            "--batch_size",
            "8",
            "--align",
            "never",
        ]

    def start(self, *more, code=COMMAND, **variables):
        command = [sys.executable, "-c", code, *map(str, (*self.given, "--output", self.output, *more))]
        return subprocess.Popen(
            command, env=self.environment | variables, cwd=self.folder, start_new_session=True,
            stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def run(self, *more, **variables):
        with self.start(*more, **variables) as process:
            told = process.communicate(timeout=170)[1]
        assert process.returncode == 0, told
        return told

    def parts(self):
        return list(self.folder.glob(".features.npz.parts/part-*.npz"))

    def wait_for_parts(self, number, process):
        deadline = time.monotonic() + 120
        while len(self.parts()) < number:
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def processes(self, title=""):
        """Ids of what was started here and lives."""
        found = (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())
        return [pid for pid in found if self._is_ours(pid, title)]

    def _is_ours(self, pid, title):
        try:
            of_here = f"MARK={self.mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes()
            return of_here and title.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False

    def assert_all_gone(self):
        deadline = time.monotonic() + 120  # Ray looks for its parent now and then
        while self.processes() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert self.processes() == []

    def features(self):
        with np.load(self.output) as stored:
            return stored["features"], stored["image_paths"].tolist()


@pytest.fixture
def place(tmp_path, model_path, many):
    short = Path(tempfile.mkdtemp(prefix="t", dir="/tmp"))
    yield Place(tmp_path, short, model_path, many)
    shutil.rmtree(short)


@pytest.fixture(scope="module")
def alone(tmp_path_factory, model_path, many):
    """What one machine without Ray gives: features, names, what was left out."""
    folder = tmp_path_factory.mktemp("alone")
    place = Place(folder, folder, model_path, many)
    place.run("--num_workers", "0")
    return *place.features(), (folder / "features.failed.txt").read_text()


def assert_same(place, alone):
    features, names = place.features()
    assert names == alone[1]
    assert features.shape == (24 * NUM_COPIES - 1, alone[0].shape[1])
    assert np.array_equal(features, alone[0]), "to the bit"
    assert (place.folder / "features.failed.txt").read_text() == alone[2]
    assert not place.parts()


@pytest.mark.slow
@needs_ray
@needs_two_cpus
def test_two_workers_give_the_bits_of_one_machine_and_leave_nothing(place, alone):
    told = place.run("--ray", "auto")
    assert f"Ray: {ray_cluster._num_cpus()} workers, each on one CPU" in told
    assert_same(place, alone)
    place.assert_all_gone()
    assert list(place.short.iterdir()) == []
    assert not (place.folder / ".ray").exists()
    assert place.output.stat().st_mode & 0o077 == 0
    assert [
        line for line in told.splitlines() if "ray" in line.lower() and not line.startswith("Ray: ")
    ] == []


@pytest.mark.slow
@needs_ray
def test_a_killed_command_loses_and_doubles_nothing(place, alone):
    with place.start("--ray", "auto") as process:
        place.wait_for_parts(4, process)
        process.kill()
    place.assert_all_gone()
    kept = {path: path.stat().st_mtime_ns for path in place.parts()}
    assert 4 <= len(kept) < 30
    with place.start("--ray", "auto") as process:
        place.wait_for_parts(len(kept) + 2, process)
        assert {path: path.stat().st_mtime_ns for path in kept} == kept, "none is computed again"
        told = process.communicate(timeout=170)[1]
    assert process.returncode == 0, told
    assert f"going on after {48 * len(kept):,} images of an interrupted run" in told
    assert_same(place, alone)


@pytest.mark.slow
@needs_ray
def test_a_killed_worker_loses_and_doubles_nothing(place, alone):
    with place.start("--ray", "auto") as process:
        place.wait_for_parts(3, process)
        os.kill(place.processes("ray::PartWorker")[0], signal.SIGKILL)
        told = process.communicate(timeout=170)[1]
    assert process.returncode == 0, told
    assert told.count("a Ray worker died; another takes its place") == 1
    assert_same(place, alone)


@pytest.mark.slow
@needs_ray
def test_ctrl_c_leaves_no_process(place):
    with place.start("--ray", "auto") as process:
        place.wait_for_parts(2, process)
        os.killpg(process.pid, signal.SIGINT)
        told = process.communicate(timeout=60)[1]
    assert (process.returncode, told.strip().splitlines()[-1]) == (130, "interrupted"), told
    place.assert_all_gone()
    assert list(place.short.iterdir()) == []
    assert len(place.parts()) >= 2


CLUSTER = """
import sys
import ray._private.utils
from ray.cluster_utils import Cluster
ray._private.utils.write_ray_address = lambda *told: None  # under /tmp/ray, where others' "auto" would find it
head = {"num_cpus": 1, "include_dashboard": False, "temp_dir": sys.argv[1]}
cluster = Cluster(initialize_head=True, head_node_args=head)
cluster.add_node(num_cpus=1)
cluster.wait_for_nodes()
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""
OF_TESTS = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
}


@contextmanager
def two_nodes(place):
    """The address of a cluster of two nodes with a CPU each, on this machine."""
    process = subprocess.Popen(
        [sys.executable, "-c", CLUSTER, str(place.short)], env=place.environment | OF_TESTS, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    with process:
        address = process.stdout.readline().strip()
        assert address
        yield address
        process.stdin.close()


@pytest.mark.slow
@needs_ray
def test_two_nodes_that_run_already_are_joined_and_left_running(place, alone):
    with two_nodes(place) as address:
        told = place.run("--ray", address, **OF_TESTS)
        assert "Ray: 2 workers, each on one CPU" in told
        assert_same(place, alone)
        assert len(place.processes("raylet_socket_name")) == 2
        told = place.run("--ray", "auto", RAY_ADDRESS=address, **OF_TESTS)
        assert "Ray: 2 workers, each on one CPU" in told
    place.assert_all_gone()
