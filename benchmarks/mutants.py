"""Would the tests notice? 40 small faults, one at a time, and whether the test file that answers for the place fails.

    OMP_NUM_THREADS=1 python benchmarks/mutants.py [--repository FOLDER] [--only WORD]

A fault is put into a temporary copy of the repository; nothing of it reaches the checkout. Torch and timm are imported
once, and each fault is tried in a fork of that process. The faults were chosen before the tests were made faster, one
or two for each line that decides something; the table is in CONTRIBUTING.md. Exits with 1 where a fault survives.
"""

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple


class Fault(NamedTuple):
    """`old`, which stands in `file` once, becomes `new`; `tests` should then fail."""

    file: str
    old: str
    new: str
    tests: str


RATES, CALIBRATION = "tests/metrics/test_error_rates.py", "tests/metrics/test_calibration.py"
INTERVALS, ROLLOUT = "tests/metrics/test_intervals.py", "tests/models/test_rollout.py"
LOSSES, SAMPLERS = "tests/test_losses.py", "tests/data/test_samplers.py"
STATES, FILES = "tests/training/test_checkpoints.py", "tests/test_checkpoint.py"
RUNS, FACE = "tests/training/test_training_loop.py", "tests/models/face/test_face_backbone.py"

FAULTS = [
    Fault("metrics/error_rates.py", "gap_before <= -gap_after", "gap_before < -gap_after", RATES),
    Fault("metrics/error_rates.py", "share * (after.fmr - before.fmr)", "share * (after.fnmr - before.fmr)", RATES),
    Fault("metrics/error_rates.py", "part.num_below(values) + part.num_at_or_below(values)",
          "part.num_below(values) + part.num_below(values)", RATES),
    Fault("metrics/error_rates.py", ".item() / total <= fmr_requested", ".item() / total < fmr_requested", RATES),
    Fault("metrics/error_rates.py", "1 / round(total) <= fmr_requested", "1 / round(total) < fmr_requested", RATES),
    Fault("metrics/error_rates.py", "part.size - part.num_at_or_below(thresholds)",
          "part.size - part.num_below(thresholds)", RATES),
    Fault("metrics/error_rates.py", "f1 = 2 * matches /", "f1 = matches /", RATES),
    Fault("metrics/error_rates.py", "(genuine[1] + impostor[1]) / 2", "(genuine[1] + impostor[1])", RATES),
    Fault("metrics/score_counts.py", "rounded < exact, up", "rounded <= exact, up", RATES),
    Fault("metrics/calibration.py", "self.slope * _without_nan(scores) + self.intercept",
          "self.slope * _without_nan(scores) - self.intercept", CALIBRATION),
    Fault("metrics/confidence.py", "(num_units - 1) / num_units * total", "total", INTERVALS),
    Fault("metrics/confidence.py", "freedom = 3 * total**2", "freedom = 2 * total**2", INTERVALS),
    Fault("losses.py", "scale * (cosine_BK - margin * own_BK)", "scale * (cosine_BK + margin * own_BK)", LOSSES),
    Fault("losses.py", "past_pi_B1 = cosine_B1 < -math.cos(margin)", "past_pi_B1 = cosine_B1 < -1", LOSSES),
    Fault("losses.py", "logits_BB + scale * margin", "logits_BB - scale * margin", FACE),
    Fault("losses.py", "families_B[:, None] != families_B[None]", "families_B[:, None] == families_B[None]", FACE),
    Fault("losses.py", "torch.where(twin_BB.any(1, keepdim=True), twin_BB, ~same_BB)", "~same_BB", LOSSES),
    Fault("losses.py", "masked_fill(~positive_BB, -math.inf).argmax(1)",
          "masked_fill(~positive_BB, math.inf).argmin(1)", LOSSES),
    Fault("losses.py", "torch.exp(-log_variances) * losses", "torch.exp(log_variances) * losses", LOSSES),
    Fault("losses.py", '"glca" if branch == "glca" else "sa"', '"sa"', LOSSES),
    Fault("data/samplers.py", "np.random.default_rng((seed, epoch))", "np.random.default_rng(seed)", SAMPLERS),
    Fault("data/samplers.py", "num_draws = -(-len(images) // images_per_person)",
          "num_draws = max(1, len(images) // images_per_person)", SAMPLERS),
    Fault("data/samplers.py", "size > free or unit.family in taken", "size > free", SAMPLERS),
    Fault("data/samplers.py", "if len(families[family]) <= free:", "if len(families[family]) < free:", SAMPLERS),
    Fault("data/samplers.py", "free == num_people - 1", "free == num_people", SAMPLERS),
    Fault("data/samplers.py", "queue.extendleft(reversed(skipped))", "queue.extend(skipped)", SAMPLERS),
    Fault("data/samplers.py", "self._batches[self.start_batch :]", "self._batches", SAMPLERS),
    Fault("data/samplers.py", "sorted(pieces, key=len, reverse=True)", "sorted(pieces, key=len)", SAMPLERS),
    Fault("training/state.py", "sorted(folder.glob(NUMBERED), reverse=True)", "sorted(folder.glob(NUMBERED))", STATES),
    Fault("training/state.py", "sorted(folder.glob(NUMBERED))[:-keep]", "sorted(folder.glob(NUMBERED))[keep:]", RUNS),
    Fault("training/state.py", "epoch < done + 1 and step <= progress.step", "epoch < done + 1", STATES),
    Fault("training/checkpointing.py", "if self._saved == here:", "if self._saved is not None:", STATES),
    Fault("training/checkpointing.py", '"optimizer": full_state_dict(trained.optimizer.state_dict())',
          '"optimizer": {}', STATES),
    Fault("training/checkpointing.py", "if not self.best_path.exists():", "if self.best_path.exists():", STATES),
    Fault("checkpoint.py", "model.load_state_dict(content[\"weights\"], strict=True)",
          "model.load_state_dict({}, strict=False)", FILES),
    Fault("checkpoint.py", "if stored.sha256 != expected_sha256:", "if False:", FILES),
    Fault("models/rollout.py", "r_BT[:, 0] += 0.5", "r_BT[:, 1] += 0.5", ROLLOUT),
    Fault("models/rollout.py", "for layer in reversed(layers[:-1]):", "for layer in layers[:-1]:", ROLLOUT),
    Fault("models/rollout.py", "0.5 * r_BT + 0.5 * _weigh_rows", "0.4 * r_BT + 0.6 * _weigh_rows", ROLLOUT),
    Fault("models/rollout.py", "q_BHQD.shape[-1] ** -0.5", "q_BHQD.shape[-1] ** -1", ROLLOUT),
]  # fmt: skip


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repository", type=Path, default=Path(__file__).resolve().parents[1])
    parser.add_argument(
        "--only", default="", help="try the faults whose file or tests have this in their name"
    )
    return parser.parse_args()


