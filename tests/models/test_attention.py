"""Attention functions against loops, their identities (docs/method.md), and the choice of distractors."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import attention_oracle as oracle

from twin_dcal.models.attention import attend, merge_heads, pair_attend, random_partners, split_heads


def qkv(num_images=3, num_queries=5, num_tokens=5, seed=0, scale=1.5):
    generator = torch.Generator().manual_seed(seed)
    sizes = (num_queries, num_tokens, num_tokens)
    return [
        scale * torch.randn(num_images, 2, size, 4, dtype=torch.float64, generator=generator)
        for size in sizes
    ]


def test_heads_are_cut_like_the_columns_of_a_linear_layer_and_put_back():
    x_BTC = torch.randn(2, 5, 12)
    x_BHTD = split_heads(x_BTC, 3)
    assert x_BHTD.shape == (2, 3, 5, 4)
    assert torch.equal(x_BHTD[1, 2, 4], x_BTC[1, 4, 8:])
    assert torch.equal(merge_heads(x_BHTD), x_BTC)


def test_attend_equals_the_loops():
    q, k, v = qkv(num_queries=3)
    wanted = np.stack([oracle.attend(*(x[i].numpy() for x in (q, k, v))) for i in range(3)])
    torch.testing.assert_close(attend(q, k, v), torch.as_tensor(wanted))


@pytest.mark.parametrize("partner", [[1, 2, 0], [2, 0, 1], [1, 0, 1], [0, 1, 2]])
def test_pair_attend_equals_the_loops(partner):
    q, k, v = qkv(num_queries=2)
    wanted = oracle.pair_attend(q.numpy(), k.numpy(), v.numpy(), partner)
    torch.testing.assert_close(pair_attend(q, k, v, torch.tensor(partner)), torch.as_tensor(wanted))


def test_an_image_as_its_own_distractor_is_self_attention():
    q, k, v = qkv()
    torch.testing.assert_close(pair_attend(q, k, v, torch.arange(3)), attend(q, k, v), rtol=0, atol=1e-12)
    assert not torch.allclose(pair_attend(q, k, v, torch.tensor([1, 2, 0])), attend(q, k, v), atol=1e-2)


def test_rows_of_attention_do_not_depend_on_other_queries():
    q, k, v = qkv(num_queries=5)
    rows = torch.tensor([0, 3, 1])
    torch.testing.assert_close(attend(q[:, :, rows], k, v), attend(q, k, v)[:, :, rows], rtol=0, atol=1e-12)


def test_gradients_are_the_true_ones():
    tensors = [x.requires_grad_() for x in qkv(num_images=2, num_queries=2, num_tokens=3)]
    assert torch.autograd.gradcheck(attend, tensors)
    assert torch.autograd.gradcheck(lambda q, k, v: pair_attend(q, k, v, torch.tensor([1, 0])), tensors)


def test_dropout_acts_on_the_attention_weights():
    q, k, _ = qkv(num_tokens=8)
    ones = torch.ones_like(k)
    torch.manual_seed(0)
    dropped = attend(q, k, ones, 0.5)
    assert (dropped - 1).abs().max() > 0.1
    torch.testing.assert_close(attend(q, k, ones), torch.ones_like(q))
    paired = pair_attend(q, k, ones, torch.tensor([1, 2, 0]), 0.5)
    assert (paired - 1).abs().max() > 0.1


@settings(deadline=None)
@given(st.integers(2, 40), st.integers(0, 2**31))
def test_every_image_has_one_distractor_that_is_not_itself(num_images, seed):
    partner = random_partners(num_images, torch.Generator().manual_seed(seed))
    assert partner.dtype == torch.int64
    assert sorted(partner.tolist()) == list(range(num_images))
    assert all(j != i for i, j in enumerate(partner.tolist()))


def test_distractors_are_random_uniform_and_repeatable():
    generator = torch.Generator().manual_seed(1)
    counts = torch.zeros(4, 4)
    for _ in range(1200):
        counts[torch.arange(4), random_partners(4, generator)] += 1
    off_diagonal = counts[~torch.eye(4, dtype=torch.bool)]
    assert off_diagonal.min() > 330  # 400 expected, deviation 16
    assert off_diagonal.max() < 470
    first, again = (random_partners(9, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, again)


@pytest.mark.parametrize("num_images", [0, 1])
def test_one_image_has_no_distractor(num_images):
    with pytest.raises(ValueError, match=f"a pair needs 2 images, the batch has {num_images}"):
        random_partners(num_images)
