"""Started by torchrun and its kin: killed, restarted, resumed, on one machine and on two nodes; what is mistyped."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import tiny_values

from twin_dcal import distributed
from twin_dcal.cli import evaluate, extract, train
from twin_dcal.errors import ConfigError

TRAIN = ["-m", "twin_dcal.cli.train"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
DEADLINE = 300


def environment(**more):
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("RANK", "WORLD", "MASTER"))
    }
    return {**kept, "OMP_NUM_THREADS": "1", **more}


def write_config(faces, folder, **runtime):
    """A run of a few seconds with a checkpoint at every step; the path of its file."""
    values = tiny_values(faces, folder / "run")
    values["training"] |= {"batch_size": 8, "num_epochs": 2}
    values["runtime"] |= {"save_every_steps": 1, **runtime}
    path = folder / "config.json"
    path.write_text(json.dumps(values))
    return str(path)


def finished(*command, **options):
    """Run to the end; the completed process, with its whole story if it failed."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=DEADLINE, env=environment(), **options
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    return done


def weights(folder):
    return torch.load(folder / "run" / "last.pth", weights_only=True)["model"]


def assert_same(one, other):
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert torch.equal(value, other[key]), key


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(condition, what):
    until = time.monotonic() + DEADLINE
    while not (value := condition()):
        assert time.monotonic() < until, f"waited in vain for {what}"
        time.sleep(0.02)
    return value


def rank_process(config, rank):
    """Id of the training process of a rank, found by its command line and environment."""
    for folder in Path("/proc").iterdir():
        try:
            command = (folder / "cmdline").read_bytes().split(b"\0")
            variables = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        # Not the launcher, which has the same words, nor a worker, which has the launcher's child as parent.
        if config.encode() in command and f"RANK={rank}".encode() in variables:
            return int(folder.name)
    return None


@pytest.fixture(scope="module")
def uninterrupted(tiny_faces, tmp_path_factory):
    """Weights of the run of `write_config` with two processes, started by torchrun."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    config = write_config(tiny_faces, folder)
    done = finished(
        *TORCHRUN, "--standalone", "--nproc_per_node=2", *TRAIN, "--config", config, "--distributed"
    )
    assert done.stdout.count("best model:") == 1, "only rank 0 speaks"
    lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2]
    return weights(folder)


@pytest.mark.slow
def test_a_killed_rank_is_restarted_and_the_run_ends_in_the_same_bits(uninterrupted, tiny_faces, tmp_path):
    config = write_config(tiny_faces, tmp_path)
    command = [
        *TORCHRUN, "--standalone", "--nproc_per_node=2", "--max_restarts=1", *TRAIN, "--config", config,
        "--distributed",
    ]  # fmt: skip
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    ) as run:
        wait_for(lambda: (tmp_path / "run" / "checkpoint_step_00000003.pth").exists(), "three steps")
        os.kill(wait_for(lambda: rank_process(config, 1), "rank 1"), signal.SIGKILL)
        out, err = run.communicate(timeout=DEADLINE)
    assert run.returncode == 0, err[-6000:]
    assert "resuming at epoch" in err
    assert "best model:" in out
    assert_same(uninterrupted, weights(tmp_path))


@pytest.mark.slow
def test_sigterm_to_one_rank_stops_all_and_resume_ends_in_the_same_bits(uninterrupted, tiny_faces, tmp_path):
    config = write_config(tiny_faces, tmp_path)
    launch = [sys.executable, "-W", "ignore", "-m", "torch.distributed.launch", "--nproc_per_node=2",
              f"--master_port={free_port()}", "--max_restarts=3"]  # fmt: skip
    script = str(Path(__file__).parents[2] / "scripts" / "train_twin_verification.py")
    command = [*launch, script, "--config", config, "--distributed"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    ) as run:
        wait_for(lambda: (tmp_path / "run" / "last.pth").exists(), "a step")
        os.kill(wait_for(lambda: rank_process(config, 1), "rank 1"), signal.SIGTERM)
        out, err = run.communicate(timeout=DEADLINE)
    assert run.returncode == 0, "a stop that was asked for is no failure to be restarted: " + err[-6000:]
    assert "stopped early (signal); continue with --resume auto" in out
    finished(
        *TORCHRUN,
        "--standalone",
        "--nproc_per_node=2",
        *TRAIN,
        "--config",
        config,
        "--distributed",
        "--resume",
        "auto",
    )
    assert_same(uninterrupted, weights(tmp_path))


def _namespaces():
    """Why two network namespaces cannot be made here, or None."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "making network namespaces needs root on Linux"
    if shutil.which("ip") is None:
        return "needs the ip command (iproute2)"
    probe = f"dcal{os.getpid()}p"
    if subprocess.run(["ip", "netns", "add", probe], capture_output=True).returncode:
        return "network namespaces cannot be made in this container"
    subprocess.run(["ip", "netns", "del", probe], check=True)
    return None


