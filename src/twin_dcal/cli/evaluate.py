"""`dcal-evaluate`: error rates of a checkpoint on a data set or a list of pairs."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from twin_dcal.errors import ConfigError

from .common import Parser, run

if TYPE_CHECKING:
    from twin_dcal.checkpoint import Threshold


def parser() -> Parser:
    parser = Parser(
        prog="dcal-evaluate",
        description="Evaluate a checkpoint: each image is embedded once, pairs are scored from embeddings.",
    )
    option = parser.option
    option("model", metavar="FILE", required=True, help="best_model.pth of a run")
    option("test_data", metavar="PATH", help="pairs file (.json, .txt), folder, or dataset_infor.json")
    option(
        "data_dir", metavar="DIR", help="data set folder: its test split is evaluated, its val split tunes"
    )
    option(
        "dataset_info",
        metavar="FILE",
        help="dataset_infor.json; with a pairs file, tells whose images they are",
    )
    option("twin_pairs", metavar="FILE", help="twin_pairs_infor.json")
    option("data_root", metavar="DIR", help="where image paths of the files are looked up")
    option("val_data", metavar="PATH", help="like --test_data, for --optimize_threshold")
    option("optimize_threshold", action="store_true", help="choose the threshold on the validation data")
    option(
        "threshold_metric",
        default="eer",
        metavar="METRIC",
        help="eer, accuracy, f1, or a rate such as far=1e-3",
    )
    option("threshold", type=float, help="decide at this cosine instead of the stored threshold")
    option("output_dir", metavar="DIR", default="results/evaluation", help="evaluation_report.json goes here")
    option(
        "feature_type",
        choices=["combined", "sa", "glca"],
        default="combined",
        help="embedding to compare; the stored threshold is for combined",
    )
    option("batch_size", type=int, default=32, help="images embedded at once")
    option("num_workers", type=int, default=2, help="processes that load images")
    option("num_threads", type=int, help="threads of torch on a CPU")
    option("device", default="auto", help="auto, cpu, cuda, cuda:0")
    option("strict", action="store_true", help="whatever would be left out is an error")
    return parser


def body(arguments: Sequence[str] | None) -> int:
    options, dotted = parser().parse(arguments)
    if dotted:
        raise ConfigError(f"dcal-evaluate has no option --{next(iter(dotted))}; see dcal-evaluate --help")
    source = options.test_data or options.dataset_info or options.data_dir
    if source == options.dataset_info and options.data_root is None:
        options.data_root = options.data_dir  # as in dcal-train: people of the file, images under the folder
    if source is None:
        raise ConfigError("name what to evaluate on: --test_data, --data_dir or --dataset_info")
    validation = options.val_data or options.data_dir or options.dataset_info
    if options.optimize_threshold and validation is None:
        raise ConfigError("--optimize_threshold needs --val_data (never the test data)")
    if options.optimize_threshold and options.threshold is not None:
        raise ConfigError("--threshold and --optimize_threshold exclude each other")
    if options.batch_size < 1 or options.num_workers < 0:
        raise ConfigError("--batch_size must be at least 1 and --num_workers at least 0")
    if options.num_threads is not None and options.num_threads < 1:
        raise ConfigError("--num_threads must be at least 1")
    if Path(options.output_dir).is_file():
        raise ConfigError(f"--output_dir {options.output_dir} is a file; name a folder")
    return _evaluate(options, source, validation)


def _evaluate(options: argparse.Namespace, source: str, validation: str | None) -> int:
    import torch

    from twin_dcal.checkpoint import load_model
    from twin_dcal.training.device import resolve_device
    from twin_dcal.verification import evaluation
    from twin_dcal.verification.report import choose_threshold, evaluation_figures, format_table, write_report

    if options.num_threads is not None:
        torch.set_num_threads(options.num_threads)
    loaded = load_model(options.model, resolve_device(options.device))
    files = {key: getattr(options, key) for key in ("dataset_info", "twin_pairs", "data_root", "strict")}
    recorded = loaded.training.get("split", {})
    test = evaluation.read_comparisons(source, split="test", **files)
    test = evaluation.keep_to_split(test, "test", recorded)
    if options.feature_type == "glca" and "glca" not in loaded.model.branches:
        raise ConfigError(f"--feature_type glca: {options.model} has no GLCA branch; use combined or sa")
    loading = {key: getattr(options, key) for key in ("batch_size", "num_workers", "feature_type")}
    stored = loaded.threshold if options.feature_type == "combined" else None
    threshold, origin = (None, None) if stored is None else (stored.value, _origin(stored))
    if options.threshold is not None:
        threshold, origin = options.threshold, "given on the command line"
    elif options.optimize_threshold:
        assert validation is not None
        tuning = evaluation.read_comparisons(validation, split="val", **files)
        tuning = evaluation.keep_to_split(tuning, "val", recorded)
        evaluation.refuse_shared_people(test, tuning)
        choice = choose_threshold(evaluation.score(loaded, tuning, **loading), options.threshold_metric)
        threshold = choice.threshold
        origin = f"{choice.metric} on the {choice.on} impostors of {validation}"
    figures = evaluation_figures(evaluation.score(loaded, test, **loading), threshold, origin)
    figures |= {
        "model": {"path": options.model, "sha256": loaded.sha256, "branches": list(loaded.model.branches)},
        "test_data": source,
        "feature_type": options.feature_type,
    }
    report, _ = write_report(figures, options.output_dir)
    print(format_table(figures))
    print(f"report: {report}")
    return 0


def _origin(threshold: "Threshold") -> str:
    origin = threshold.origin
    return f"{origin['criterion']} on the {origin['impostors']} impostors of {origin['data']}"


def main(arguments: Sequence[str] | None = None) -> int:
    return run(body, arguments)


if __name__ == "__main__":
    sys.exit(main())
