#!/usr/bin/env python
"""Train a verifier; the same as the command `dcal-train`."""

import sys

from twin_dcal.cli.start import train

if __name__ == "__main__":
    sys.exit(train())
