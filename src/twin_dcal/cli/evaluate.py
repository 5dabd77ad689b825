"""`dcal-evaluate`: error rates with intervals of a checkpoint, of embeddings or of scores, and comparisons of them."""

import argparse
import os
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from twin_dcal.errors import ConfigError
from twin_dcal.plural import plural

from .common import check_launch, run
from .comparing import compare_runs
from .evaluate_checks import NOTHING_TO_ALIGN, check, only_tunes, source_of, validation_of
from .evaluate_options import parser
from .exits import tell
from .run_config import default_data_folder

if TYPE_CHECKING:
    from twin_dcal.checkpoint import LoadedModel
    from twin_dcal.evaluation.compare import Run
    from twin_dcal.evaluation.evaluate import Decision, EvaluationOptions
    from twin_dcal.evaluation.inputs import DataFiles
    from twin_dcal.evaluation.run import Outcome
    from twin_dcal.evaluation.sampling import Sampling
    from twin_dcal.evaluation.systems import ModelSystem, System
    from twin_dcal.inference.aligning import Align
    from twin_dcal.report.galleries import Overlays


def body(arguments: Sequence[str] | None) -> int:
    known = parser()
    options = known.parse_options(arguments)
    options.typed = shlex.join([known.prog, *(sys.argv[1:] if arguments is None else arguments)])
    if options.model and source_of(options) is None and not only_tunes(options):
        options.data_dir = default_data_folder()
    if options.dataset_info and not options.test_data and options.data_root is None:
        options.data_root = options.data_dir  # as in dcal-train: people of the file, images under the folder
    check(options)
    check_launch(options)
    if options.model:
        return _evaluate_together(options)
    if os.environ.get("RANK", "0") != "0":  # what follows is not shared between processes
        return 0
    from twin_dcal.evaluation.run import writing

    with writing(options.output_dir):
        if options.compare:
            return compare_runs(options, partial(_run_of, options), _effort(options), NOTHING_TO_ALIGN)
        return _evaluate(options)


def _evaluate_together(options: argparse.Namespace) -> int:
    """Processes embed the images together; rank 0 does all the rest."""
    from twin_dcal.distributed import entered_by_main, is_main, process_group
    from twin_dcal.evaluation import run as evaluation

    with (
        process_group("cpu"),
        entered_by_main(evaluation.writing(options.output_dir)),
    ):  # features are gathered on the CPU
        if is_main():
            return _tune(options) if only_tunes(options) else _evaluate(options)
        validation = validation_of(options) if options.optimize_threshold else None
        evaluation.embed_only(
            _system(options), source_of(options), validation, compare_features=options.compare_features
        )
    return 0


def _tune(options: argparse.Namespace) -> int:
    """Choose the threshold, print it, and store it where asked to."""
    from twin_dcal.evaluation import run as evaluation
    from twin_dcal.evaluation.systems import ModelSystem
    from twin_dcal.model_file.provenance import training_warnings

    system = _system(options)
    tuning = evaluation.tune_on(
        system, None, options.val_data, options.threshold_metric or "eer", _effort(options)
    )
    print(tuning.choice.described(tuning.data))
    assert isinstance(system, ModelSystem)
    for warning in filter(None, (*training_warnings(system.loaded.training), tuning.choice.warning)):
        print(f"Warning: {warning}")
    if options.save:
        evaluation.save_tuning(system, tuning)
        print(f"threshold and calibration stored in {options.model}")
    else:
        print(f"not stored; add --save to store it in {options.model}")
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from twin_dcal.evaluation import run as evaluation
    from twin_dcal.evaluation.table import features_table, format_table

    effort = _effort(options)
    system = _system(options)
    given = _given(options, system)
    validation = validation_of(options)
    outcome = evaluation.run(
        system, source_of(options), effort,
        evaluation.Outputs(options.output_dir, options.save_scores, options.save_embeddings),
        given=given,
        tune=(validation, options.threshold_metric or "eer") if options.optimize_threshold and validation else None,
        compare_features=options.compare_features, speed=options.benchmark_speed, metadata=options.metadata,
    )  # fmt: skip
    figures = outcome.evaluation.figures
    print(format_table(figures))
    if outcome.features:
        print(features_table(outcome.features))
    if options.benchmark_speed:
        speed = figures["speed"]
        print(
            f"speed on {speed['device']}: {speed['images_per_second']:.1f} images/s in batches of "
            f"{speed['batch_size']}, {speed['ms_per_pair']:.1f} ms a pair (network only)"
        )
    if options.save and outcome.tuning is not None:
        evaluation.save_tuning(system, outcome.tuning)
        print(f"threshold {outcome.tuning.choice.threshold:.4f} and calibration stored in {options.model}")
    _show(options, outcome, _explain(options, system, outcome) if options.explain else None)
    if options.model:
        from twin_dcal.training.trackers.evaluation import EvaluationRecord, track_evaluation

        track_evaluation(
            EvaluationRecord(Path(options.model), Path(options.output_dir), figures), options.tracking
        )
    return 0


