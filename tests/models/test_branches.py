"""The DCAL model against loops over whole networks, and the identities of docs/method.md."""

import pytest
import torch
from oracles import attention_oracle as oracle
from tiny_vits import PLAIN, REGISTERS

from twin_dcal.errors import ModelError
from twin_dcal.explain.attention import attention_maps, features_and_maps
from twin_dcal.models.attention import attend
from twin_dcal.models.blocks import query_block
from twin_dcal.models.dcal import DCALVerificationModel
from twin_dcal.models.rollout import top_tokens

VITS = pytest.mark.parametrize("vit", [PLAIN, REGISTERS], ids=["plain", "registers, layer scale, qk norm"])
POOLS = pytest.mark.parametrize("pool", ["cls", "local"])
HEADS, BLOCKS = 2, 3


def arrays(model):
    return {key: value.detach().double().numpy() for key, value in model.state_dict().items()}


def tokens_of(model, images):
    return model.backbone.tokens(images).detach().double().numpy()


def by_loops(model, images, pool, num_kept):
    rows = [
        oracle.global_local(
            x_TC, arrays(model), "backbone.vit.", BLOCKS, HEADS,
            num_prefix=model.backbone.num_prefix, num_kept=num_kept, pool=pool,
        )
        for x_TC in tokens_of(model, images)
    ]  # fmt: skip
    return torch.stack([torch.as_tensor(row) for row in rows])


def pairs_by_loops(model, images, partner, **options):
    tokens = tokens_of(model, images)
    stream = oracle.pair_stream(tokens, partner, arrays(model), "backbone.vit.", BLOCKS, HEADS, **options)
    return torch.as_tensor(stream)


@VITS
def test_sa_equals_the_loops(tiny_model, images, vit):
    model = tiny_model(vit)
    weights = arrays(model)
    for image, sa in zip(tokens_of(model, images), model(images).sa, strict=True):
        tokens, _ = oracle.self_attention_stream(image, weights, "backbone.vit.", BLOCKS, HEADS)
        wanted = oracle.layer_norm(tokens[:1], weights, "backbone.vit.norm")[0]
        torch.testing.assert_close(sa, torch.as_tensor(wanted))


@VITS
@pytest.mark.parametrize("partner", [[1, 2, 3, 0], [3, 2, 0, 1], [1, 0, 0, 0]])
def test_pwca_equals_the_loops(tiny_model, images, vit, partner):
    model = tiny_model(vit)
    pwca = model(images, torch.tensor(partner)).pwca
    torch.testing.assert_close(pwca, pairs_by_loops(model, images, partner))


@pytest.mark.parametrize("reading", ["first layer", "alone"])
def test_the_distractor_goes_through_the_blocks_with_its_own_distractor(tiny_model, images, reading):
    model, partner = tiny_model(), [1, 2, 3, 0]
    wrong = pairs_by_loops(model, images, partner, distractor=reading)
    assert (model(images, torch.tensor(partner)).pwca - wrong).abs().max() > 1e-2


@VITS
def test_an_image_paired_with_itself_gives_its_own_embedding(tiny_model, images, vit):
    out = tiny_model(vit)(images, torch.arange(4))
    torch.testing.assert_close(out.pwca, out.sa, rtol=0, atol=1e-10)
    other = tiny_model(vit)(images, torch.tensor([1, 2, 3, 0]))
    assert (other.pwca - other.sa).abs().max() > 1e-2


def test_one_block_is_enough(monkeypatch):
    torch.manual_seed(0)
    model = DCALVerificationModel(
        "test_resnet", image_size=64, attention_dim=16, num_heads=2, num_blocks=1
    ).double()
    images = torch.randn(3, 3, 64, 64, dtype=torch.float64)
    out = model(images, torch.arange(3))
    torch.testing.assert_close(out.pwca, out.sa, rtol=0, atol=1e-10)


