#!/usr/bin/env python
"""Decide on two pictures; the same as the command `dcal-demo`."""

import sys

from twin_dcal.cli.start import demo

if __name__ == "__main__":
    sys.exit(demo())
