"""A report to look at: `html.write_report` turns an `Evaluation` into one self-contained page and plot files.

Nothing here computes a figure; what is drawn was handed over in `evaluation.result.Evaluation`.
"""
