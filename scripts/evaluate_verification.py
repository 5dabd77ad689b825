#!/usr/bin/env python
"""Evaluate a checkpoint; the same as the command `dcal-evaluate`."""

import sys

from twin_dcal.cli.start import evaluate

if __name__ == "__main__":
    sys.exit(evaluate())
