"""How the benchmarks measure: ratios inside one process, alternating; peak memory in a fresh process each.

CPU: `time.process_time` on one thread, so that a busy neighbour does not count. CUDA: events.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import torch

Step = Callable[[], object]


def parser(description: str) -> argparse.ArgumentParser:
    """Options every benchmark of a model has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--backbone", default="vit_small_patch16_224")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    return parser


def seconds(step: Step, device: torch.device) -> float:
    """CPU seconds of one call, or CUDA seconds between two events."""
    if device.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        step()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / 1e3
    began = time.process_time()
    step()
    return time.process_time() - began


def alternate(steps: dict[str, Step], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of every step, `rounds` times in turn, after one round to warm up."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + 1):
        for name, step in steps.items():
            spent = seconds(step, device)
            if turn:
                times[name].append(spent)
    return times


def compare(
    script: str, variants: Iterable[str], build: Callable[..., Step], options: argparse.Namespace
) -> tuple[dict[str, list[float]], dict[str, int]] | None:
    """Seconds per round and peak bytes of every variant, under a printed line that says what was measured.

    `build(name, options, device)` gives a variant's step. In the fresh process of one memory measurement, its
    bytes are printed and None returned.
    """
    device = torch.device(options.device)
    torch.set_num_threads(1)
    if options.memory_of:
        print(peak_bytes(partial(build, options.memory_of, options, device), device))
        return None
    times = alternate({name: build(name, options, device) for name in variants}, options.rounds, device)
    memory = {name: peak_bytes_in_fresh_process(script, name) for name in variants}
    shape = f"batch {options.batch_size}, {options.image_size} px"
    print(f"{options.backbone}, {shape}, {device}, torch {torch.__version__}")
    return times, memory


def ratio(times: dict[str, list[float]], name: str, base: str) -> tuple[float, float, float]:
    """Median, smallest and largest of the per-round ratios name / base."""
    ratios = [a / b for a, b in zip(times[name], times[base], strict=True)]
    return statistics.median(ratios), min(ratios), max(ratios)


def peak_bytes(build: Callable[[], Step], device: torch.device, repeats: int = 3) -> int:
    """Peak memory of a step over what the built model takes. Call it in a fresh process."""
    step = build()
    if device.type == "cuda":
        base = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        for _ in range(repeats):
            step()
        return torch.cuda.max_memory_allocated() - base
    base = _status_bytes("VmRSS")
    for _ in range(repeats):
        step()
    return _status_bytes("VmHWM") - base


def peak_bytes_in_fresh_process(script: str, name: str) -> int:
    command = [sys.executable, script, *sys.argv[1:], "--memory-of", name]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(json.loads(done.stdout.splitlines()[-1]))


def verdict(label: str, value: float, target: float, spread: str = "") -> str:
    word = "meets" if value <= target else "MISSES"
    return f"{label:<28} {value:5.2f}x  {spread:<16} {word} the target of {target:.2f}x"


def _status_bytes(field: str) -> int:
    """A field of /proc/self/status; unlike getrusage's peak, VmHWM is not inherited from the parent process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{field}:")).split()[1]) * 1024
