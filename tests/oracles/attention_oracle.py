"""Loops that restate docs/method.md on float64 arrays of one image at a time; never imports twin_dcal or torch.

`weights` maps a state dict's names to arrays. Legend: T tokens, H heads, D head width, C = H·D.
"""

import math

import numpy as np


def softmax(scores):
    largest = max(scores)
    powers = [math.exp(score - largest) for score in scores]
    return [power / sum(powers) for power in powers]


def attention_matrix(q_QD, k_SD):
    """softmax(q kᵀ / √D), one row per query."""
    scale = 1 / math.sqrt(len(q_QD[0]))
    matrix = []
    for q in q_QD:
        scores = [scale * sum(float(a) * float(b) for a, b in zip(q, k, strict=True)) for k in k_SD]
        matrix.append(softmax(scores))
    return matrix


def attend(q_HQD, k_HSD, v_HSD):
    out = np.zeros(np.shape(q_HQD))
    for head in range(len(q_HQD)):
        for row, shares in enumerate(attention_matrix(q_HQD[head], k_HSD[head])):
            for share, v in zip(shares, v_HSD[head], strict=True):
                out[head, row] += share * v
    return out


def pair_attend(q_BHQD, k_BHTD, v_BHTD, partner):
    """Image i over its own tokens followed by those of image partner[i]."""
    out = []
    for i, j in enumerate(partner):
        keys = [[*k_BHTD[i][h], *k_BHTD[j][h]] for h in range(len(q_BHQD[i]))]
        values = [[*v_BHTD[i][h], *v_BHTD[j][h]] for h in range(len(q_BHQD[i]))]
        out.append(attend(q_BHQD[i], keys, values))
    return np.stack(out)


def mixed_with_identity(q_HTD, k_HTD):
    """S̄ = ½ mean_h(P_h) + ½ I of one block, a T×T matrix."""
    num_heads, num_tokens = len(q_HTD), len(q_HTD[0])
    matrix = 0.5 * np.eye(num_tokens)
    for head in range(num_heads):
        matrix += 0.5 / num_heads * np.array(attention_matrix(q_HTD[head], k_HTD[head]))
    return matrix


def rollout(layers):
    """Ŝ = S̄_L … S̄_1 of [(q, k), …], first block first, by the definition of a matrix product."""
    product = None
    for q_HTD, k_HTD in layers:
        left = mixed_with_identity(q_HTD, k_HTD)
        if product is None:
            product = left
            continue
        size = len(left)
        new = np.zeros((size, size))
        for i in range(size):
            for j in range(size):
                for m in range(size):
                    new[i, j] += left[i, m] * product[m, j]
        product = new
    return product


def kept_tokens(rollout_row, num_prefix, num_kept):
    """CLS, then the patches with the highest rollout."""
    patches = range(num_prefix, len(rollout_row))
    return [0, *sorted(patches, key=lambda token: -rollout_row[token])[:num_kept]]


def layer_norm(rows, weights, name, eps=1e-6):
    out = []
    for row in rows:
        mean = sum(row) / len(row)
        variance = sum((x - mean) ** 2 for x in row) / len(row)
        out.append((row - mean) / math.sqrt(variance + eps))
    return np.stack(out) * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def linear(rows, weights, name):
    return rows @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def gelu(rows):
    return np.vectorize(lambda x: x * 0.5 * (1 + math.erf(x / math.sqrt(2))))(rows)


def heads_of(rows_TE, num_heads):
    """(T, C) to (H, T, D)."""
    width = rows_TE.shape[1] // num_heads
    return np.stack([rows_TE[:, h * width : (h + 1) * width] for h in range(num_heads)])


def queries_keys_values(x_TC, weights, block, num_heads):
    projected = linear(layer_norm(x_TC, weights, f"{block}.norm1"), weights, f"{block}.attn.qkv")
    q, k, v = (heads_of(part, num_heads) for part in np.split(projected, 3, axis=1))
    if f"{block}.attn.q_norm.weight" in weights:
        q = np.stack([layer_norm(head, weights, f"{block}.attn.q_norm") for head in q])
        k = np.stack([layer_norm(head, weights, f"{block}.attn.k_norm") for head in k])
    return q, k, v


def run_block(rows_QC, contexts, weights, block, num_heads):
    """A pre-norm block's output for `rows_QC`, attending to all tokens of all `contexts` under one softmax."""
    q, _, _ = queries_keys_values(rows_QC, weights, block, num_heads)
    parts = [queries_keys_values(context, weights, block, num_heads) for context in contexts]
    keys = [[row for _, k, _ in parts for row in k[h]] for h in range(num_heads)]
    values = [[row for _, _, v in parts for row in v[h]] for h in range(num_heads)]
    attended_QC = np.concatenate(list(attend(q, keys, values)), axis=1)
    x = rows_QC + linear(attended_QC, weights, f"{block}.attn.proj") * weights.get(f"{block}.ls1.gamma", 1)
    hidden = gelu(linear(layer_norm(x, weights, f"{block}.norm2"), weights, f"{block}.mlp.fc1"))
    return x + linear(hidden, weights, f"{block}.mlp.fc2") * weights.get(f"{block}.ls2.gamma", 1)


def self_attention_stream(x_TC, weights, prefix, num_blocks, num_heads):
    """Tokens that leave the last block, and (q, k) of every block."""
    layers = []
    for index in range(num_blocks):
        block = f"{prefix}blocks.{index}"
        layers.append(queries_keys_values(x_TC, weights, block, num_heads)[:2])
        x_TC = run_block(x_TC, [x_TC], weights, block, num_heads)
    return x_TC, layers


def pair_stream(x_BTC, partner, weights, prefix, num_blocks, num_heads, *, distractor="same layer"):
    """PWCA's CLS embeddings: all images go through the blocks together, each with its distractor.

    `distractor` other than "same layer" gives wrong readings of the paper, to show that a test can tell them:
    "first layer" never lets the distractor evolve, "alone" lets it evolve by self-attention.
    """
    start, alone, now = list(x_BTC), list(x_BTC), list(x_BTC)
    for index in range(num_blocks):
        block = f"{prefix}blocks.{index}"
        others = {"same layer": now, "first layer": start, "alone": alone}[distractor]
        following = []
        for i, j in enumerate(partner):
            following.append(run_block(now[i], [now[i], others[j]], weights, block, num_heads))
        if distractor == "alone":
            alone = [run_block(x, [x], weights, block, num_heads) for x in alone]
        now = following
    return np.stack([layer_norm(x[:1], weights, f"{prefix}norm")[0] for x in now])


def global_local(x_TC, weights, prefix, num_blocks, num_heads, *, num_prefix, num_kept, pool):
    """GLCA's embedding of one image: rollout, kept queries over all tokens, the block's own weights, norm."""
    tokens, layers = self_attention_stream(x_TC, weights, prefix, num_blocks, num_heads)
    kept = kept_tokens(rollout(layers)[0], num_prefix, num_kept)
    out = run_block(tokens[kept], [tokens], weights, "glca_block", num_heads)
    out = layer_norm(out, weights, "glca_norm")
    return out[0] if pool == "cls" else out.mean(0)
