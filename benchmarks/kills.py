"""Does a run survive kill -9 at any moment, and does it end in the same weights?

    OMP_NUM_THREADS=1 python benchmarks/kills.py [--kills 50] [--seed 0]

A tiny model trains on SynTwins with a checkpoint after every optimizer step. One of its processes is killed at a random
moment, or, every other time, while a checkpoint is being written (its temporary file is there). Then the rest of the
run is killed as torchrun would, every checkpoint file is read, and the run is started again with `resume="auto"`,
until it finishes; then the next run begins, until there were enough kills. Processes are forked from one that has
imported everything, so that a kill costs a second. Exits 1 if anything was lost.
"""

import argparse
import contextlib
import logging
import os
import random
import signal
import socket
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from twin_dcal.checkpoint import load_model, read_tensors
from twin_dcal.cli import synth
from twin_dcal.config import TwinVerificationConfig
from twin_dcal.errors import TwinDcalError
from twin_dcal.training.run import train
from twin_dcal.training.state import FORMAT, FORMAT_VERSION, find_state


@dataclass
class ScoreCounts:
    """Counts over the runs of one kind. halves: kills that left a half-written file behind."""

    processes: int
    runs: int = 0
    kills: int = 0
    halves: int = 0
    early: int = 0
    lost: int = 0
    unreadable: int = 0
    different: int = 0


def config_for(data, folder):
    return TwinVerificationConfig.from_dict({
        "model": {"backbone": "test_vit", "pretrained": False, "dropout": 0.1, "glca_pool": "local"},
        "training": {"batch_size": 8, "images_per_person": 2, "num_epochs": 3, "warmup_epochs": 1},
        "data": {"data_dir": str(data), "image_size": 32},
        "runtime": {"output_dir": str(folder), "device": "cpu", "num_threads": 1, "num_workers": 1,
                    "save_every_steps": 1, "keep_checkpoints": 3},
    })  # fmt: skip


def start(config, processes):
    """Forked processes that train together; their ids."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for rank in range(processes):
        child = os.fork()
        if child:
            started.append(child)
            continue
        os.setpgid(0, 0)
        if processes > 1:
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes),
                           "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}  # fmt: skip
        code = 1
        try:
            code = 0 if train(config, resume="auto").finished else 3
        finally:
            os._exit(code)
    return started


def end(started):
    """Kill what is left of each process and of its workers, and wait. Exit codes, None for killed ones."""
    codes = []
    for child in started:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        codes.append(os.WEXITSTATUS(status) if os.WIFEXITED(status) else None)
    return codes


def wait_or_kill(started, folder, rng, saving, longest):
    """True if a process was killed: at a random moment, or while saving after it. False if the run ended before."""
    moment = time.monotonic() + rng.uniform(0, longest / 2)
    while time.monotonic() < moment or saving:
        over = os.waitid(os.P_PID, started[0], os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if over is not None:
            return False
        if time.monotonic() >= moment and any(folder.glob(".checkpoint_*.tmp")):
            break
        time.sleep(0.0002 if time.monotonic() >= moment else 0.01)
    os.kill(rng.choice(started), signal.SIGKILL)
    return True


def newest_step(folder):
    found = None if not folder.exists() else find_state(folder, "auto")
    return -1 if found is None else found[1]["progress"]["step"]


def check(folder, tally, before):
    """Read what a kill left behind."""
    tally.halves += bool(list(folder.glob(".*.tmp")))
    for path in [*folder.glob("checkpoint_*.pth"), *folder.glob("last.pth")]:
        try:
            read_tensors(path, FORMAT, FORMAT_VERSION)
        except TwinDcalError as error:
            tally.unreadable += 1
            print(error, file=sys.stderr)
    if (folder / "best_model.pth").exists():
        load_model(folder / "best_model.pth")
    step = newest_step(folder)
    tally.early += step < 0
    tally.lost += step < before
    return step


def same(folder, other):
    one, two = (find_state(path, "auto")[1] for path in (folder, other))
    weights = all(torch.equal(value, two["model"][key]) for key, value in one["model"].items())
    return weights and one["progress"] == two["progress"]


def run_until_finished(config, tally, rng, wanted, longest):
    """One run, killed as often as it comes, but not after `wanted` kills in all."""
    folder, step = Path(config.runtime.output_dir), -1
    while True:
        started = start(config, tally.processes)
        killed = tally.kills < wanted and wait_or_kill(started, folder, rng, tally.kills % 2 == 1, longest)
        if not killed:
            code = os.waitid(os.P_PID, started[0], os.WEXITED | os.WNOWAIT).si_status
            for child in started[1:]:
                os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
            end(started)
            tally.lost += code != 0
            return
        tally.kills += 1
        end(started)
        step = check(folder, tally, step)


def measure(processes, wanted, data, home, rng):
    tally = ScoreCounts(processes)
    whole = config_for(data, home / f"whole{processes}")
    began = time.monotonic()
    run_until_finished(whole, ScoreCounts(processes), rng, 0, 0.0)
    longest = time.monotonic() - began
    while tally.kills < wanted:
        config = config_for(data, home / f"run{processes}_{tally.runs}")
        run_until_finished(config, tally, rng, wanted, longest)
        tally.runs += 1
        tally.different += not same(Path(config.runtime.output_dir), Path(whole.runtime.output_dir))
        print(tally, file=sys.stderr, flush=True)
    return tally


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--kills", type=int, default=50, help="three fifths with one process, the rest with two"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng, alone = random.Random(options.seed), options.kills * 3 // 5
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        synth.main(
            ["--output", str(home / "faces"), "--families", "12", "--images", "4", "--image_size", "64"]
        )
        logging.getLogger("twin_dcal").setLevel(logging.ERROR)  # the command above set it to INFO
        tallies = [
            measure(count, wanted, home / "faces", home, rng)
            for count, wanted in ((1, alone), (2, options.kills - alone))
        ]
    print("| processes | runs | kills | half-written file left | before the first checkpoint | runs lost | "
          "checkpoints unreadable | runs with other weights |\n|---|---|---|---|---|---|---|---|")  # fmt: skip
    for tally in tallies:
        print(f"| {tally.processes} | {tally.runs} | {tally.kills} | {tally.halves} | {tally.early} | {tally.lost} | "
              f"{tally.unreadable} | {tally.different} |")  # fmt: skip
    return any(tally.lost or tally.unreadable or tally.different for tally in tallies)


if __name__ == "__main__":
    sys.exit(main())
