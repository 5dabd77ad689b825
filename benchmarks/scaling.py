"""How much faster do two processes train than one, with the same global batch?

    OMP_NUM_THREADS=1 python benchmarks/scaling.py [--backbone vit_tiny_patch16_224] [--batch-size 16] [--rounds 5]
    OMP_NUM_THREADS=1 python benchmarks/scaling.py --processes 1 2 4 --device cuda

A step is forward, loss of the global batch, backward and AdamW, on random images. In every round each number of
processes trains in turn, in fresh processes of one thread, after a step to warm up. Two ratios to one process: images
per second of wall time, which needs as many idle cores as processes, and images per CPU second of all processes
together, which does not.
"""

import argparse
import json
import os
import socket
import statistics
import sys
import time

import torch

from twin_dcal import distributed
from twin_dcal.config import LossConfig
from twin_dcal.losses import DCALLoss
from twin_dcal.models.dcal import DCALVerificationModel
from twin_dcal.training.objective import Objective
from twin_dcal.training.parallel import parallelize

NUM_PEOPLE = 178
WALL_TARGET, CPU_TARGET = 1.8, 0.9


def train_steps(options):
    """Wall and CPU seconds of this process for `options.steps` steps of its part of the batch."""
    torch.set_num_threads(1)
    with distributed.process_group(options.device) as own:
        device = (
            torch.device(options.device, own.local_rank) if options.device == "cuda" else torch.device("cpu")
        )
        torch.manual_seed(0)
        model = DCALVerificationModel(options.backbone, image_size=options.image_size).to(device).train()
        loss = DCALLoss(model.width, NUM_PEOPLE, model.branches, LossConfig()).to(device)
        part = options.batch_size // own.world_size
        places = torch.arange(part) + own.rank * part
        images = torch.randn(part, 3, options.image_size, options.image_size, device=device)
        batch = (images, (places // 4).to(device), (places // 8).to(device), places)
        parallel = parallelize(
            Objective(model, loss, across_ranks=True, amp_dtype=None), options.strategy, device, batch
        )
        optimizer = torch.optim.AdamW([*model.parameters(), *loss.parameters()], lr=1e-4)
        for step in range(options.steps + 1):
            if step == 1:
                distributed.barrier()
                wall, cpu = time.monotonic(), time.process_time()
            parallel(*batch).loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.monotonic() - wall, time.process_time() - cpu


def measure(processes, options):
    """Images per second of wall time, and per CPU second of all processes, in forked processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    pipes = []
    for rank in range(processes):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            if processes > 1:
                os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes),
                               "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}  # fmt: skip
            try:
                os.write(write, json.dumps(train_steps(options)).encode())
            finally:
                os._exit(0)
        os.close(write)
        pipes.append((child, read))
    seconds = []
    for child, read in pipes:
        with os.fdopen(read) as pipe:
            seconds.append(json.loads(pipe.read()))
        os.waitpid(child, 0)
    images = options.steps * options.batch_size
    return images / max(wall for wall, _ in seconds), images / sum(cpu for _, cpu in seconds)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--backbone", default="vit_tiny_patch16_224")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=16, help="global")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--strategy", choices=["ddp", "fsdp"], default="ddp")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    options = parser.parse_args()
    print(f"{options.backbone}, global batch {options.batch_size}, {options.image_size} px, {options.strategy}, "
          f"{options.device}, torch {torch.__version__}")  # fmt: skip
    rounds = [{n: measure(n, options) for n in options.processes} for _ in range(options.rounds)]
    first, missed = options.processes[0], False
    for count in options.processes[1:]:
        wall, cpu = ([turn[count][kind] / turn[first][kind] for turn in rounds] for kind in (0, 1))
        for name, ratios, target in (
            ("images/s", wall, WALL_TARGET / 2 * count / first),
            ("images per CPU second", cpu, CPU_TARGET),
        ):
            middle = statistics.median(ratios)
            missed |= middle < target
            print(f"{count} processes to {first}: {name} {middle:.2f}x [{min(ratios):.2f}, {max(ratios):.2f}], "
                  f"{'meets' if middle >= target else 'MISSES'} {target:.2f}")  # fmt: skip
    return missed


if __name__ == "__main__":
    sys.exit(main())