def _given(options: argparse.Namespace, system: "System") -> "Decision | None":
    """A threshold of the command line. ConfigError for a probability without a calibration."""
    from twin_dcal.evaluation.evaluate import Decision
    from twin_dcal.metrics.calibration import score_reaching

    if options.threshold is not None:
        return Decision(options.threshold, "given on the command line")
    if options.threshold_probability is None:
        return None
    calibration = system.stored().calibration
    if calibration is None:
        raise ConfigError("--threshold_probability: no calibration is stored, so no probability is known")
    threshold = score_reaching(calibration, options.threshold_probability, -1.0, 1.0)
    told = f"given on the command line as the probability {options.threshold_probability:g}"
    return Decision(threshold, told, calibration)


def _explain(options: argparse.Namespace, system: "System", outcome: "Outcome") -> "Overlays":
    """Print and write the explanations' table; overlays of the worst pairs."""
    from twin_dcal.evaluation.systems import ModelSystem
    from twin_dcal.explain.findings import table
    from twin_dcal.explain.flow import Wanted, explain_evaluation

    assert isinstance(system, ModelSystem)
    wanted = Wanted(
        options.explain_pairs, options.explain_pairs if options.visualize else 0, options.seed,
        options.explain_method,
        faces=not (options.no_images or options.blur_images),
        threshold=outcome.evaluation.figures["threshold"],
    )  # fmt: skip
    explained = explain_evaluation(
        system.loaded, outcome.comparisons, outcome.evaluation, options.output_dir, wanted
    )
    print(table(explained.findings))
    print(f"explanations: {', '.join(map(str, explained.files))}")
    return explained.overlays


def _show(options: argparse.Namespace, outcome: "Outcome", overlays: "Overlays | None") -> None:
    """Report and examples, where asked for, and the line that comes last."""
    from twin_dcal.evaluation.table import summary_line

    page, folder = outcome.report, Path(options.output_dir)
    if options.save_examples:
        from twin_dcal.evaluation.examples import save_examples

        home = folder / "examples"
        written = save_examples(outcome.evaluation, home, options.num_examples, blur=options.blur_images)
        print(f"examples: {plural(written, 'pair')} in {home}")
    if options.visualize:
        from twin_dcal.report.html import write_report

        page = write_report(
            outcome.evaluation, folder, images=not options.no_images, blur=options.blur_images,
            root=options.data_root or options.data_dir, seed=options.seed, overlays=overlays,
            made=f"{time.strftime('%Y-%m-%d')}, by {options.typed}",
        )  # fmt: skip
    print(summary_line(outcome.evaluation.figures, page))


def _system(options: argparse.Namespace) -> "System":
    system = _of_images(options)
    if not options.templates:
        return system
    from twin_dcal.evaluation.templates import Templates, TemplateSystem

    return TemplateSystem(system, Templates.of(options.templates, options.seed))


