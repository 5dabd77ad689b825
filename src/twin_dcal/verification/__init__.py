"""From embeddings to decisions: pair scores, error rates, calibration and the evaluation report.

Import from the modules themselves; `metrics`, `scores`, `calibration` and `report` need numpy only.
"""
