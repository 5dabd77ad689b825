"""`dcal-train`: train a verifier on a folder or JSON description of faces."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from twin_dcal.config import TwinVerificationConfig, dotted_keys
from twin_dcal.presets import PRESETS

from .common import HIDDEN, Parser, check_launch, launch_options, run
from .exits import tell
from .run_config import read_run_config, refuse_missing_weights

CONFIG_KEYS = {
    "data_dir": "data.data_dir", "dataset_info": "data.dataset_info", "twin_pairs": "data.twin_pairs",
    "data_root": "data.data_root", "split_file": "data.split_file", "strict": "data.strict",
    "output_dir": "runtime.output_dir", "seed": "runtime.seed", "device": "runtime.device",
    "max_hours": "runtime.max_hours",
    "tracking": "tracking.backend", "mlflow_uri": "tracking.mlflow_uri",
    "wandb_project": "tracking.wandb_project", "wandb_entity": "tracking.wandb_entity",
}  # fmt: skip


def parser() -> Parser:
    parser = Parser(
        keys=dotted_keys,
        prog="dcal-train",
        description="Train a Dual Cross-Attention verifier.",
        epilog="Any key of the configuration can be given as --section.key VALUE, "
        "for instance --training.learning_rate 1e-4 --model.branches '[\"sa\"]'.",
        examples=(
            "dcal-train --config single_gpu --data_dir FACES --output_dir runs/twins",
            "dcal-train --config face --model.pretrained network.onnx --data_dir FACES --output_dir runs/face",
        ),
    )
    option = parser.option
    parser.group("configuration and data")
    option(
        "config", metavar="NAME|FILE", default="default", help=f"preset ({', '.join(PRESETS)}) or JSON file"
    )
    option("config_file", metavar="FILE", help=HIDDEN)
    option(
        "data_dir", metavar="DIR",
        help="train/val/test folders, person folders, or dataset_infor.json; without it and --dataset_info: ./data",
    )  # fmt: skip
    option("dataset_info", metavar="FILE", help="dataset_infor.json: person id to image paths")
    option(
        "twin_pairs", metavar="FILE", help="pairs of person ids: twin_pairs_infor.json, .csv, .tsv or .txt"
    )
    option("data_root", metavar="DIR", help="where image paths of the JSON file are looked up")
    option("split_file", metavar="FILE", help="split.json of an earlier run")
    option(
        "strict",
        action="store_true",
        default=None,
        help="whatever would be left out is an error, and so are copies of one picture",
    )
    parser.group("the run")
    option(
        "output_dir", metavar="DIR",
        help="where checkpoints, metrics and logs go; without it checkpoints/, and logs/tensorboard/ for TensorBoard",
    )  # fmt: skip
    option(
        "resume", metavar="PATH|auto",
        help="checkpoint to continue, or a folder, for its newest; auto: the newest of --output_dir, if any",
    )  # fmt: skip
    option(
        "max_hours", type=float, metavar="H", help="stop with a checkpoint before so many hours have passed"
    )
    option("overwrite", action="store_true", help="start anew in an --output_dir that holds a run")
    option("seed", type=int, help="of splits, batches, augmentation and weights")
    option("device", help="auto, cpu, cuda, cuda:0")
    option(
        "validate_only",
        action="store_true",
        help="check configuration and data, train nothing; needs no weights",
    )
    parser.group("tracking")
    option("tracking", choices=["mlflow", "wandb", "none"], help="tracker beside TensorBoard")
    option("mlflow_disabled", action="store_true", help="no MLflow, whatever the configuration says")
    option(
        "mlflow_uri", metavar="URI",
        help="MLflow server or sqlite:///FILE; without it MLFLOW_TRACKING_URI, else localhost:5000, else a file here",
    )  # fmt: skip
    option("wandb_project", metavar="NAME", help="Weights & Biases project")
    option("wandb_entity", metavar="NAME", help="Weights & Biases entity")
    launch_options(parser)
    return parser


def body(arguments: Sequence[str] | None) -> int:
    options, dotted = parser().parse(arguments)
    check_launch(options)
    config = read_run_config(options, CONFIG_KEYS, dotted)
    if options.mlflow_disabled and config.tracking.backend == "mlflow":
        config = config.override({"tracking.backend": "none"})
    if not (options.validate_only or options.resume):
        refuse_missing_weights(config)
    from twin_dcal.distributed import launch
    from twin_dcal.training.run import train

    result = train(
        config, resume=options.resume, overwrite=options.overwrite, validate_only=options.validate_only
    )
    if launch().rank > 0:
        return 0
    if result is None:
        print("configuration and data are usable; nothing was trained (--validate_only)")
        return 0
    from twin_dcal.training.console import format_figures

    told = format_figures(result.best_figures)
    print(f"best model: {result.best_model}" + (f"\n  on validation: {told}" if told else ""))
    for warning in result.warnings:
        tell(f"warning: {warning}")
    if not result.finished:
        print(f"stopped early ({result.stopped_by}); continue with --resume auto")
        # A launcher would take any other code as a failure, and start again what was asked to stop.
        return 130 if result.stopped_by == "signal" and not launch().is_launched else 0
    print(f"next: {_next_command(config, result.best_model)}")
    return 0


def _next_command(config: TwinVerificationConfig, model: Path) -> str:
    """What judges the model on the test people."""
    data = config.data
    given = {"data_dir": data.data_dir, "dataset_info": data.dataset_info, "twin_pairs": data.twin_pairs,
             "data_root": data.data_root}  # fmt: skip
    named = [text for name, value in given.items() if value for text in (f"--{name}", value)]
    folder = str(model.parent / "evaluation")
    return shlex.join(["dcal-evaluate", "--model", str(model), *named, "--visualize", "--output_dir", folder])


def main(arguments: Sequence[str] | None = None) -> int:
    return run(body, arguments)


if __name__ == "__main__":
    sys.exit(main())
