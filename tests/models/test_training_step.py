"""Which parameters a training step touches, regularisation, and gradient checkpointing."""

from functools import partial

import pytest
import torch
from timm.models.vision_transformer import Block
from tiny_vits import randomise

from twin_dcal.config import LossConfig, TwinVerificationConfig
from twin_dcal.losses import DCALLoss
from twin_dcal.models.attention import attend
from twin_dcal.models.blocks import attention_dropout, query_block
from twin_dcal.models.dcal import DCALVerificationModel

BRANCH_SETS = [("sa",), ("sa", "glca"), ("sa", "pwca"), ("sa", "glca", "pwca")]
LABELS = torch.tensor([0, 0, 1, 1])
FAMILIES = torch.tensor([0, 0, 0, 0])


def build(backbone="test_vit", **options):
    torch.manual_seed(0)
    size = 32 if backbone == "test_vit" else 64
    options = {"image_size": size, "attention_dim": 16, "num_heads": 2, "num_blocks": 2, **options}
    return DCALVerificationModel(backbone, **options)


def step(model, loss=None):
    """Forward and backward of one batch; the joint loss."""
    loss = loss or DCALLoss(model.width, 2, model.branches, LossConfig())
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(4, 3, model.image_size, model.image_size, generator=generator)
    torch.manual_seed(2)
    total, parts = loss(model(images).active(), LABELS, FAMILIES)
    total.backward()
    return total, parts


@pytest.mark.parametrize("backbone", ["test_vit", "test_resnet"])
@pytest.mark.parametrize("branches", BRANCH_SETS, ids="+".join)
@pytest.mark.parametrize("pool", ["cls", "local"])
def test_no_parameter_is_dead(backbone, branches, pool):
    model = randomise(build(backbone, branches=branches, glca_pool=pool, local_ratio=0.4))
    loss = DCALLoss(model.width, 2, branches, LossConfig())
    _, parts = step(model, loss)
    assert parts.keys() == set(branches)
    named = [*model.named_parameters(), *loss.named_parameters()]
    assert [name for name, parameter in named if parameter.grad is None] == []
    assert any(name.startswith("glca_block") for name, _ in named) == ("glca" in branches)
    assert any(name.startswith("heads.glca") for name, _ in named) == ("glca" in branches)
    zero = [name for name, parameter in named if not parameter.grad.any()]
    # Softmax ignores what is added to all scores of a row, and key biases are that.
    assert [name for name in zero if "qkv.bias" not in name] == []


@pytest.mark.parametrize(
    ("backbone", "unused"), [("test_convnext", "head.norm"), ("mobilenetv3_small_050", "conv_head")]
)
def test_layers_of_a_head_that_timm_keeps_are_frozen(backbone, unused):
    model = build(backbone, num_blocks=1)
    step(model)
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == (not parameter.requires_grad) == (unused in name), name


@pytest.mark.parametrize("branches", BRANCH_SETS, ids="+".join)
def test_outputs_of_absent_branches_are_none(branches):
    model = build(branches=branches)
    out = model(torch.randn(2, 3, 32, 32))
    assert out.active().keys() == set(branches)
    assert (out.glca is None, out.pwca is None) == ("glca" not in branches, "pwca" not in branches)
    assert hasattr(model, "glca_block") == ("glca" in branches)
    assert model.embedding_dim() == model.width * (2 if "glca" in branches else 1)


@pytest.mark.parametrize("backbone", ["test_vit", "test_resnet"])
def test_a_frozen_backbone_gets_no_gradient_and_the_rest_does(backbone):
    model = build(backbone, glca_pool="local")
    frozen = {id(parameter) for parameter in model.backbone.pretrained.parameters()}
    for parameter in model.backbone.pretrained.parameters():
        parameter.requires_grad_(False)
    step(model)
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == (id(parameter) in frozen), name
    assert 0 < len(frozen) < len(list(model.parameters()))
    if backbone == "test_resnet":  # our blocks, projection and tokens are not the backbone's
        assert all(id(p) not in frozen for p in model.backbone.blocks.parameters())
        assert all(id(p) not in frozen for p in model.backbone.project.parameters())