@pytest.fixture
def nodes():
    """Two network namespaces joined by a cable: (name, address, interface) of each."""
    reason = _namespaces()
    if reason:
        pytest.skip(reason)
    tag = f"dcal{os.getpid() % 100000}"
    names = [f"{tag}a", f"{tag}b"]

    def ip(*words):
        subprocess.run(["ip", *words], check=True, capture_output=True)

    try:
        for name in names:
            ip("netns", "add", name)
        ip(
            "link",
            "add",
            names[0],
            "netns",
            names[0],
            "type",
            "veth",
            "peer",
            "name",
            names[1],
            "netns",
            names[1],
        )
        for number, name in enumerate(names, 1):
            ip("-n", name, "addr", "add", f"10.213.7.{number}/24", "dev", name)
            for device in ("lo", name):
                ip("-n", name, "link", "set", device, "up")
        yield [(name, f"10.213.7.{number}", name) for number, name in enumerate(names, 1)]
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


def start_nodes(nodes, configs, *options):
    """One torchrun on each node, with a folder each: nothing but the cable joins them."""
    return [
        subprocess.Popen(
            ["ip", "netns", "exec", name, *TORCHRUN, "--nnodes=2", "--nproc_per_node=1", f"--node_rank={number}",
             f"--master_addr={nodes[0][1]}", "--master_port=29733", *TRAIN, "--config", configs[number],
             "--distributed", *options],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(GLOO_SOCKET_IFNAME=device),
        )
        for number, (name, _, device) in enumerate(nodes)
    ]  # fmt: skip


def ends(processes):
    return [(*process.communicate(timeout=DEADLINE), process.returncode) for process in processes]


@pytest.mark.slow
def test_two_nodes_start_are_killed_resume_and_finish(nodes, uninterrupted, tiny_faces, tmp_path):
    homes = [tmp_path / "one", tmp_path / "two"]
    for home in homes:
        home.mkdir()
    configs = [write_config(tiny_faces, home) for home in homes]
    first = start_nodes(nodes, configs)
    try:
        wait_for(lambda: (homes[0] / "run" / "checkpoint_step_00000002.pth").exists(), "two steps")
        os.kill(wait_for(lambda: rank_process(configs[1], 1), "the other node's process"), signal.SIGKILL)
        assert all(code != 0 for *_, code in ends(first))
    finally:
        for process in first:
            process.kill()
    assert not (homes[1] / "run").exists(), "only rank 0 writes"
    for _, err, code in ends(start_nodes(nodes, configs, "--resume", "auto")):
        assert code == 0, err[-6000:]
    assert_same(uninterrupted, weights(homes[0]))


@pytest.mark.slow
def test_evaluation_and_extraction_by_two_processes_are_those_of_one(tiny_faces, tmp_path):
    config = write_config(tiny_faces, tmp_path)
    assert train.main(["--config", config, "--training.num_epochs", "1"]) == 0
    model = str(tmp_path / "run" / "best_model.pth")
    launchers = {"one": None, "two": [sys.executable, str(Path(__file__).parent / "forked_ranks.py"), "2"]}
    for name, launcher in launchers.items():
        evaluation = [
            "--model", model, "--data_dir", str(tiny_faces),
            "--device", "cpu", "--output_dir", str(tmp_path / name), "--num_replicates", "100", "--compare_features",
            "--batch_size", "4", "--optimize_threshold", "--num_workers", "0",
        ]  # fmt: skip
        extraction = [
            "--model", model, "--images_dir", str(tiny_faces / "train"),
            "--output", str(tmp_path / f"{name}.npz"), "--num_workers", "0", "--device", "cpu", "--align", "never",
        ]  # fmt: skip
        for command, arguments in ((evaluate, evaluation), (extract, extraction)):
            if launcher is None:
                assert command.main(arguments) == 0
            else:
                finished(*launcher, command.__name__, *arguments, "--distributed")
    for one, two in ((tmp_path / f"one{end}", tmp_path / f"two{end}") for end in ("/embeddings.npz", ".npz")):
        with np.load(one) as alone, np.load(two) as together:
            for key in (
                "features" if "features" in alone else "embeddings",
                "ids" if "ids" in alone else "paths",
            ):
                assert np.array_equal(alone[key], together[key]), key
    reports = [json.loads((tmp_path / name / "evaluation_report.json").read_text()) for name in launchers]
    for report in reports:
        for key in ("created", "date", "timestamp"):
            report.pop(key, None)
    assert reports[0] == reports[1]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"RANK": "0"}, "WORLD_SIZE, MASTER_ADDR, MASTER_PORT not set"),
        (
            {"RANK": "x", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"},
            "RANK is 'x', not a number",
        ),
        (
            {"RANK": "2", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"},
            "RANK 2 is not below WORLD_SIZE 2",
        ),
    ],
)
def test_an_environment_that_no_launcher_made(given, message):
    with pytest.raises(ConfigError, match=message):
        distributed.launch(given)


