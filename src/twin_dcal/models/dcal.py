"""The Dual Cross-Attention model for 1:1 verification (Zhu et al., CVPR 2022; docs/method.md).

Legend: B images, T tokens, K kept tokens, C width.
"""

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, Self, TypeVar

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from twin_dcal.config import Branch, TwinVerificationConfig
from twin_dcal.errors import ModelError
from twin_dcal.image_size import ImageSize, image_size_of

from .attention import attend, merge_heads, pair_attend, random_partners
from .backbone import Frozen, TokenBackbone, Tokens, build_backbone
from .blocks import add_attended, attention_dropout, feed_forward, project_qkv, query_block
from .face.open import FaceOptions, Skeleton, build_face_backbone, is_face_network
from .rollout import QueryKey, rollout_cls, top_tokens

FeatureType = Literal["combined", "sa", "glca"]
Result = TypeVar("Result")

_CPU_IMAGES_PER_THREAD = 2


class BranchEmbeddings(NamedTuple):
    """One embedding (B, C) per active branch, not normalised; None where a branch is off."""

    sa: Tensor
    glca: Tensor | None
    pwca: Tensor | None
    untouched: Tensor | None = None
    """(B, E) of the face network before training, where the backbone is one: no branch, a reference."""

    def active(self) -> dict[Branch, Tensor]:
        named: dict[Branch, Tensor | None] = {"sa": self.sa, "glca": self.glca, "pwca": self.pwca}
        return {name: value for name, value in named.items() if value is not None}


class Encoded(NamedTuple):
    """What leaves the SA blocks: all SA tokens (B, T, C) before the final norm, PWCA's CLS (B, 1, C) or None,
    the queries and keys of each block, where a rollout needs them, the untouched embedding of `Tokens`, and the same of
    the mirrored images where features are means over both."""

    sa_BTC: Tensor
    pwca_B1C: Tensor | None
    layers: list[QueryKey]
    untouched_BE: Tensor | None = None
    mirrored: "Encoded | None" = None


class Streams(NamedTuple):
    """Tokens between two blocks: SA's (B, T, C), and once PWCA's differ from them, these below in the same batch,
    (2B, T, C), so that a block projects both at once."""

    stacked: Tensor
    parted: bool = False

    @property
    def sa_BTC(self) -> Tensor:
        return self.stacked.chunk(2)[0] if self.parted else self.stacked

    @property
    def pwca_BTC(self) -> Tensor:
        return self.stacked.chunk(2)[1] if self.parted else self.stacked


