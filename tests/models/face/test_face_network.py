"""What a face network tells of its stages."""

import pytest
from torch import nn

from twin_dcal.models.face.network import FaceInput, FaceNetwork


class Halving(FaceNetwork):
    """Four stages, each of which halves its map: rounded up with a padding of 1, down without."""

    def __init__(self, size, padding):
        super().__init__()
        self.input = FaceInput(size)
        kernel = 3 if padding else 2
        self.stages = nn.ModuleList(nn.Conv2d(3, 3, kernel, 2, padding) for _ in range(4))
        self.head = nn.Flatten()
        self.measure()


@pytest.mark.parametrize(
    ("padding", "grids"),
    [(1, ((28, 24), (14, 12), (7, 6), (4, 3))), (0, ((28, 24), (14, 12), (7, 6), (3, 3)))],
    ids=["rounded up", "rounded down"],
)
def test_strides_double_where_a_map_of_7_rows_becomes_one_of_4_or_of_3(padding, grids):
    network = Halving((56, 48), padding)
    assert network.grids == grids
    assert network.strides == (2, 4, 8, 16)
    assert network.embedding_dim == 3 * grids[-1][0] * grids[-1][1]
