"""Error rates of a verifier, exact with ties, and what they support: thresholds, calibration, intervals. numpy only.

Import from the modules themselves.
"""
