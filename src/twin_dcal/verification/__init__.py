"""From embeddings to decisions: pair scores, error rates, calibration and the evaluation report.

Import from the modules themselves. All but `embeddings` and `speed` load without torch; what computes a
figure (`metrics`, `intervals`, `calibration`, `figures`, `people` and those below them) needs numpy only.
"""
