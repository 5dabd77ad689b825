"""Which options of `dcal-evaluate` go together, and what they say is evaluated."""

import argparse
from pathlib import Path

from twin_dcal.errors import ConfigError

NOTHING_TO_ALIGN = "--align needs a model: embeddings and scores are of pictures that are aligned already"


def check(options: argparse.Namespace) -> None:
    """ConfigError for options that do not go together."""
    given = [name for name in ("model", "embeddings", "scores", "compare") if getattr(options, name)]
    if len(given) != 1:
        what = " and ".join(f"--{name}" for name in given) or "none"
        raise ConfigError(f"give one of --model, --embeddings, --scores and --compare; given: {what}")
    _check_thresholds(options)
    if options.test_data and options.dataset_info and not _is_listed(options.test_data):
        raise ConfigError(
            f"--test_data {options.test_data} and --dataset_info {options.dataset_info} are two data sets; give one, "
            "or a list of pairs as --test_data"
        )
    for faulty, message in (
        (options.align != "never" and not (options.model or options.compare), NOTHING_TO_ALIGN),
        (options.align != "never" and options.explain,
         "--explain looks at crops as they are; make them with dcal-prepare and leave out --align"),
        (options.explain and not options.model, "--explain needs --model: embeddings and scores cannot be explained"),
        (options.explain and options.feature_type != "combined", "--explain needs --feature_type combined"),
        (options.explain_pairs < 2, "--explain_pairs must be at least 2"),
        (options.batch_size < 1 or options.num_workers < 0,
         "--batch_size must be at least 1 and --num_workers at least 0"),
        (options.num_threads is not None and options.num_threads < 1, "--num_threads must be at least 1"),
        (options.num_examples < 1, "--num_examples must be at least 1"),
        (options.max_unrelated is not None and options.max_unrelated < 1, "--max_unrelated must be at least 1"),
        (options.max_unrelated is not None and options.scores, "--max_unrelated: a scores file has its own pairs"),
        (options.max_images_per_person is not None and options.max_images_per_person < 2,
         "--max_images_per_person must be at least 2: a genuine pair has two images"),
        (options.compare and (options.metadata or options.weights == "people"),
         "--metadata and --weights people are for one evaluation; leave them out with --compare"),
        (options.folds < 0 or options.folds == 1, "--folds must be at least 2"),
        (options.seed < 0, "--seed must be at least 0"),
        (options.num_replicates < 0, "--num_replicates must be at least 0"),
        (options.no_images and options.blur_images, "--no_images and --blur_images exclude each other"),
        (options.no_images and options.save_examples, "--no_images and --save_examples exclude each other"),
        (options.compare_features and not options.model, "--compare_features needs --model"),
        (options.benchmark_speed and not options.model, "--benchmark_speed needs --model"),
        (options.save_embeddings and options.scores, "--save_embeddings: scores have no embeddings"),
        (options.identification and (options.scores or options.compare),
         "--identification needs --model or --embeddings: scores of pairs are no gallery"),
        (options.fuse and not options.compare, "--fuse needs --compare: it adds the fusion of its runs"),
        (options.templates and not (options.model or options.embeddings),
         "--templates needs --model or --embeddings"),
        (options.templates and (options.save or options.explain or options.compare_features or options.benchmark_speed),
         "--templates goes with none of --save, --explain, --compare_features and --benchmark_speed"),
        (options.compare and len(options.compare) < 2, "--compare needs two runs or more"),
        (Path(options.output_dir).is_file(), f"--output_dir {options.output_dir} is a file; name a folder"),
    ):  # fmt: skip
        if faulty:
            raise ConfigError(message)
    _check_tracking(options)


def _check_tracking(options: argparse.Namespace) -> None:
    """ConfigError where a tracker is asked for and nothing could be recorded."""
    if options.tracking in ("auto", "none"):
        return
    if not options.model or only_tunes(options):
        why = (
            "choosing a threshold evaluates nothing"
            if options.model
            else "an evaluation of --model is recorded"
        )
        raise ConfigError(f"--tracking {options.tracking}: {why}; leave it out")
    from twin_dcal.training.trackers.evaluation import check_tracking

    check_tracking(Path(options.model), options.tracking)


def _is_listed(path: str) -> bool:
    """Whether comparisons, not a data set, are in a file: pairs, scores or embeddings."""
    from twin_dcal.data.pairs import is_pairs_file

    return is_pairs_file(path) or Path(path).suffix.lower() in (".npz", ".parquet")


def _check_thresholds(options: argparse.Namespace) -> None:
    named = [name for name in ("threshold", "threshold_probability") if getattr(options, name) is not None]
    named += ["optimize_threshold"] if options.optimize_threshold else []
    if len(named) > 1:
        raise ConfigError(f"{' and '.join(f'--{name}' for name in named)} exclude each other")
    if options.threshold_probability is not None and not 0 <= options.threshold_probability <= 1:
        raise ConfigError(
            f"--threshold_probability {options.threshold_probability:g}: give one between 0 and 1"
        )
    if options.save and not (options.optimize_threshold and options.model):
        raise ConfigError(
            "--save needs --model and --optimize_threshold: only what was chosen on validation is stored"
        )
    if options.save and options.feature_type != "combined":
        raise ConfigError("--save: the stored threshold is for --feature_type combined")
    if source_of(options) is None and options.model and not only_tunes(options):
        raise ConfigError(
            "name what to evaluate on: --test_data, --data_dir or --dataset_info (no folder ./data)"
        )
    if options.optimize_threshold and validation_of(options) is None:
        raise ConfigError("--optimize_threshold needs --val_data (never the test data)")


def only_tunes(options: argparse.Namespace) -> bool:
    """Whether a threshold is to be chosen and nothing tested."""
    return bool(options.model and options.optimize_threshold and options.val_data and not source_of(options))


def source_of(options: argparse.Namespace) -> str | None:
    source: str | None = options.test_data or options.dataset_info or options.data_dir
    return source


def validation_of(options: argparse.Namespace) -> str | None:
    own: str | None = None if options.scores else options.data_dir or options.dataset_info
    return options.val_data or own
