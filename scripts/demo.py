#!/usr/bin/env python
"""Decide on two pictures; the same as the command `dcal-verify`."""

import sys

from twin_dcal.cli.start import verify

if __name__ == "__main__":
    sys.exit(verify())
