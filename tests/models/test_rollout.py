"""Attention rollout against explicit matrix products in loops (docs/method.md), and the tokens it selects."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import attention_oracle as oracle

from twin_dcal.models import rollout
from twin_dcal.models.rollout import QueryKey, rollout_cls, top_tokens


def random_layers(num_layers=3, num_images=5, num_heads=2, num_tokens=7, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (num_images, num_heads, num_tokens, 4)
    return [
        QueryKey(*(1.5 * torch.randn(shape, generator=generator).to(dtype) for _ in "qk"))
        for _ in range(num_layers)
    ]


def explicit(layers):
    """Ŝ of every image, (B, T, T), from the loops."""
    num_images = len(layers[0].q)
    return torch.as_tensor(
        np.stack(
            [oracle.rollout([(q[i].double(), k[i].double()) for q, k in layers]) for i in range(num_images)]
        )
    )


@pytest.mark.parametrize("num_layers", [1, 2, 4])
def test_the_cls_row_is_row_0_of_the_matrix_product(num_layers):
    layers = random_layers(num_layers)
    product = explicit(layers)
    row = rollout_cls(layers)
    assert row.dtype == torch.float32
    torch.testing.assert_close(row.double(), product[:, 0], rtol=0, atol=1e-6)
    # The order of the blocks matters, and so does which row is read: the test can tell.
    if num_layers > 1:
        assert (explicit(layers[::-1])[:, 0] - product[:, 0]).abs().max() > 1e-2
    assert (product[:, 1] - product[:, 0]).abs().max() > 1e-2


def test_rows_of_one_block_and_of_the_rollout_sum_to_1():
    layers = random_layers(4)
    mixed = oracle.mixed_with_identity(layers[0].q[0], layers[0].k[0])
    np.testing.assert_allclose(mixed.sum(1), 1, atol=1e-12)
    torch.testing.assert_close(explicit(layers).sum(2), torch.ones(5, 7, dtype=torch.float64))
    row = rollout_cls(layers)
    torch.testing.assert_close(row.sum(1), torch.ones(5))
    assert (row >= 0).all()


@pytest.mark.parametrize("scores_at_once", [1, 2 * 7 * 7, 2 * 2 * 7 * 7, 1 << 30])
def test_chunks_do_not_change_the_rollout(monkeypatch, scores_at_once):
    layers = random_layers()
    wanted = explicit(layers)[:, 0]
    monkeypatch.setattr(rollout, "_SCORES_AT_ONCE", {"cpu": scores_at_once, "other": scores_at_once})
    torch.testing.assert_close(rollout_cls(layers).double(), wanted, rtol=0, atol=1e-6)


def test_half_precision_queries_and_keys_stay_close():
    layers = random_layers(num_layers=4, dtype=torch.bfloat16)
    row = rollout_cls(layers)
    assert row.dtype == torch.float32
    torch.testing.assert_close(row.double(), explicit(layers)[:, 0], rtol=0, atol=4e-3)
    torch.testing.assert_close(row.sum(1), torch.ones(5), rtol=0, atol=1e-5)


def test_rows_sum_to_1_under_autocast():
    layers = random_layers(num_layers=4, num_tokens=17)
    with torch.autocast("cpu", torch.bfloat16):
        row = rollout_cls(layers)
    torch.testing.assert_close(row.sum(1), torch.ones(5), rtol=0, atol=1e-5)


def test_rollout_has_no_gradient_and_leaves_its_input_alone():
    layers = [QueryKey(q.requires_grad_(), k.requires_grad_()) for q, k in random_layers(2)]
    copies = [QueryKey(q.detach().clone(), k.detach().clone()) for q, k in layers]
    assert not rollout_cls(layers).requires_grad
    for layer, copy in zip(layers, copies, strict=True):
        assert torch.equal(layer.q, copy.q)
        assert torch.equal(layer.k, copy.k)


def test_no_blocks_is_an_error():
    with pytest.raises(ValueError, match="at least one block"):
        rollout_cls([])


@settings(deadline=None)
@given(
    num_prefix=st.integers(1, 5),
    num_patches=st.integers(1, 30),
    ratio=st.floats(0.01, 1),
    seed=st.integers(0, 1000),
)
def test_cls_then_the_highest_patches_never_registers(num_prefix, num_patches, ratio, seed):
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(3, num_prefix + num_patches, generator=generator)
    values[:, :num_prefix] += 10  # CLS and registers always weigh most
    num_kept = max(1, round(ratio * num_patches))
    kept = top_tokens(values, num_prefix, ratio)
    assert kept.tolist() == [oracle.kept_tokens(row.tolist(), num_prefix, num_kept) for row in values]


def test_ties_keep_the_right_number_of_different_patches():
    kept = top_tokens(torch.full((2, 12), 1 / 12), num_prefix=3, ratio=0.5)
    assert kept.shape == (2, 1 + round(0.5 * 9))
    for row in kept.tolist():
        assert row[0] == 0
        assert len(set(row)) == len(row)
        assert min(row[1:]) >= 3


def test_all_patches_are_kept_at_ratio_1_and_one_at_a_tiny_ratio():
    values = torch.rand(2, 11)
    assert sorted(top_tokens(values, 2, 1.0)[0].tolist()) == [0, *range(2, 11)]
    assert top_tokens(values, 2, 1e-6).shape == (2, 2)