def test_pairs_leave_the_sa_and_glca_embeddings_alone(tiny_model, images):
    model = tiny_model(glca_pool="local", local_ratio=0.4)
    first, second = model(images, torch.tensor([1, 2, 3, 0])), model(images, torch.tensor([2, 3, 0, 1]))
    torch.testing.assert_close(first.sa, second.sa, rtol=0, atol=1e-12)
    torch.testing.assert_close(first.glca, second.glca, rtol=0, atol=1e-12)
    assert (first.pwca - second.pwca).abs().max() > 1e-2


def test_gradients_reach_the_distractor(tiny_model, images):
    images = images.requires_grad_()
    out = tiny_model()(images, torch.tensor([1, 2, 3, 0]))
    (of_pair,) = torch.autograd.grad(out.pwca[0].sum(), images, retain_graph=True)
    sizes = of_pair.flatten(1).norm(dim=1)
    assert (sizes > 1e-3).all()  # the distractor has a distractor, and so on
    (alone,) = torch.autograd.grad(out.sa[0].sum(), images)
    assert alone[0].norm() > 1e-3
    assert not alone[1:].any()


@POOLS
@pytest.mark.parametrize("branch", ["sa", "glca", "pwca"])
def test_gradients_of_the_whole_model_are_the_true_ones(tiny_model, images, pool, branch):
    model = tiny_model(REGISTERS, glca_pool=pool, local_ratio=0.4)
    # By hand along a direction: gradcheck's fast mode is too lax for this many inputs, its slow one too slow.
    images, partner = images[:3].requires_grad_(), torch.tensor([1, 2, 0])
    generator = torch.Generator().manual_seed(6)
    direction, weights = (
        torch.randn(shape, dtype=torch.float64, generator=generator) for shape in (images.shape, (3, 16))
    )

    def value(x):
        return (getattr(model(x, partner), branch) * weights).sum()

    (gradient,) = torch.autograd.grad(value(images), images)
    with torch.no_grad():
        numeric = (value(images + 1e-6 * direction) - value(images - 1e-6 * direction)) / 2e-6
    torch.testing.assert_close((gradient * direction).sum(), numeric, rtol=1e-5, atol=1e-6)


def test_distractors_are_drawn_from_the_global_generator(tiny_model, images):
    model = tiny_model()
    torch.manual_seed(3)
    first = model(images).pwca
    torch.manual_seed(3)
    assert torch.equal(model(images).pwca, first)
    assert any((model(images).pwca - first).abs().max() > 1e-2 for _ in range(5))


def test_pairs_add_no_parameters(tiny_model):
    with_pairs, without = tiny_model(branches=("sa", "glca", "pwca")), tiny_model(branches=("sa", "glca"))
    assert with_pairs.state_dict().keys() == without.state_dict().keys()


def test_pairs_need_training_and_two_images(tiny_model, images):
    model = tiny_model()
    assert model(images).pwca is not None
    alone = model(images[:1])
    assert alone.pwca is None
    assert model(images[:1], torch.tensor([0])).pwca is None
    assert alone.active().keys() == {"sa", "glca"}
    model.eval()
    assert model(images).pwca is None
    assert model(images, torch.tensor([1, 2, 3, 0])).pwca is None
    torch.testing.assert_close(model(images).sa[:1], alone.sa)


@VITS
@pytest.mark.parametrize(
    ("pool", "ratio", "num_kept"), [("cls", 0.3, 3), ("local", 0.3, 3), ("local", 1.0, 9)]
)
def test_glca_equals_the_loops(tiny_model, images, vit, pool, ratio, num_kept):
    model = tiny_model(vit, glca_pool=pool, local_ratio=ratio)
    wanted = by_loops(model, images, pool, num_kept)
    torch.testing.assert_close(model(images).glca, wanted)
    torch.testing.assert_close(model.eval()(images).glca, wanted)


def test_the_loops_tell_which_patches_were_kept(tiny_model, images):
    model = tiny_model(glca_pool="local", local_ratio=0.3)
    for wrong in (2, 4):
        assert (model(images).glca - by_loops(model, images, "local", wrong)).abs().max() > 1e-2


