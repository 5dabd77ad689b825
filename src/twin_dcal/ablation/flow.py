"""One ablation from beginning to end: split, runs, evaluations, comparison, files. What `dcal-ablate` calls."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path

from twin_dcal.config import DataConfig, TwinVerificationConfig
from twin_dcal.data.faceset import FaceData
from twin_dcal.data.manifest import load_face_data
from twin_dcal.data.splits import write_split
from twin_dcal.errors import ConfigError, ManifestError
from twin_dcal.evaluation import run as evaluation_flow
from twin_dcal.evaluation.compare import Run, open_stored
from twin_dcal.evaluation.evaluate import EvaluationOptions
from twin_dcal.evaluation.inputs import DataFiles, read_comparisons
from twin_dcal.evaluation.result import Figures
from twin_dcal.evaluation.sampling import Sampling
from twin_dcal.evaluation.systems import open_model
from twin_dcal.files import write_text
from twin_dcal.locking import locked
from twin_dcal.plural import plural
from twin_dcal.report.comparison import Overlaid, write_comparison_plot

from .runs import SPLIT_NAME, PlannedRun, check_images, plan_runs, split_of, standing_of, train_runs
from .summary import ScoredRun, summarize
from .tables import latex, markdown
from .variants import Variant

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What to train and how to compare it. seeds are 0 … num_seeds - 1; the split is drawn from runtime.seed."""

    config: TwinVerificationConfig
    variants: tuple[Variant, ...]
    num_seeds: int
    folder: Path
    num_replicates: int = 1000
    max_unrelated: int | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.num_seeds < 1:
            raise ConfigError(f"--seeds {self.num_seeds}: train with at least 1 seed")
        if self.max_unrelated is not None and self.max_unrelated < 1:
            raise ConfigError(f"--max_unrelated {self.max_unrelated}: keep at least 1 unrelated pair")
        if self.folder.is_file():
            raise ConfigError(f"--output_dir {self.folder} is a file; name a folder")

    @property
    def effort(self) -> EvaluationOptions:
        return EvaluationOptions(num_replicates=self.num_replicates, seed=self.config.runtime.seed)


def ablate(plan: Plan) -> Figures | None:
    """Train and evaluate every variant and seed, compare them, and write tables and plot into the folder.

    Finished runs of the same configuration are not repeated, others go on where they stopped. Returns: what
    ablation.json holds; None if training was asked to stop. Errors of data, folders and settings come before training,
    a ConfigError while another process works in the folder too.
    """
    with locked(plan.folder / ".ablation.lock", f"training and comparing in {plan.folder}"):
        return _ablate(plan)


def _ablate(plan: Plan) -> Figures | None:
    effort = plan.effort
    face_data = load_face_data(plan.config.data, plan.config.runtime.seed)
    _refuse_unusable_test(face_data, plan.config.data)
    runs = plan_runs(plan.config, plan.variants, plan.num_seeds, plan.folder)
    split = split_of(face_data)
    standings = [standing_of(run, split) for run in runs if not plan.overwrite]
    for run, standing in zip(runs, standings, strict=False):
        if standing == "finished":  # the others are looked at when they go on
            check_images(run, face_data)
    write_split(face_data, plan.folder / SPLIT_NAME)
    if not train_runs(runs, standings):
        return None
    sampling = Sampling(plan.max_unrelated, plan.config.runtime.seed)
    for run in runs:
        evaluate_run(run, effort, sampling)
    summary = summarize((_scored(run) for run in runs), effort)
    write_ablation(summary, plan.folder)
    return summary


def evaluate_run(run: PlannedRun, effort: EvaluationOptions, sampling: Sampling) -> None:
    """As `dcal-evaluate` does, into the run's folder `evaluation`."""
    logger.info("evaluating %s, seed %d", run.variant.name, run.seed)
    runtime = run.config.runtime
    system = open_model(
        str(run.best_model), runtime.device, _files(run.config.data), sampling,
        num_workers=runtime.num_workers, num_threads=runtime.num_threads,
    )  # fmt: skip
    evaluation_flow.run(
        system, _source(run.config.data), effort, evaluation_flow.Outputs(str(_evaluation(run)))
    )


def write_ablation(summary: Figures, folder: str | Path) -> None:
    """ablation.json (with every run's curves), ablation.md, ablation.tex, and the curves drawn."""
    home = Path(folder)
    write_text(
        home / "ablation.json", json.dumps(summary, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    )
    write_text(home / "ablation.md", markdown(summary))
    write_text(home / "ablation.tex", latex(summary))
    systems = [
        Overlaid(told["variant"].upper(), tuple(run["sections"] for run in told["runs"]))
        for told in summary["variants"]
    ]
    write_comparison_plot(systems, home, name="ablation_det")


def _scored(run: PlannedRun) -> ScoredRun:
    """The run's stored embeddings, which have just been written."""
    path = _evaluation(run) / "embeddings.npz"
    name = f"{run.variant.name}, seed {run.seed}"
    scored = open_stored(path, DataFiles(), Sampling()).scored(None, "test")
    report = json.loads((_evaluation(run) / "evaluation_report.json").read_text("utf-8"))
    about = {"folder": f"{run.variant.name}/seed{run.seed}", "model_sha256": report["model"]["sha256"]}
    return ScoredRun(run.variant, run.seed, Run(name, scored), about)


def _evaluation(run: PlannedRun) -> Path:
    return run.folder / "evaluation"


def _refuse_unusable_test(face_data: FaceData, data: DataConfig) -> None:
    """ManifestError, before anything is trained, where the test split could not be evaluated afterwards."""
    test = face_data.test
    if test.num_people < 2 or test.images_per_person.most < 2:
        raise ManifestError(
            f"the test split has {plural(test.num_people, 'person', 'people')} with "
            f"{plural(test.images_per_person.most, 'image')} at most; comparing "
            "needs 2 people, one of them with 2 images. Set data.test_fraction, or give it more."
        )
    read_comparisons(_source(data), _files(data), "test")


def _source(data: DataConfig) -> str:
    source = data.dataset_info or data.data_dir
    assert source is not None
    return source


def _files(data: DataConfig) -> DataFiles:
    """As dcal-train reads them: people of the JSON file, images under data_root or else the folder."""
    root = data.data_root or (data.data_dir if data.dataset_info else None)
    return DataFiles(data.dataset_info, data.twin_pairs, root, data.strict)
