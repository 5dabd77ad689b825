"""Starts a command of ours in N processes that are one run, as torchrun does, but forked: torch is imported once.

    python forked_ranks.py N MODULE [ARGUMENT …]

Starts by torchrun itself, and what becomes of them when they are killed, are tested in test_launchers.py.
"""

import os
import runpy
import socket
import sys

import timm  # noqa: F401 (for all ranks at once, as torch)
import torch


def start(work, arguments, num_ranks):
    """Call `work(rank, *arguments)` in a process for each rank, which finds the others by its environment. An error of
    one ends all, and is raised here."""
    torch.set_num_threads(1)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ |= {"WORLD_SIZE": str(num_ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.multiprocessing.start_processes(_as_rank, (work, arguments), nprocs=num_ranks, start_method="fork")


def _as_rank(rank, work, arguments):
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    work(rank, *arguments)


def _run_module(rank, module, arguments):
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    start(_run_module, (sys.argv[2], sys.argv[3:]), int(sys.argv[1]))
