"""A report to look at: `html.write_report` turns an `Evaluation` into one self-contained page and plot files.

Nothing here computes a figure; what is drawn was handed over in `evaluation.result.Evaluation`.
"""

from twin_dcal.environment import ignore_wrong_backend

ignore_wrong_backend()  # before matplotlib, which modules here import