def test_the_cls_embedding_does_not_depend_on_the_ratio_and_the_local_one_does(tiny_model, images):
    outputs = {}
    for pool in ("cls", "local"):
        for ratio in (0.1, 0.5, 1.0):
            outputs[pool, ratio] = tiny_model(glca_pool=pool, local_ratio=ratio)(images).glca
    for ratio in (0.5, 1.0):
        assert torch.equal(outputs["cls", ratio], outputs["cls", 0.1])
        assert (outputs["local", ratio] - outputs["local", 0.1]).abs().max() > 1e-2


@VITS
def test_glca_queries_are_rows_of_full_attention(tiny_model, images, vit):
    model = tiny_model(vit)
    x_BTC = model.backbone.tokens(images)
    full = model.glca_block(x_BTC)  # timm's own forward pass
    torch.testing.assert_close(query_block(model.glca_block, x_BTC, x_BTC, attend), full)
    kept = torch.tensor([0, 7, 2, 5])
    some = query_block(model.glca_block, x_BTC[:, kept], x_BTC, attend)
    torch.testing.assert_close(some, full[:, kept], rtol=0, atol=1e-12)


def test_all_patches_kept_is_full_cross_attention(tiny_model, images):
    model = tiny_model(glca_pool="local", local_ratio=1.0).eval()
    sa_BTC = model.backbone.blocks(model.backbone.tokens(images))
    wanted = model.glca_norm(model.glca_block(sa_BTC)).mean(1)
    torch.testing.assert_close(model(images).glca, wanted)


def test_glca_has_weights_of_its_own(tiny_model, images):
    model = tiny_model().eval()
    before = model(images)
    with torch.no_grad():
        for parameter in [*model.glca_block.parameters(), *model.glca_norm.parameters()]:
            parameter.mul_(0.5)
    after = model(images)
    assert torch.equal(after.sa, before.sa)
    assert (after.glca - before.glca).abs().max() > 1e-2
    ours = {id(p) for p in [*model.glca_block.parameters(), *model.glca_norm.parameters()]}
    assert not ours & {id(p) for p in model.backbone.parameters()}


def test_glca_starts_from_the_last_block_and_norm():
    torch.manual_seed(0)
    model = DCALVerificationModel("test_vit", image_size=32)
    own, last = model.glca_block.state_dict(), model.backbone.blocks[-1].state_dict()
    assert all(torch.equal(own[key], last[key]) for key in last)
    first = model.backbone.blocks[0].state_dict()
    assert not torch.equal(own["attn.qkv.weight"], first["attn.qkv.weight"])
    assert torch.equal(model.glca_norm.weight, model.backbone.norm.weight)


def test_rollout_selects_without_a_gradient_through_the_choice(tiny_model, images, monkeypatch):
    """With the choice held fixed the gradient is the same: none flowed through it."""
    model = tiny_model(glca_pool="local", local_ratio=0.4)
    chosen = []

    def watch(rollout_BT, num_prefix, ratio):
        assert not rollout_BT.requires_grad
        chosen.append(top_tokens(rollout_BT, num_prefix, ratio))
        return chosen[-1]

    monkeypatch.setattr("twin_dcal.models.dcal.top_tokens", watch)
    model(images).glca.sum().backward()
    gradient = model.backbone.blocks[0].attn.qkv.weight.grad.clone()
    model.zero_grad()
    monkeypatch.setattr("twin_dcal.models.dcal.top_tokens", lambda *_: chosen[0])
    model(images).glca.sum().backward()
    torch.testing.assert_close(model.backbone.blocks[0].attn.qkv.weight.grad, gradient)