def _of_images(options: argparse.Namespace) -> "System":
    from twin_dcal.evaluation import systems
    from twin_dcal.evaluation.embedding_files import read_embeddings
    from twin_dcal.evaluation.score_files import read_scores

    if options.scores:
        return systems.ScoresSystem(
            read_scores(options.scores, options.strict), _files(options), _sampling(options)
        )
    if options.embeddings:
        return systems.EmbeddingsSystem(
            read_embeddings(options.embeddings, keep_failed=True), _files(options), _sampling(options)
        )
    return _open_model(options, options.model)


def _open_model(options: argparse.Namespace, path: str) -> "System":
    from twin_dcal.evaluation import systems

    system = systems.open_model(
        path, options.device, _files(options), _sampling(options), feature_type=options.feature_type,
        batch_size=options.batch_size, num_workers=options.num_workers, num_threads=options.num_threads,
    )  # fmt: skip
    if options.align != "never":
        system = _aligning(system, options.align)
    if options.config:
        _note_config(options.config, system.loaded)
    return system


def _aligning(system: "ModelSystem", align: "Align") -> "ModelSystem":
    """The same model, which finds and aligns faces as the engine does. ConfigError without a detector."""
    from twin_dcal.inference.aligning import prepare_file
    from twin_dcal.prepare.detector import NEEDED, is_available

    if not is_available():
        raise ConfigError(f"--align {align}: finding faces needs {NEEDED}")
    known = system.loaded.preprocessing
    prepare = partial(prepare_file, align, known.image_size, known.landmarks, "command")
    return replace(system, align=align, prepare=prepare)


def _note_config(name: str, loaded: "LoadedModel") -> None:
    """Say that --config changes nothing, and whether it describes another model. ConfigError if it cannot be read."""
    from twin_dcal.config import resolve_config

    given, own = resolve_config(name, {}), loaded.config
    differ = [key for key, value in given.model if value != getattr(own.model, key)]
    if given.data.image_size != own.data.image_size:
        differ.append("image_size")
    told = f"differs in {', '.join(differ)} and is" if differ else "agrees and is"
    tell(f"--config {name} {told} not used: the checkpoint carries its own configuration")


def _files(options: argparse.Namespace) -> "DataFiles":
    from twin_dcal.evaluation.inputs import DataFiles

    return DataFiles(
        options.dataset_info, options.twin_pairs, options.data_root, options.strict, options.data_dir
    )


def _sampling(options: argparse.Namespace) -> "Sampling":
    from twin_dcal.evaluation.sampling import Sampling

    return Sampling(options.max_unrelated, options.seed, options.max_images_per_person)


def _effort(options: argparse.Namespace) -> "EvaluationOptions":
    from twin_dcal.evaluation.evaluate import EvaluationOptions

    return EvaluationOptions(
        num_replicates=options.num_replicates, seed=options.seed, num_folds=options.folds,
        fold_metric=options.threshold_metric, num_worst=max(24, options.num_examples),
        identification=options.identification, weights=options.weights,
    )  # fmt: skip


def _run_of(options: argparse.Namespace, path: str, split: str) -> "Run":
    """A run that --compare (test) or --fuse (val) names, on its pairs."""
    from twin_dcal.evaluation import compare
    from twin_dcal.evaluation.score_files import is_scores_file

    found = compare.find_run(path)
    if is_scores_file(found):
        split = "test"  # scores bring their own pairs; a data set only tells whose images they are of
    data = source_of(options) if split == "test" else validation_of(options)
    if found.suffix == ".pth":
        system = _open_model(options, str(found))
    else:
        system = compare.open_stored(found, _files(options), _sampling(options))
    return compare.Run(str(path), system.scored(data, split))


def main(arguments: Sequence[str] | None = None) -> int:
    return run(body, arguments)


if __name__ == "__main__":
    sys.exit(main())