def fails(tests: str, repository: Path, fault: Fault | None = None) -> bool:
    """Whether the tests fail in a copy of `repository`, which has the fault, if any. They run in a fork."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        shutil.copytree(
            repository,
            copy,
            symlinks=True,
            ignore=shutil.ignore_patterns(".git", ".venv", "__pycache__", "runs"),
        )
        if fault is not None:
            put(fault, copy / "src" / "twin_dcal" / fault.file)
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            os._exit(run_tests(copy, tests))
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0


def put(fault: Fault, path: Path) -> None:
    text = path.read_text("utf-8")
    if text.count(fault.old) != 1:
        sys.exit(f"{fault.file}: {fault.old!r} stands there {text.count(fault.old)} times; it must be once")
    path.write_text(text.replace(fault.old, fault.new), "utf-8")


def run_tests(copy: Path, tests: str) -> int:
    import pytest

    os.chdir(copy)
    os.environ["PYTHONPATH"] = str(copy / "src")  # for processes that tests start
    sys.path[0] = str(copy / "src")  # in place of this folder, which has modules named as libraries are
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    early = (
        "ignore:Module already imported:pytest.PytestAssertRewriteWarning"  # timm imports what has a plugin
    )
    options = ["-q", "-x", "-n", "0", "-W", early, "-p", "no:cacheprovider", "-m", "not slow"]
    return int(pytest.main([*options, tests]))


def main() -> int:
    arguments = parse()
    import timm  # noqa: F401 (once for all forks, as torch)
    import torch

    torch.set_num_threads(1)
    chosen = [fault for fault in FAULTS if arguments.only in f"{fault.file} {fault.tests}"]
    for tests in dict.fromkeys(fault.tests for fault in chosen):
        if fails(tests, arguments.repository):
            sys.exit(f"{tests}: fails without any fault, so it cannot tell")
    survived = 0
    print("| place | fault | tests | killed |\n|---|---|---|---|")
    for fault in chosen:
        seen = fails(fault.tests, arguments.repository, fault)
        survived += not seen
        old, new = (text.replace("|", "\\|") for text in (fault.old, fault.new))
        print(
            f"| {fault.file} | `{old}` → `{new}` | {fault.tests} | {'yes' if seen else '**no**'} |",
            flush=True,
        )
    print(f"\n{len(chosen) - survived} of {len(chosen)} faults killed")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