@POOLS
@VITS
@pytest.mark.parametrize("feature", ["combined", "sa", "glca"])
def test_an_image_does_not_depend_on_its_batch_mates(tiny_model, images, vit, pool, feature):
    model = tiny_model(vit, glca_pool=pool, local_ratio=0.4).eval()
    together = model.embed(images, feature)  # with gradients: one batch
    assert together.shape == (4, model.embedding_dim(feature))
    torch.testing.assert_close(together.norm(dim=1), torch.ones(4))
    with torch.no_grad():
        torch.testing.assert_close(model.embed(images, feature), together, rtol=0, atol=1e-5)
        for i in range(4):
            alone = model.embed(images[i : i + 1], feature)
            torch.testing.assert_close(alone, together[i : i + 1], rtol=0, atol=1e-5)
        mates = model.embed(images.flip(0), feature).flip(0)
        torch.testing.assert_close(mates, together, rtol=0, atol=1e-5)


@POOLS
def test_features_are_the_forward_embeddings_at_unit_length(tiny_model, images, pool):
    model = tiny_model(glca_pool=pool, local_ratio=0.4).eval()
    out = model(images)
    sa, glca = (torch.nn.functional.normalize(x.float(), dim=1) for x in (out.sa, out.glca))
    torch.testing.assert_close(model.embed(images, "sa"), sa)
    torch.testing.assert_close(model.embed(images, "glca"), glca)
    combined = model.embed(images)
    torch.testing.assert_close(combined, torch.cat([sa, glca], 1) / 2**0.5)
    torch.testing.assert_close(combined @ combined.T, (sa @ sa.T + glca @ glca.T) / 2)


def test_without_glca_the_features_are_sa_and_glca_is_refused(tiny_model, images):
    model = tiny_model(branches=("sa", "pwca")).eval()
    assert model.embedding_dim() == model.width == 16
    wanted = torch.nn.functional.normalize(model(images).sa.float(), dim=1)
    for feature in ("combined", "sa"):
        torch.testing.assert_close(model.embed(images, feature), wanted)
    for rows in (images, images[:0]):
        with pytest.raises(ModelError, match=r"feature 'glca': this model has combined, sa$"):
            model.embed(rows, "glca")


def test_an_unknown_feature_is_refused(tiny_model, images):
    with pytest.raises(ModelError, match=r"feature 'pwca': this model has combined, sa, glca$"):
        tiny_model().eval().embed(images, "pwca")


def test_evaluation_is_deterministic_and_leaves_the_generator_alone(tiny_model, images):
    model = tiny_model(glca_pool="local").eval()
    state = torch.get_rng_state()
    assert torch.equal(model.embed(images), model.embed(images))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("feature_type", ["combined", "sa", "glca"])
def test_no_images_give_no_rows(tiny_model, images, feature_type):
    model = tiny_model(PLAIN).eval()
    with torch.inference_mode():
        given = model.embed(images[:0], feature_type)
    assert given.shape == (0, model.embedding_dim(feature_type))


# Means over mirror images


@POOLS
def test_flip_average_is_the_mean_over_an_image_and_its_mirror_image(tiny_model, images, pool):
    model = tiny_model(glca_pool=pool).eval()
    with torch.no_grad():
        plain, mirrored = (
            {kind: model.embed(x, kind) for kind in ("sa", "glca")} for x in (images, images.flip(-1))
        )
        model.flip_average = True
        for kind in plain:
            mean = torch.stack([plain[kind], mirrored[kind]]).mean(0)
            expected = mean / mean.norm(dim=1, keepdim=True)
            torch.testing.assert_close(model.embed(images, kind), expected)
        combined = model.embed(images)
        torch.testing.assert_close(model.embed(images.flip(-1)), combined)
        half = combined.shape[1] // 2
        torch.testing.assert_close(combined[:, :half] * 2**0.5, model.embed(images, "sa"))
        torch.testing.assert_close(features_and_maps(model, images)[0], combined)


def test_flip_average_leaves_training_and_attention_maps_alone(tiny_model, images):
    model = tiny_model(glca_pool="local").eval()

    def seen():
        maps = attention_maps(model, images)
        return [*model(images).active().values(), maps.rollout, maps.glca, maps.glca_chosen]

    with torch.no_grad():
        before = seen()
        model.flip_average = True
        for one, other in zip(seen(), before, strict=True):
            torch.testing.assert_close(one, other)
