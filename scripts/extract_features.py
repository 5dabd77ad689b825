#!/usr/bin/env python
"""Features of a folder of pictures; the same as the command `dcal-extract`."""

import sys

from twin_dcal.cli.start import extract

if __name__ == "__main__":
    sys.exit(extract())
