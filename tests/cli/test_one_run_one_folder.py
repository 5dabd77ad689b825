"""Two of the same in one output folder: the second is refused in one line and changes nothing, whatever the command."""

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from importlib import import_module

import pytest
from tiny import tiny_model

from twin_dcal.locking import locked

TINY = [
    "--config", "debug", "--model.backbone", "test_vit", "--data.image_size", "32", "--training.num_epochs", "1",
    "--training.images_per_person", "2", "--training.warmup_epochs=0", "--runtime.num_workers", "0",
]  # fmt: skip
HOLD = """
import sys
from twin_dcal.locking import locked
with locked(sys.argv[1], ""):
    print("held", flush=True)
    sys.stdin.read()
"""


def commands(faces, folder):
    """Each command with the lock file that it shares with its like."""
    out = folder / "out"
    data = ["--data_dir", faces, "--output_dir", out]
    model = ["--model", tiny_model(folder)]
    scores = folder / "scores.csv"
    scores.write_text("img1,img2,label,score\na,b,1,0.5\na,c,0,0.1\n")
    photos = folder / "photos" / "p"
    photos.mkdir(parents=True)
    (photos / "1.jpg").write_bytes((faces / "test" / "6a" / "0.png").read_bytes())
    return {
        "train": ([*TINY, *data], out / ".train.lock"),
        "ablate": ([*TINY, *data, "--branches", "sa"], out / ".ablation.lock"),
        "evaluate": ([*model, *data, "--num_workers", "0"], out / ".evaluation.lock"),
        "evaluate scores": (["--scores", scores, "--output_dir", out], out / ".evaluation.lock"),
        "extract": ([*model, "--images_dir", faces, "--output", out / "f.npz"], out / ".f.npz.lock"),
        "prepare": ([photos.parent, "--output", out], out / ".prepare" / "lock"),
        "synth": (["--output", out, "--families", "3", "--images", "2", "--resume"], out / ".synth.lock"),
        "synth faces": (["--from_faces", faces, "--output", out], out / ".edits.lock"),
        "lookalikes": (["--embeddings", folder / "none.npz", "--output", out], out / ".lookalikes.lock"),
    }  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        "train",
        "ablate",
        "evaluate",
        "evaluate scores",
        "extract",
        "prepare",
        "synth",
        "synth faces",
        "lookalikes",
    ],
)
def test_the_second_is_refused(name, tiny_faces, tmp_path, capsys):
    arguments, lock = commands(tiny_faces, tmp_path)[name]
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout.readline() == "held\n"
        main = import_module(f"twin_dcal.cli.{name.split()[0]}").main
        assert main(list(map(str, arguments))) == 2
        first.stdin.close()
        errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
        assert len(errors) == 1
        assert f"error: process {first.pid} on " in errors[0]
        assert str(tmp_path / "out") in errors[0]
    left = {path for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert left <= {lock}


@pytest.mark.parametrize("file", ["best_model.pth", "checkpoint_step_00000001.pth"])
def test_of_a_run_that_another_process_trains_the_process_is_told(file, tiny_faces, tmp_path, capsys):
    # Its first files are there soon, so "holds a run already" alone would tell a user to replace what is at work.
    out = tmp_path / "out"
    out.mkdir()
    (out / file).write_bytes(b"x")
    command = [sys.executable, "-c", HOLD, str(out / ".train.lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout.readline() == "held\n"
        train = import_module("twin_dcal.cli.train").main
        assert train([*TINY, "--data_dir", str(tiny_faces), "--output_dir", str(out)]) == 2
        first.stdin.close()
    assert f"error: process {first.pid} on " in capsys.readouterr().err


def test_checking_a_configuration_needs_no_folder(tiny_faces, tmp_path):
    train = import_module("twin_dcal.cli.train").main
    arguments = [
        *TINY,
        "--data_dir",
        str(tiny_faces),
        "--output_dir",
        str(tmp_path / "out"),
        "--validate_only",
    ]
    with locked(tmp_path / "out" / ".train.lock", "at work"):
        assert train(arguments) == 0


@pytest.mark.slow
def test_of_two_trainings_started_at_once_one_trains(tiny_faces, tmp_path):
    # The one that trains goes on until it is interrupted: if it ended first, the other would rightly find
    # a finished run in place of a process at work.
    command = [sys.executable, "-m", "twin_dcal.cli.train", *TINY, "--data_dir", str(tiny_faces)]
    command += ["--output_dir", str(tmp_path / "run"), "--training.num_epochs", "100000"]
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    try:
        with ThreadPoolExecutor(2) as readers:
            ended = {readers.submit(process.communicate): process for process in both}
            first = next(as_completed(ended, timeout=300))
            refused = ended.pop(first)
            (trained,) = ended.values()
            out, err = first.result()
            assert refused.returncode == 2, err
            assert trained.poll() is None
            trained.send_signal(signal.SIGINT)
        assert trained.returncode == 130
    finally:
        for process in both:
            process.kill()
    assert f"error: process {trained.pid} on " in err
    assert not out
    assert not list((tmp_path / "run").glob("*.lock"))