class DCALVerificationModel(nn.Module):
    """Self-attention, global-local and pair-wise cross-attention over one backbone.

    Args:
        backbone: any timm ViT/DeiT with plain blocks, or any timm CNN.
        pretrained: False, True (timm's weights) or the path of a weights file, loaded strictly.
        image_size: pixels of the input, a square's side or (rows, columns); fixes the position embedding.
        attention_dim, num_heads, num_blocks: our blocks on a CNN; a ViT keeps its own.
        branches: which of sa, glca, pwca exist; sa always does.
        local_ratio: R, the share of patches that become GLCA queries.
        glca_pool: what GLCA's embedding is read from, see `glca`.
        dropout, drop_path: regularisation of the blocks, in training only.
        feature_dim: channels expected of a CNN's last map, or None.
        gradient_checkpointing: recompute blocks in the backward pass to save memory.
        pwca_blocks: how many of the last blocks are pair-wise; None is all, as in the paper.
        fusion: share of the untouched face network's cosine in that of combined features, where the backbone keeps it.
        flip_average: features are means over an image and its mirror image, at twice the cost; not in training.
        face: what only a face network as the backbone needs.
        skeleton: graph of a face network that came as an ONNX file, for a model without weights.

    Example:
        >>> model = DCALVerificationModel("test_vit", image_size=32).eval()
        >>> model.embed(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 128])
    """

    fusion: Tensor

    def __init__(
        self, backbone: str = "vit_base_patch16_224", *, pretrained: bool | str = False, image_size: ImageSize = 224,
        attention_dim: int | None = 768, num_heads: int = 12, num_blocks: int = 4,
        branches: Sequence[Branch] = ("sa", "glca", "pwca"), local_ratio: float = 0.1,
        glca_pool: Literal["cls", "local"] = "cls", dropout: float = 0.0, drop_path: float = 0.0,
        feature_dim: int | None = None, gradient_checkpointing: bool = False, pwca_blocks: int | None = None,
        fusion: float = 0.5, flip_average: bool = False, face: FaceOptions | None = None,
        skeleton: Skeleton | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        ours: dict[str, Any] = {
            "attention_dim": attention_dim, "num_heads": num_heads, "num_blocks": num_blocks, "dropout": dropout,
            "drop_path": drop_path,
        }  # fmt: skip
        self.backbone: TokenBackbone
        if is_face_network(backbone):
            self.backbone = build_face_backbone(
                backbone, pretrained, face or FaceOptions(), image_size=image_size, skeleton=skeleton, **ours
            )
        else:
            ours["attention_dim"] = attention_dim or 768
            self.backbone = build_backbone(
                backbone, pretrained=pretrained, image_size=image_size, feature_dim=feature_dim, **ours
            )
        self.branches = tuple(branches)
        self.pwca_blocks = pwca_blocks
        self.image_size, self.local_ratio, self.glca_pool = image_size_of(image_size), local_ratio, glca_pool
        self.gradient_checkpointing, self.flip_average = gradient_checkpointing, flip_average
        if "glca" in self.branches:
            # Weights of its own, starting from those of the last block and norm, which read the same tokens.
            self.glca_block = copy.deepcopy(self.backbone.blocks[-1])
            self.glca_norm = copy.deepcopy(self.backbone.norm)
            if self.backbone.starts_as_verifier and glca_pool == "local":
                self.glca_local = nn.Linear(
                    self.width, self.width
                )  # zero: the class token alone, until it is trained
                nn.init.zeros_(self.glca_local.weight)
                nn.init.zeros_(self.glca_local.bias)
        if self.backbone.untouched_dim:
            self.register_buffer("fusion", torch.tensor(float(fusion)))

    @classmethod
    def from_config(
        cls, config: TwinVerificationConfig, *, with_weights: bool = True, skeleton: Skeleton | None = None
    ) -> Self:  # fmt: skip
        """Build what the configuration says; `with_weights=False` skips the pretrained file (a checkpoint follows)."""
        model = config.model
        return cls(
            model.backbone, pretrained=model.pretrained if with_weights else False, image_size=config.data.image_size,
            attention_dim=model.attention_dim, num_heads=model.num_heads, num_blocks=model.num_blocks,
            branches=model.branches, local_ratio=model.local_ratio, glca_pool=model.glca_pool, dropout=model.dropout,
            drop_path=model.drop_path, feature_dim=model.feature_dim, pwca_blocks=model.pwca_blocks,
            fusion=0.5 if model.fusion == "auto" else model.fusion, face=FaceOptions.of(config), skeleton=skeleton,
            gradient_checkpointing=config.runtime.gradient_checkpointing, flip_average=model.flip_average,
        )  # fmt: skip

    @property
    def width(self) -> int:
        """C: the size of one branch's embedding."""
        return self.backbone.width

    def embedding_dim(self, feature_type: FeatureType = "combined") -> int:
        if feature_type != "combined":
            return self.width
        return self.width * (2 if "glca" in self.branches else 1) + self.backbone.untouched_dim

    def forward(self, images: Tensor | Frozen, partner_B: Tensor | None = None) -> BranchEmbeddings:
        """Embeddings of all active branches.

        Args: images: (B, 3, H, W), normalised, or what `backbone.frozen` gave for them. partner_B: (B,) distractor of
        each image; drawn at random when None. PWCA runs in training mode only and needs two images.
        """
        tokens = self.backbone.read(images)
        encoded = self._encode(tokens, self._partners(tokens.tokens, partner_B))
        norm = self.backbone.norm
        return BranchEmbeddings(
            sa=norm(encoded.sa_BTC[:, 0]),
            glca=self.glca(encoded) if "glca" in self.branches else None,
            pwca=None if encoded.pwca_B1C is None else norm(encoded.pwca_B1C[:, 0]),
            untouched=encoded.untouched_BE,
        )

    def embed(self, images: Tensor, feature_type: FeatureType = "combined") -> Tensor:
        """Verification features: SA and GLCA embeddings, each at unit length, concatenated and at unit length.

        The cosine of two such features is the mean of the branch cosines; where the backbone is a face network, the
        untouched network's cosine has the share `fusion` in it. "sa" costs exactly the backbone.
        With `flip_average`, branch embeddings are means over the image and its mirror image; the untouched network's
        stays that of the image.
        Args: images: (B, 3, H, W), normalised. Returns (B, E) with unit rows. Pure in evaluation mode: an
        image's feature does not depend on its batch mates. ModelError for the feature of a branch that is off.
        """
        known = ("combined", *(branch for branch in self.branches if branch != "pwca"))
        if feature_type not in known:
            raise ModelError(f"feature {feature_type!r}: this model has {', '.join(known)}")
        if len(images) == 0:
            return images.new_empty((0, self.embedding_dim(feature_type)))
        if images.device.type == "cpu" and not torch.is_grad_enabled():
            # A few images at a time: their activations stay in cache, which outweighs the smaller batch.
            chunks = torch.split(images, _CPU_IMAGES_PER_THREAD * torch.get_num_threads())
            return torch.cat([self._embed(chunk, feature_type) for chunk in chunks])
        return self._embed(images, feature_type)

    def features(self, images: Tensor) -> dict[FeatureType, Tensor]:
        """Every feature that `embed` gives, from one pass. Traceable with a batch of unknown size, for export."""
        return self.features_of(self._encode_both(images, cls_only="glca" not in self.branches))

    def encode(self, images: Tensor) -> Encoded:
        """What leaves the SA blocks, with queries and keys of every block: features and attention maps both follow
        from it."""
        return self._encode_both(images, keep=True)

    def features_of(self, encoded: Encoded, rollout_BT: Tensor | None = None) -> dict[FeatureType, Tensor]:
        """Every feature of images that are encoded already. Args: rollout_BT: that of their blocks, if it is known."""
        parts = self._branch_features(encoded, rollout_BT)
        if encoded.mirrored is not None:
            mirrored = self._branch_features(encoded.mirrored)
            parts = {name: F.normalize(part + mirrored[name], dim=-1) for name, part in parts.items()}
        ours = F.normalize(torch.cat(list(parts.values()), dim=-1), dim=-1)
        if encoded.untouched_BE is not None:
            untouched = F.normalize(encoded.untouched_BE.float(), dim=-1)
            ours = torch.cat([self.fusion.sqrt() * untouched, (1 - self.fusion).sqrt() * ours], dim=-1)
        return {"combined": ours, **parts}

    def _embed(self, images: Tensor, feature_type: FeatureType) -> Tensor:
        if feature_type == "sa" and not self.flip_average:
            return self._sa_feature(self._encode(self.backbone.read(images), None, cls_only=True))
        return self.features(images)[feature_type]

    def _sa_feature(self, encoded: Encoded) -> Tensor:
        return F.normalize(self.backbone.norm(encoded.sa_BTC[:, 0]).float(), dim=-1)

    def _branch_features(
        self, encoded: Encoded, rollout_BT: Tensor | None = None
    ) -> dict[FeatureType, Tensor]:
        """Each active branch's embedding at unit length."""
        parts: dict[FeatureType, Tensor] = {"sa": self._sa_feature(encoded)}
        if "glca" in self.branches:
            parts["glca"] = F.normalize(self.glca(encoded, rollout_BT).float(), dim=-1)
        return parts

    def _encode_both(self, images: Tensor, *, cls_only: bool = False, keep: bool = False) -> Encoded:
        """Images, and their mirror images where features are means over both: one after the other, as much memory."""
        encoded = self._encode(self.backbone.read(images), None, cls_only=cls_only, keep=keep)
        if not self.flip_average:
            return encoded
        mirrored = self.backbone.read(images.flip(-1))
        return encoded._replace(mirrored=self._encode(mirrored, None, cls_only="glca" not in self.branches))

    def glca(self, encoded: Encoded, rollout_BT: Tensor | None = None) -> Tensor:
        """Global-local cross-attention over the SA tokens, (B, C).

        Queries: CLS and the R·N patches with the highest rollout; keys and values: all tokens. Queries do not
        see each other, so in a single block (the paper's M = 1) CLS comes out the same whichever patches were
        kept: with ``glca_pool="cls"`` (the paper) only CLS is computed and no rollout is needed. ``"local"``
        averages CLS and the kept patches, which makes the choice of regions count; on a face network, whose patches
        do not lie in its embedding's space, their mean is added to CLS by a layer that starts at zero. Args:
        rollout_BT: of the encoded blocks, where it is known already.
        """
        x_BTC = encoded.sa_BTC
        if self.glca_pool == "cls":
            x_BKC = x_BTC[:, :1]
        else:
            rollout_BT = rollout_cls(encoded.layers) if rollout_BT is None else rollout_BT
            kept_BK = top_tokens(rollout_BT, self.backbone.num_prefix, self.local_ratio)
            x_BKC = x_BTC.gather(1, kept_BK.unsqueeze(-1).expand(-1, -1, self.width))
        out_BKC = query_block(
            self.glca_block, x_BKC, x_BTC, partial(attend, dropout=attention_dropout(self.glca_block))
        )
        out: Tensor = self.glca_norm(out_BKC)
        if self.glca_pool == "local" and self.backbone.starts_as_verifier:
            local: Tensor = self.glca_local(out[:, 1:].mean(1))
            return out[:, 0] + local
        return out.mean(1)

    def _partners(self, x_BTC: Tensor, partner_B: Tensor | None) -> Tensor | None:
        if not self.training or "pwca" not in self.branches or len(x_BTC) < 2:
            return None
        if partner_B is None:
            partner_B = random_partners(len(x_BTC))
        return partner_B.to(x_BTC.device)

    def _encode(
        self, tokens: Tokens, partner_B: Tensor | None, *, cls_only: bool = False, keep: bool = False
    ) -> Encoded:
        """Run the SA blocks, with PWCA's stream stacked under SA's in one batch.

        Blocks before the last `pwca_blocks` run once, for SA alone. Both streams start as the same tokens, so the first
        block with partners projects them once. Of PWCA only CLS is used, so the last block computes that row alone (so
        does SA's, with `cls_only`). With `keep`, queries and keys are kept even where GLCA needs none.
        """
        if not len(self.backbone.blocks):  # a face network alone
            return Encoded(tokens.tokens, None, [], tokens.untouched)
        keep = keep or ("glca" in self.branches and self.glca_pool == "local" and not cls_only)
        *earlier, last = self.backbone.blocks
        num_shared = len(earlier) + 1 - (self.pwca_blocks or len(earlier) + 1)
        streams, layers = Streams(tokens.tokens), []
        for place, block in enumerate(earlier):
            streams, layer = self._run(
                _block, block, streams, partner_B if place >= num_shared else None, keep
            )
            layers.append(layer)
        dropout = attention_dropout(last)
        if cls_only:
            attend_one = partial(attend, dropout=dropout)
            sa_B1C = query_block(last, streams.sa_BTC[:, :1], streams.sa_BTC, attend_one)
            return Encoded(sa_B1C, None, [], tokens.untouched)
        pwca_B1C = None
        if partner_B is not None:
            attend_pair = partial(pair_attend, partner_B=partner_B, dropout=dropout)
            pwca_BTC = streams.pwca_BTC
            pwca_B1C = self._run(query_block, last, pwca_BTC[:, :1], pwca_BTC, attend_pair)
        sa, layer = self._run(_block, last, Streams(streams.sa_BTC), None, keep)
        layers.append(layer)
        return Encoded(sa.stacked, pwca_B1C, [each for each in layers if each is not None], tokens.untouched)

    def _run(self, step: Callable[..., Result], *arguments: object) -> Result:
        if self.gradient_checkpointing and torch.is_grad_enabled():
            result: Result = checkpoint(step, *arguments, use_reentrant=False)
            return result
        return step(*arguments)


def _block(
    block: Block, streams: Streams, partner_B: Tensor | None, keep: bool
) -> tuple[Streams, QueryKey | None]:
    """One block on SA's tokens and, with partners, on PWCA's, which part here at the latest. With `keep`, also
    queries and keys of SA's tokens."""
    attended, layer = _attention(block, streams, partner_B, keep)
    return Streams(feed_forward(block, attended.stacked), attended.parted), layer


def _attention(
    block: Block, streams: Streams, partner_B: Tensor | None, keep: bool
) -> tuple[Streams, QueryKey | None]:
    """The block's attention and its residual. A function, so that what it computes with is freed before the
    feed-forward layer, which needs the room."""
    sa, *pwca = project_qkv(block, streams.stacked, 2 if streams.parted else 1)
    dropout = attention_dropout(block)
    layer = QueryKey(sa[0].detach(), sa[1].detach()) if keep else None
    attended_BTC, tokens_BTC = merge_heads(attend(*sa, dropout)), streams.stacked
    if partner_B is not None:
        q, k, v = pwca[0] if streams.parted else sa
        attended_BTC = torch.cat([attended_BTC, merge_heads(pair_attend(q, k, v, partner_B, dropout))])
        if not streams.parted:
            tokens_BTC = torch.cat([tokens_BTC, tokens_BTC])
    return Streams(add_attended(block, tokens_BTC, attended_BTC), partner_B is not None), layer
