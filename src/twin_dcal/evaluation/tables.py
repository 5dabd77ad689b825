"""Error tables of an evaluation as CSV files: families, people, worst pairs."""

from dataclasses import asdict
from pathlib import Path

from twin_dcal.csvfile import csv_of_records
from twin_dcal.files import write_text

from .result import Evaluation


def write_tables(evaluation: Evaluation, folder: str | Path) -> None:
    """Write families.csv, people.csv and worst_pairs.csv, those that have rows; readable by their owner only."""
    families = [{**asdict(row), "people": " ".join(row.people)} for row in evaluation.families]
    people = [asdict(row) for row in evaluation.people]
    worst = [asdict(row) for row in (*evaluation.false_matches, *evaluation.false_non_matches)]
    for name, rows in (("families", families), ("people", people), ("worst_pairs", worst)):
        path = Path(folder) / f"{name}.csv"
        if rows:
            write_text(path, csv_of_records(rows))
        else:
            path.unlink(missing_ok=True)  # of an earlier evaluation
