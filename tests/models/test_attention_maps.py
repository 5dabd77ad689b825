"""Attention maps against loops over the whole network."""

import numpy as np
import torch
from oracles import attention_oracle as oracle
from tiny_vits import REGISTERS

from twin_dcal.explain.attention import attention_maps

HEADS, BLOCKS = 2, 3


def by_loops(model, images):
    """Rollout of SA's class token over the patches, and GLCA's class attention over them, (B, 3, 3) each."""
    weights = {key: value.detach().double().numpy() for key, value in model.state_dict().items()}
    rollouts, attended = [], []
    for x_TC in model.backbone.tokens(images).detach().numpy():
        tokens, layers = oracle.self_attention_stream(x_TC, weights, "backbone.vit.", BLOCKS, HEADS)
        rollouts.append(oracle.rollout(layers)[0])
        q_HTD, k_HTD, _ = oracle.queries_keys_values(tokens, weights, "glca_block", HEADS)
        rows = [oracle.attention_matrix(q_HTD[head][:1], k_HTD[head])[0] for head in range(HEADS)]
        attended.append(np.mean(rows, axis=0))
    prefix = model.backbone.num_prefix
    return tuple(np.array(rows)[:, prefix:].reshape(-1, 3, 3) for rows in (rollouts, attended))


def test_maps_equal_the_loops(tiny_model, images):
    model = tiny_model(REGISTERS, local_ratio=0.3).eval()
    rollout, attended = by_loops(model, images)
    maps = attention_maps(model, images)
    torch.testing.assert_close(maps.rollout, torch.as_tensor(rollout).float(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(maps.glca, torch.as_tensor(attended).float(), rtol=1e-5, atol=1e-6)
    for row, chosen in zip(rollout, maps.glca_chosen, strict=True):  # three of nine: the highest
        assert set(np.argsort(row.ravel())[-3:]) == set(np.flatnonzero(chosen.numpy().ravel()))


def test_a_model_without_glca_has_a_rollout_alone(tiny_model, images):
    maps = attention_maps(tiny_model(branches=("sa",)).eval(), images)
    assert maps.rollout.shape == (4, 3, 3)
    assert maps.glca is None
    assert maps.glca_chosen is None