@pytest.mark.parametrize("pool", ["cls", "local"])
@pytest.mark.parametrize("regularisation", [0.0, 0.3])
def test_gradient_checkpointing_changes_nothing(pool, regularisation):
    results = []
    for checkpointing in (False, True):
        model = build(
            glca_pool=pool, local_ratio=0.5, gradient_checkpointing=checkpointing,
            dropout=regularisation, drop_path=regularisation,
        )  # fmt: skip
        randomise(model)
        torch.manual_seed(9)
        loss = DCALLoss(model.width, 2, model.branches, LossConfig())
        total, parts = step(model, loss)
        results.append((total.detach(), parts, [p.grad for p in model.parameters()]))
    (plain, plain_parts, plain_grads), (saved, saved_parts, saved_grads) = results
    torch.testing.assert_close(saved, plain)
    assert saved_parts.keys() == plain_parts.keys() == {"sa", "glca", "pwca"}
    for ours, theirs in zip(saved_grads, plain_grads, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_gradient_checkpointing_recomputes_blocks():
    calls = []
    for checkpointing in (False, True):
        model = build(gradient_checkpointing=checkpointing)
        count = []
        model.backbone.blocks[2].attn.qkv.register_forward_hook(lambda *_, count=count: count.append(1))
        step(model)
        calls.append(len(count))
    assert calls == [1, 2]


@pytest.mark.parametrize("option", ["dropout", "drop_path"])
@pytest.mark.parametrize("backbone", ["test_vit", "test_resnet"])
def test_regularisation_is_on_in_training_only(option, backbone):
    images = torch.randn(4, 3, 64, 64)
    regular = randomise(build(backbone, image_size=64, **{option: 0.5}))
    plain = randomise(build(backbone, image_size=64))
    assert regular.state_dict().keys() == plain.state_dict().keys()
    partner = torch.tensor([1, 2, 3, 0])
    first, second = regular(images, partner), regular(images, partner)
    for name in ("sa", "glca", "pwca"):
        assert not torch.allclose(getattr(first, name), getattr(second, name), atol=1e-3), name
    plain.load_state_dict(regular.state_dict())  # running statistics of a CNN have moved
    regular.eval()
    plain.eval()
    assert torch.equal(regular(images).sa, regular(images).sa)
    torch.testing.assert_close(regular(images).sa, plain(images).sa)
    torch.testing.assert_close(regular(images).glca, plain(images).glca)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("rate", ["attn_drop", "proj_drop", "drop_path"])
def test_each_regularisation_acts_where_timm_applies_it(rate, training):
    """The same seed drops the same values as timm's own forward pass; outside training none are."""
    block = randomise(Block(16, 2, qkv_bias=True, **{rate: 0.4})).train(training)
    x_BTC = torch.randn(5, 7, 16)
    drop = partial(attend, dropout=attention_dropout(block))
    torch.manual_seed(3)
    wanted = block(x_BTC)
    torch.manual_seed(3)
    torch.testing.assert_close(query_block(block, x_BTC, x_BTC, drop), wanted)
    torch.manual_seed(4)
    assert torch.allclose(block(x_BTC), wanted) != training


@pytest.mark.parametrize("rate", ["attn_drop_rate", "proj_drop_rate", "drop_path_rate", "patch_drop_rate"])
def test_the_sa_stream_drops_what_timm_drops(tiny_model, images, rate):
    model = tiny_model({rate: 0.4}, branches=("sa",))
    torch.manual_seed(3)
    wanted = model.backbone.vit.forward_features(images)[:, 0]
    torch.manual_seed(3)
    torch.testing.assert_close(model(images).sa, wanted)
    torch.manual_seed(4)
    assert not torch.allclose(model(images).sa, wanted)


@pytest.mark.parametrize("backbone", ["test_vit", "test_resnet"])
def test_stochastic_depth_grows_from_0_to_the_last_block(backbone):
    model = build(backbone, drop_path=0.3)
    rates = [getattr(block.drop_path1, "drop_prob", 0.0) for block in model.backbone.blocks]
    assert rates[0] == 0
    assert rates[-1] == pytest.approx(0.3)
    assert rates == sorted(rates)


def test_from_config_builds_what_the_file_says():
    config = TwinVerificationConfig.from_dict({
        "model": {
            "backbone": "test_resnet", "pretrained": "/nowhere", "attention_dim": 24, "num_heads": 3,
            "num_blocks": 1, "branches": ["sa", "glca"], "local_ratio": 0.7, "glca_pool": "local",
        },
        "data": {"image_size": 64},
        "runtime": {"gradient_checkpointing": True},
    })  # fmt: skip
    model = DCALVerificationModel.from_config(config, with_weights=False)
    assert (model.width, model.backbone.num_heads, len(model.backbone.blocks)) == (24, 3, 1)
    assert (model.local_ratio, model.glca_pool, model.branches) == (0.7, "local", ("sa", "glca"))
    assert (model.image_size, model.gradient_checkpointing) == (64, True)
