"""Random tables of tensors in a given layout, such that activations stay of order one."""

import math

import torch


def random_table(shapes, seed=0):
    """Name to tensor; a (name, shape) table goes in."""
    generator = torch.Generator().manual_seed(seed)
    table = {}
    for name, shape in sorted(shapes.items()):
        noise = torch.randn(shape, generator=generator)
        if name.endswith("num_batches_tracked"):
            table[name] = torch.tensor(100)
        elif name.endswith("running_var"):
            table[name] = 0.5 + noise.abs()
        elif len(shape) >= 2:
            table[name] = noise / math.sqrt(math.prod(shape[1:]))
        elif name.endswith("weight"):
            table[name] = 1 + 0.3 * noise
        else:
            table[name] = 0.3 * noise
    return table
