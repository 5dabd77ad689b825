"""Losses against loops, gradcheck, pytorch-metric-learning, and the properties of docs/method.md."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import losses_oracle as oracle
from pytorch_metric_learning import distances, losses, miners

from twin_dcal.config import LossConfig
from twin_dcal.losses import (
    DCALLoss,
    IdentityHead,
    arcface_logits,
    cosface_logits,
    joint_loss,
    mine_twin_first,
    triplet_loss,
)

MARGINS = {"cosface": cosface_logits, "arcface": arcface_logits}


@st.composite
def batches(draw):
    """Labels with unequal counts per person, families of one or two people, and embeddings."""
    counts = draw(st.lists(st.integers(1, 4), min_size=1, max_size=6))
    people = draw(st.permutations([person for person, count in enumerate(counts) for _ in range(count)]))
    of_person = draw(st.lists(st.integers(0, 3), min_size=len(counts), max_size=len(counts)))
    seed = draw(st.integers(0, 2**31))
    embedding = torch.randn(
        len(people), 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    return embedding, torch.tensor(people), torch.tensor([of_person[person] for person in people])


def cosines(rows=5, columns=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(rows, columns, dtype=torch.float64, generator=generator) * 2 - 1) * 0.999


LABELS = torch.tensor([3, 0, 1, 1, 2])


@pytest.mark.parametrize("kind", MARGINS)
@pytest.mark.parametrize("margin", [0.0, 0.35, 0.8])
@settings(deadline=None)
@given(seed=st.integers(0, 1000))
def test_margins_equal_the_loops_and_leave_their_input_alone(kind, margin, seed):
    cosine = cosines(seed=seed)
    before = cosine.clone()
    logits = MARGINS[kind](cosine, LABELS, scale=30.0, margin=margin)
    wanted = getattr(oracle, kind)(cosine.tolist(), LABELS.tolist(), 30.0, margin)
    torch.testing.assert_close(logits, torch.tensor(wanted, dtype=torch.float64))
    assert torch.equal(cosine, before)


@pytest.mark.parametrize("kind", MARGINS)
def test_a_margin_falls_with_the_angle_even_past_pi(kind):
    angles = torch.linspace(0.001, math.pi - 0.001, 2000, dtype=torch.float64)
    cosine = angles.cos()[:, None]
    logits = MARGINS[kind](cosine, torch.zeros(2000, dtype=torch.long), scale=1.0, margin=0.5)[:, 0]
    assert (logits.diff() < 0).all()
    assert (logits < cosine[:, 0]).all()


@pytest.mark.parametrize("kind", MARGINS)
def test_gradients_of_the_margins(kind):
    cosine = cosines()
    cosine[0, 3] = -0.95
    cosine.requires_grad_()
    past_pi = cosine.detach().gather(1, LABELS[:, None]) < -math.cos(0.6)
    assert past_pi.any()
    assert not past_pi.all()
    assert torch.autograd.gradcheck(
        lambda x: MARGINS[kind](x, LABELS, scale=8.0, margin=0.6), [cosine], eps=1e-7
    )


@pytest.mark.parametrize("kind", MARGINS)
def test_gradients_are_finite_where_cosines_are_1(kind):
    cosine = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], requires_grad=True)
    MARGINS[kind](cosine, torch.tensor([0, 0]), scale=30.0, margin=0.35).sum().backward()
    assert cosine.grad.isfinite().all()


@pytest.mark.parametrize("kind", ["softmax", "cosface", "arcface"])
def test_gradients_of_the_classifier(kind):
    torch.manual_seed(0)
    head = IdentityHead(3, 4, LossConfig(head=kind, scale=5.0)).double()
    with torch.no_grad():
        head.weight.normal_()
    embedding = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    parameters = dict(head.named_parameters())
    assert set(parameters) == ({"weight", "bias"} if kind == "softmax" else {"weight"})

    def logits(embedding, *values):
        named = dict(zip(parameters, values, strict=True))
        return torch.func.functional_call(head, named, (embedding, LABELS))

    assert torch.autograd.gradcheck(logits, [embedding, *parameters.values()])


@pytest.mark.parametrize(
    ("kind", "theirs"),
    [
        ("cosface", lambda: losses.CosFaceLoss(4, 3, margin=0.35, scale=30.0)),
        ("arcface", lambda: losses.ArcFaceLoss(4, 3, margin=math.degrees(0.35), scale=30.0)),
    ],
)
def test_cross_entropy_of_the_margins_equals_pytorch_metric_learning(kind, theirs):
    torch.manual_seed(1)
    theirs = theirs().double()
    head = IdentityHead(3, 4, LossConfig(head=kind, scale=30.0, margin=0.35)).double()
    embedding = torch.randn(5, 3, dtype=torch.float64)
    # Past θ + m = π their ArcFace subtracts another constant.
    cosine = torch.nn.functional.normalize(embedding) @ torch.nn.functional.normalize(theirs.W, dim=0)
    embedding = embedding * torch.where(cosine.gather(1, LABELS[:, None]) < -0.5, -1, 1)
    with torch.no_grad():
        head.weight.copy_(theirs.W.T)
    ours = torch.nn.functional.cross_entropy(head(embedding, LABELS), LABELS)
    torch.testing.assert_close(ours, theirs(embedding, LABELS), rtol=1e-6, atol=1e-6)


def test_the_plain_classifier_is_a_linear_layer_with_bias():
    head = IdentityHead(3, 4, LossConfig(head="softmax"))
    with torch.no_grad():
        head.bias.copy_(torch.arange(4.0))
    embedding = torch.randn(5, 3)
    torch.testing.assert_close(head(embedding, LABELS), embedding @ head.weight.T + torch.arange(4.0))


@settings(deadline=None)
@given(batches())
def test_mining_equals_the_loops_with_unequal_counts(batch):
    embedding, people, families = batch
    distance = torch.cdist(embedding, embedding)
    mined = mine_twin_first(distance, people, families)
    wanted = oracle.mine(distance.tolist(), people.tolist(), families.tolist())
    assert torch.stack(mined).T.tolist() == [list(triplet) for triplet in wanted]


@settings(deadline=None)
@given(batches())
def test_a_present_twin_is_always_the_negative(batch):
    embedding, people, families = batch
    mined = mine_twin_first(torch.cdist(embedding, embedding), people, families)
    for a, p, n in zip(*(indices.tolist() for indices in mined), strict=True):
        assert people[a] == people[p]
        assert a != p
        assert people[a] != people[n]
        twins = (families == families[a]) & (people != people[a])
        assert bool(twins[n]) == bool(twins.any())


def test_the_twin_comes_first_although_another_is_nearer():
    distance = torch.tensor(
        [[0.0, 1, 9, 2, 8], [1, 0, 9, 2, 8], [9, 9, 0, 5, 1], [2, 2, 5, 0, 3], [8, 8, 1, 3, 0]]
    )
    people, families = torch.tensor([0, 0, 1, 2, 1]), torch.tensor([0, 0, 0, 1, 0])
    mined = mine_twin_first(distance, people, families)
    assert mined.anchor.tolist() == [0, 1, 2, 4]  # person 2 has one image
    assert mined.positive.tolist() == [1, 0, 4, 2]
    assert mined.negative.tolist() == [4, 4, 0, 0]  # the nearest image of the twin, not image 3


@settings(deadline=None)
@given(batches())
def test_without_twins_mining_equals_pytorch_metric_learning(batch):
    embedding, people, _ = batch
    if len(set(people.tolist())) < 2 or len(people) == len(set(people.tolist())):
        return
    miner = miners.BatchHardMiner(distance=distances.LpDistance(normalize_embeddings=False))
    theirs = miner(embedding, people)
    distance = torch.cdist(embedding, embedding)
    mined = mine_twin_first(distance, people, people)
    assert [x.tolist() for x in mined] == [x.tolist() for x in theirs]


@settings(deadline=None)
@given(batches(), st.sampled_from([0.05, 0.3, 1.0]))
def test_triplet_loss_equals_the_loops(batch, margin):
    embedding, people, families = batch
    ours = triplet_loss(embedding, people, families, margin=margin)
    wanted = oracle.triplet(embedding.tolist(), people.tolist(), families.tolist(), margin)
    assert ours.item() == pytest.approx(wanted, abs=1e-9)


@settings(deadline=None)
@given(batches(), st.randoms(use_true_random=False))
def test_triplet_loss_does_not_depend_on_the_order_or_the_length_of_embeddings(batch, random):
    embedding, people, families = batch
    order = list(range(len(people)))
    random.shuffle(order)
    lengths = torch.tensor([random.uniform(0.1, 9) for _ in order], dtype=torch.float64)
    changed = triplet_loss((embedding * lengths[:, None])[order], people[order], families[order], margin=0.3)
    torch.testing.assert_close(changed, triplet_loss(embedding, people, families, margin=0.3))


def test_gradients_of_the_triplet_loss():
    generator = torch.Generator().manual_seed(2)
    embedding = torch.randn(6, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    people, families = torch.tensor([0, 0, 0, 1, 1, 2]), torch.tensor([0, 0, 0, 0, 0, 1])
    assert torch.autograd.gradcheck(lambda x: triplet_loss(x, people, families, margin=0.7), [embedding])


@pytest.mark.parametrize("people", [[0, 0, 0], [0, 1, 2]])
def test_without_triplets_the_loss_is_0_and_still_has_a_gradient(people):
    embedding = torch.randn(3, 4, requires_grad=True)
    loss = triplet_loss(embedding, torch.tensor(people), torch.tensor(people), margin=0.3)
    assert loss.item() == 0
    loss.backward()
    assert torch.equal(embedding.grad, torch.zeros(3, 4))


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 20), st.floats(-3, 3)), min_size=1, max_size=3))
def test_joint_loss_equals_the_loops(terms):
    losses_, weights = ([term[i] for term in terms] for i in range(2))
    ours = joint_loss(torch.tensor(losses_, dtype=torch.float64), torch.tensor(weights, dtype=torch.float64))
    assert ours.item() == pytest.approx(oracle.joint(losses_, weights))


def test_gradients_of_the_joint_loss_and_its_optimum():
    values = [torch.tensor([2.0, 0.5, 1.0], dtype=torch.float64), torch.zeros(3, dtype=torch.float64)]
    assert torch.autograd.gradcheck(joint_loss, [value.requires_grad_() for value in values])
    losses_, weights = values
    best = losses_.detach().log().requires_grad_()  # e^w = L
    joint_loss(losses_.detach(), best).backward()
    torch.testing.assert_close(best.grad, torch.zeros_like(best))
    joint_loss(losses_.detach(), weights).backward()
    assert weights.grad.tolist() == [-0.5, 0.25, 0.0]


BRANCHES = ("sa", "glca", "pwca")


def make(branches=BRANCHES, num_people=3, **options):
    torch.manual_seed(0)
    return DCALLoss(4, num_people, branches, LossConfig(**options))


def random_embeddings(branches=BRANCHES):
    generator = torch.Generator().manual_seed(4)
    return {branch: torch.randn(5, 4, generator=generator) for branch in branches}


PEOPLE, FAMILIES = torch.tensor([0, 0, 1, 1, 2]), torch.tensor([7, 7, 7, 7, 8])


def test_with_w_0_the_joint_loss_is_half_the_sum():
    total, parts = make()(random_embeddings(), PEOPLE, FAMILIES)
    assert parts.keys() == set(BRANCHES)
    torch.testing.assert_close(total, sum(parts.values()) / 2)
    assert total.requires_grad
    assert not any(part.requires_grad for part in parts.values())


@pytest.mark.parametrize("head", ["softmax", "cosface", "arcface"])
@pytest.mark.parametrize(
    "options", [{}, {"label_smoothing": 0.2, "triplet_weight": 0.5}, {"triplet_weight": 0.0}]
)
def test_the_whole_loss_equals_the_loops(head, options):
    loss = make(head=head, scale=10.0, triplet_margin=0.4, **options)
    with torch.no_grad():
        for parameter in loss.heads.parameters():
            parameter.normal_()
        loss.log_variances.copy_(torch.tensor([0.3, -0.5, 1.0]))
    embeddings = random_embeddings()
    total, parts = loss(embeddings, PEOPLE, FAMILIES)
    wanted = {}
    for branch, embedding in embeddings.items():
        weights = loss.heads["glca" if branch == "glca" else "sa"]
        rows, labels = embedding.tolist(), PEOPLE.tolist()
        if head == "softmax":
            logits = (embedding @ weights.weight.T + weights.bias).tolist()
        else:
            cosine = [[oracle.cosine(row, w) for w in weights.weight.tolist()] for row in rows]
            logits = getattr(oracle, head)(cosine, labels, 10.0, loss.config.margin)
        triplet = oracle.triplet(rows, labels, FAMILIES.tolist(), 0.4)
        entropy = oracle.cross_entropy(logits, labels, options.get("label_smoothing", 0.0))
        wanted[branch] = entropy + options.get("triplet_weight", 1.0) * triplet
        assert parts[branch].item() == pytest.approx(wanted[branch], rel=1e-4)
    assert total.item() == pytest.approx(oracle.joint(wanted.values(), [0.3, -0.5, 1.0]), rel=1e-4)


def test_sa_and_pwca_share_a_classifier_and_glca_has_its_own():
    loss = make()
    same = torch.randn(5, 4)
    _, parts = loss(dict.fromkeys(BRANCHES, same), PEOPLE, FAMILIES)
    assert parts["sa"] == parts["pwca"]
    assert parts["sa"] != parts["glca"]
    assert set(loss.heads) == {"sa", "glca"}
    assert set(make(("sa", "pwca")).heads) == {"sa"}


def test_absent_branches_are_not_counted_and_weights_belong_to_names():
    loss = make()
    with torch.no_grad():
        loss.log_variances.copy_(torch.tensor([0.1, 0.7, -0.4]))
    embeddings = random_embeddings()
    total, parts = loss({"glca": embeddings["glca"], "sa": embeddings["sa"]}, PEOPLE, FAMILIES)
    assert parts.keys() == {"sa", "glca"}
    wanted = oracle.joint([float(parts["sa"]), float(parts["glca"])], [0.1, 0.7])
    assert total.item() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("learned", [True, False])
def test_branch_weights_are_learned_only_if_asked(learned):
    loss = make(uncertainty_weighting=learned)
    total, _ = loss(random_embeddings(), PEOPLE, FAMILIES)
    total.backward()
    assert (loss.log_variances.grad is not None) == learned
    assert loss.heads["sa"].weight.grad is not None


def test_losses_run_in_float32_whatever_the_embeddings_are():
    embeddings = {branch: value.bfloat16() for branch, value in random_embeddings().items()}
    total, _ = make()(embeddings, PEOPLE, FAMILIES)
    assert total.dtype == torch.float32
    full, _ = make()({branch: value.float() for branch, value in embeddings.items()}, PEOPLE, FAMILIES)
    torch.testing.assert_close(total, full)


@pytest.mark.parametrize("head", ["softmax", "cosface", "arcface"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_softmax_over_the_batch_is_the_same_loss_with_a_classifier_of_its_people_only(head, smoothing):
    generator = torch.Generator().manual_seed(1)
    embedding = torch.randn(6, 4, generator=generator)
    people, families = torch.tensor([7, 2, 2, 9, 7, 9]), torch.tensor([0, 0, 0, 1, 0, 1])
    config = LossConfig(head=head, softmax_over="batch", triplet_weight=0, label_smoothing=smoothing)
    whole = DCALLoss(4, 12, ("sa",), config)
    small = DCALLoss(4, 3, ("sa",), config.model_copy(update={"softmax_over": "all"}))
    weights = whole.heads["sa"].state_dict()
    small.heads["sa"].load_state_dict({key: value[[2, 7, 9]] for key, value in weights.items()})
    mine, _ = whole({"sa": embedding}, people, families)
    theirs, _ = small({"sa": embedding}, torch.tensor([1, 0, 0, 2, 1, 2]), families)
    assert mine.item() == pytest.approx(theirs.item(), rel=1e-6)
    everybody, _ = DCALLoss(4, 12, ("sa",), config.model_copy(update={"softmax_over": "all"}))(
        {"sa": embedding}, people, families
    )
    assert everybody.item() != pytest.approx(mine.item(), rel=1e-3)
