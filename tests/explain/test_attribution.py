"""Attribution against loops, closed forms, and embeddings that see one planted place only."""

import numpy as np
import pytest
import torch

from twin_dcal.explain.attribution import cell_sums, hide_cells, integrated_gradients, windows
from twin_dcal.explain.pair import matched_regions

SIZE, GRID = 24, 4


def pair_of(seed, size=SIZE):
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(seed))


def linear_embed(seed=0, size=SIZE):
    """Unit rows of a fixed random map of all pixels."""
    weights = torch.randn(3 * size * size, 5, generator=torch.Generator().manual_seed(seed))
    return lambda images: torch.nn.functional.normalize(images.flatten(1) @ weights + 3, dim=-1)


def patch_embed(rows, columns):
    """Unit rows that depend on nothing but one patch of the picture."""

    def embed(images):
        patch = images[:, :, rows, columns].flatten(2).mean(2)
        return torch.nn.functional.normalize(torch.cat([patch, torch.ones(len(patch), 1)], 1), dim=-1)

    return embed


def test_windows_cover_the_picture_once_and_are_soft_at_inner_edges():
    cells = windows(GRID, SIZE)
    inside = cells.sum(0)[2:-2, 2:-2]
    torch.testing.assert_close(inside, torch.ones_like(inside), atol=0.05, rtol=0)
    assert cells[5][8, 8] > 0.9  # cell (1, 1) holds pixels 6 to 11
    assert cells[5][8, 12] < 0.4
    assert cells[5][8, 20] < 0.01


def test_hidden_cells_equal_a_loop_over_cells():
    pair, embed = pair_of(0), linear_embed()
    found = hide_cells(embed, pair, GRID)
    one, two = embed(pair)
    by_place, by_picture, alone = [], [[], []], [[], []]
    for window in windows(GRID, SIZE):
        hidden = [(1 - window) * picture + window * picture.mean((1, 2), keepdim=True) for picture in pair]
        first, second = (embed(picture[None])[0] for picture in hidden)
        by_place.append(one @ two - first @ second)
        by_picture[0].append(one @ two - first @ two)
        by_picture[1].append(one @ two - one @ second)
        alone[0].append(first)
        alone[1].append(second)
    torch.testing.assert_close(found.by_place(), torch.stack(by_place))
    torch.testing.assert_close(found.by_picture(), torch.tensor(by_picture))
    shares = found.shares()
    torch.testing.assert_close(shares.sum(0), found.by_place())
    torch.testing.assert_close(
        shares[0] - shares[1], torch.tensor(by_picture[0]) - torch.tensor(by_picture[1])
    )
    m, n = 3, 9
    first, second = alone[0][m], alone[1][n]
    wanted = one @ two - first @ two - one @ second + first @ second
    torch.testing.assert_close(found.interactions()[m, n], wanted)


def test_integrated_gradients_share_out_all_that_makes_a_pair_different():
    pair, embed = pair_of(1), linear_embed(1)
    one, two = embed(pair)
    total = integrated_gradients(embed, pair, GRID, 200).sum()
    torch.testing.assert_close(total, one @ two - 1, rtol=1e-3, atol=1e-3)
    assert one @ two < 0.9


def test_gradients_are_nothing_where_the_two_pictures_agree():
    """The path begins at their mean picture, so pixels they share never move."""
    pair = pair_of(4)
    pair[1, :, 12:] = pair[0, :, 12:]
    gradients = integrated_gradients(linear_embed(4), pair, GRID, 8)
    assert gradients[:, :2].abs().max() > 1e-3
    assert gradients[:, 2:].abs().max() < 1e-6


@pytest.mark.parametrize("place", [(1, 2), (3, 0)])
def test_only_a_planted_patch_counts(place):
    """The pictures differ everywhere; the embedding sees one cell, so both methods name it and call it "different"."""
    rows, columns = (slice(6 * at, 6 * at + 6) for at in place)
    pair, embed = pair_of(2), patch_embed(rows, columns)
    pair[0, 0, rows, columns] += 2
    pair[1, 1, rows, columns] += 2
    gradients = integrated_gradients(embed, pair, GRID, 8)
    elsewhere = gradients.clone()
    elsewhere[:, place[0], place[1]] = 0
    assert elsewhere.abs().max() < 1e-6
    hidden = hide_cells(embed, pair, GRID)
    for map_ in (*gradients, *hidden.shares().reshape(2, GRID, GRID), hidden.by_place().reshape(GRID, GRID)):
        assert divmod(int(map_.argmin()), GRID) == place
        assert map_.min() < -0.05


def test_what_two_pictures_share_supports_same():
    rows = columns = slice(6, 12)
    pair = pair_of(3)
    pair[:, :, rows, columns] += torch.tensor([3.0, -3.0, 3.0])[:, None, None]

    def embed(images):
        inside = images[:, :, rows, columns].flatten(2).mean(2)
        outside = images[:, :, 12:].flatten(2).mean(2) * 5
        return torch.nn.functional.normalize(torch.cat([inside, outside], 1), dim=-1)

    by_place = hide_cells(embed, pair, GRID).by_place().reshape(GRID, GRID)
    assert divmod(int(by_place.argmax()), GRID) == (1, 1)
    assert by_place.max() > 0


def test_cell_sums_keep_the_total_whatever_the_grid():
    values = torch.randn(2, 10, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(cell_sums(values, 5), values.reshape(2, 5, 2, 5, 2).sum((2, 4)))
    uneven = cell_sums(values, 3)
    torch.testing.assert_close(uneven.sum((1, 2)), values.sum((1, 2)))
    wanted = (
        values[0, :3, :3].sum() + (values[0, 3, :3].sum() + values[0, :3, 3].sum()) / 3 + values[0, 3, 3] / 9
    )
    torch.testing.assert_close(uneven[0, 0, 0], wanted)


def test_regions_match_where_each_is_the_others_strongest():
    interactions = np.zeros((9, 9))
    interactions[0, 4], interactions[8, 2], interactions[1, 4] = 0.5, -0.9, 0.3
    matches = matched_regions(interactions, 3, 5)
    assert [(match.first, match.second, match.strength) for match in matches] == [
        ((2, 2), (0, 2), -0.9),
        ((0, 0), (1, 1), 0.5),
    ]
    assert len(matched_regions(interactions, 3, 1)) == 1
