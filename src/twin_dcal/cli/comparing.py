"""`dcal-evaluate --compare`: several systems, and their fusion, on the same pairs."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from twin_dcal.errors import ConfigError

if TYPE_CHECKING:
    from twin_dcal.evaluation.compare import Run
    from twin_dcal.evaluation.evaluate import EvaluationOptions


def compare_runs(
    options: argparse.Namespace, run_of: Callable[[str, str], "Run"], effort: "EvaluationOptions", no_model: str
) -> int:  # fmt: skip
    """Compare, print and write.

    Args: run_of: a run by its path and split, "test" or "val"; no_model: the ConfigError where pictures are to be
    aligned and no run embeds any.
    """
    from twin_dcal.evaluation import compare
    from twin_dcal.evaluation.comparison_table import markdown
    from twin_dcal.evaluation.disagreement import disagreement, disagreement_csv
    from twin_dcal.files import write_text

    found = [compare.find_run(path) for path in options.compare]
    if options.align != "never" and not any(path.suffix == ".pth" for path in found):
        raise ConfigError(no_model)
    runs, fusion = [run_of(path, "test") for path in options.compare], None
    if options.fuse:
        from twin_dcal.evaluation.fuse import fused

        one, fusion = fused(runs, [run_of(path, "val") for path in options.fuse])
        runs.append(one)
    comparison = compare.compare(runs, effort)
    if fusion is not None:
        comparison["fusion"] = fusion.to_dict()
    disagreed = [disagreement(runs[0], run) for run in runs[1:]]
    comparison["disagreement"] = [figures for figures, _ in disagreed if figures is not None]
    pairs = [pair for _, some in disagreed for pair in some]
    written = compare.write_comparison(comparison, options.output_dir)
    table = Path(options.output_dir) / "disagreements.csv"
    if pairs:
        write_text(table, disagreement_csv(pairs))
    else:
        table.unlink(missing_ok=True)  # of an earlier comparison
    print(markdown(comparison))
    if options.visualize:
        from twin_dcal.report.comparison import systems_of, write_comparison_plot
        from twin_dcal.report.comparison_page import write_comparison_page

        page = write_comparison_page(
            comparison, markdown(comparison), pairs, options.output_dir, images=not options.no_images,
            blur=options.blur_images, root=options.data_root or options.data_dir,
        )  # fmt: skip
        print(f"page: {page}")
        drawn = write_comparison_plot(systems_of(comparison), options.output_dir)
        print(f"curves: {', '.join(map(str, drawn))}")
    print(f"comparison: {written}")
    return 0
