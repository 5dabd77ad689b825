"""How much memory a network that comes from a file may compute with. No torch here."""

import os

_ALWAYS = 8 * 2**20
_PER_PIXEL = 64 * 2**10
"""Of a picture; four at once through a ViT of 8-pixel patches take some 40 thousand at 512 pixels a side."""


def room(num_bytes: int, rows: int, columns: int) -> int:
    """Bytes for a network whose weights take `num_bytes`, with pictures of rows x columns pixels: far more than any
    network for faces needs, and never more than half of this machine's memory beside its weights."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 2**36
    return 2 * num_bytes + min(_ALWAYS + _PER_PIXEL * rows * columns, machine // 2)