def test_processes_agree_on_a_start_whatever_an_earlier_one_left():
    store = torch.distributed.HashStore()
    for attempt in range(3):  # the second and third find what the dead have left
        found = {}

        def join(rank, found=found):
            found[rank] = distributed._agreed_token(store, rank, 3)

        threads = [threading.Thread(target=join, args=(rank,)) for rank in (1, 2, 0)]
        for thread in threads:
            thread.start()
            time.sleep(0.12)  # time enough to be misled by an old offer
        for thread in threads:
            thread.join(20)
        assert len(found) == 3, attempt
        assert len(set(found.values())) == 1


def test_who_does_not_come_is_not_waited_for_forever(monkeypatch):
    monkeypatch.setattr(distributed, "MEETING", timedelta(seconds=0.2))
    for rank in (0, 1):
        with pytest.raises(TimeoutError, match="not all processes came"):
            distributed._agreed_token(torch.distributed.HashStore(), rank, 2)


def test_an_error_of_rank_0_is_raised_in_all(monkeypatch):
    told = []
    monkeypatch.setattr(distributed, "broadcast_object", lambda value: told.append(value) or told[0])

    def fail():
        raise ConfigError("no")

    for rank in (0, 1):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        with pytest.raises(ConfigError, match="^no$"):
            distributed.on_rank_zero(fail if rank == 0 else None)


def test_one_process_needs_no_launcher():
    assert distributed.launch({"WORLD_SIZE": "8"}) == distributed.Launch()
    assert distributed.shard_range(10, 4) == range(10)
    assert distributed.broadcast_object("x") == "x"
    assert distributed.any_of([True, False]) == [True, False]


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_parts_are_whole_batches_and_together_everything(size, monkeypatch):
    monkeypatch.setattr(distributed, "world_size", lambda: size)
    for num_items in (0, 1, 7, 8, 9, 40):
        seen = []
        for rank in range(size):
            monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
            part = distributed.shard_range(num_items, 4)
            assert part.start % 4 == 0 or not part
            seen += part
        assert seen == list(range(num_items))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--distributed"],
            "error: --distributed: a launcher starts the processes: torchrun --nproc_per_node",
        ),
        (["--local_rank", "0"], "error: WORLD_SIZE, MASTER_ADDR, MASTER_PORT not set"),
        (["--max_hours", "0"], "error: command line: runtime.max_hours: Input should be greater than 0"),
    ],
)
def test_a_mistyped_start_is_one_line(options, message, tiny_faces, tmp_path, capsys, monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "left")  # so that what the command sets is forgotten
        monkeypatch.delenv(name)
    assert train.main(["--config", write_config(tiny_faces, tmp_path), *options]) == 2
    said = capsys.readouterr().err
    assert said.startswith(message), said
    assert len(said.splitlines()) == 1


def test_a_batch_too_small_for_the_processes_is_one_line(tiny_faces, tmp_path, monkeypatch):
    from twin_dcal.config import TwinVerificationConfig
    from twin_dcal.training.checks import check_processes

    config = TwinVerificationConfig.from_dict(tiny_values(tiny_faces, tmp_path))
    monkeypatch.setattr(distributed, "world_size", lambda: 3)
    with pytest.raises(
        ConfigError, match=r"batch_size 8 holds 4 people; 3 processes need 2 each: use at least 12"
    ):
        check_processes(config, torch.device("cpu"))
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    check_processes(config, torch.device("cpu"))
    monkeypatch.setattr("twin_dcal.training.checks.amp_dtype", lambda runtime, device: torch.float16)
    with pytest.raises(ConfigError, match="'fsdp' does not work with fp16"):
        check_processes(config.override({"runtime.strategy": "fsdp"}), torch.device("cpu"))
