"""Steps of a pre-norm transformer block, so that other attentions can run with its weights.

A timm `Block` is used as it is; these functions are its forward pass cut at the attention.
Legend: B images, T tokens, Q query tokens, H heads, D head width, C = H·D.
"""

from collections.abc import Callable

import torch.nn.functional as F
from timm.layers import Attention
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from twin_dcal.errors import ModelError

from .attention import merge_heads, split_heads

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def is_plain(block: nn.Module) -> bool:
    """Whether a block's forward pass is the one these functions cut."""
    attention = getattr(block, "attn", None)
    return type(block) is Block and type(attention) is Attention and not getattr(attention, "gate", None)


def check_block(block: nn.Module, backbone: str) -> Block:
    """The block, if its forward pass is the one these functions cut. ModelError otherwise."""
    if not is_plain(block) or not isinstance(block, Block):
        kind = f"{type(block).__name__} with {type(getattr(block, 'attn', None)).__name__}"
        raise ModelError(
            f"backbone '{backbone}' has blocks of type {kind}; only timm's plain pre-norm Block is supported. "
            "Use a ViT or DeiT such as vit_small_patch16_224, or a convolutional backbone."
        )
    return block


def project_qkv(block: Block, x_BTC: Tensor, num_streams: int = 1) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Queries, keys and values of every token, each (B / num_streams, H, T, D), for each stacked stream.

    One projection for all. Streams are cut with `chunk`, whose gradient is one concatenation; slices would each
    fill a tensor of zeros.
    """
    attention = block.attn
    streams = []
    qkv_STE = attention.qkv(block.norm1(x_BTC))
    for qkv_BTE in qkv_STE.chunk(num_streams) if num_streams > 1 else [qkv_STE]:
        qkv_BT3HD = qkv_BTE.unflatten(-1, (3, attention.num_heads, attention.head_dim))
        q_BHTD, k_BHTD, v_BHTD = qkv_BT3HD.permute(2, 0, 3, 1, 4).unbind(0)
        streams.append((attention.q_norm(q_BHTD), attention.k_norm(k_BHTD), v_BHTD))
    return streams


def finish(block: Block, x_BTC: Tensor, attended_BTC: Tensor) -> Tensor:
    """Projection, residual, feed-forward, residual: the block's output for the tokens `x_BTC`.

    `attended_BTC` is the attention's output with its heads merged.
    """
    return feed_forward(block, add_attended(block, x_BTC, attended_BTC))


def add_attended(block: Block, x_BTC: Tensor, attended_BTC: Tensor) -> Tensor:
    """The first half of `finish`: projection and residual."""
    attention = block.attn
    projected_BTC = attention.proj_drop(attention.proj(attention.norm(attended_BTC)))
    out_BTC: Tensor = x_BTC + block.drop_path1(block.ls1(projected_BTC))
    return out_BTC


def feed_forward(block: Block, x_BTC: Tensor) -> Tensor:
    """The second half of `finish`: feed-forward layer and residual."""
    out_BTC: Tensor = x_BTC + block.drop_path2(block.ls2(block.mlp(block.norm2(x_BTC))))
    return out_BTC


def query_block(block: Block, x_BQC: Tensor, context_BTC: Tensor, attend: Attend) -> Tensor:
    """The block's output for some tokens only: queries from `x_BQC`, keys and values from all of the context.

    Queries are projected for the Q tokens alone; this is GLCA's shape, and PWCA's in the last block, whose
    CLS token is all that is used. Returns (B, Q, C).
    """
    attention = block.attn
    weight_q, weight_kv = attention.qkv.weight.tensor_split([attention.num_heads * attention.head_dim])
    bias_q, bias_kv = (None, None)
    if attention.qkv.bias is not None:
        bias_q, bias_kv = attention.qkv.bias.tensor_split([attention.num_heads * attention.head_dim])
    q_BHQD = split_heads(F.linear(block.norm1(x_BQC), weight_q, bias_q), attention.num_heads)
    key_BTC, value_BTC = F.linear(block.norm1(context_BTC), weight_kv, bias_kv).chunk(2, dim=-1)
    k_BHTD, v_BHTD = (split_heads(x, attention.num_heads) for x in (key_BTC, value_BTC))
    attended_BHQD = attend(attention.q_norm(q_BHQD), attention.k_norm(k_BHTD), v_BHTD)
    return finish(block, x_BQC, merge_heads(attended_BHQD))


def attention_dropout(block: Block) -> float:
    """Probability on attention weights right now: 0 outside training."""
    return float(block.attn.attn_drop.p) if block.training else 0.0
