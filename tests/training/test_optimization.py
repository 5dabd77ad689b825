import math

import numpy as np
import pytest
import torch

from twin_dcal.config import LossConfig, RuntimeConfig, TrainingConfig, TwinVerificationConfig
from twin_dcal.data.samplers import FamilyBatchSampler
from twin_dcal.device import amp_dtype, resolve_device
from twin_dcal.errors import ConfigError
from twin_dcal.losses import DCALLoss
from twin_dcal.models.dcal import DCALVerificationModel
from twin_dcal.training.checks import check_processes
from twin_dcal.training.optimization import (
    build_optimizer,
    learning_rate,
    learning_rates,
    lr_factor,
    rate_factor,
)  # fmt: skip


@pytest.mark.parametrize(("step", "factor"), [(0, 0.25), (3, 1.0), (4, 1.0), (8, 0.5), (12, 0.0)])
def test_warm_up_is_linear_and_the_cosine_ends_at_zero(step, factor):
    given = lr_factor(step, step + 1, total=12, warmup=4, scheduler="cosine")
    assert given == pytest.approx(factor, abs=1e-9)


def test_a_constant_schedule_still_warms_up():
    given = [lr_factor(step, step + 1, total=9, warmup=2, scheduler="constant") for step in (0, 1, 5, 8)]
    assert given == [0.5, 1, 1, 1]


def mixed_families():
    """The sampler of 24 families of 2 to 4 people: its epochs differ in their number of batches."""
    rng = np.random.default_rng(3)
    family_of = np.repeat(np.arange(24), rng.integers(2, 5, 24))
    person_of = np.repeat(np.arange(len(family_of)), rng.integers(2, 9, len(family_of)))
    return FamilyBatchSampler(person_of, family_of, num_people=6, images_per_person=2, seed=0)


@pytest.mark.parametrize("accumulation_steps", [1, 3])
@pytest.mark.parametrize("warmup_epochs", [0.0, 1.0, 2.4])
def test_the_rate_rises_only_in_warm_up_and_never_to_zero_with_families_of_mixed_size(
    accumulation_steps, warmup_epochs
):
    config = TrainingConfig(num_epochs=8, warmup_epochs=warmup_epochs, accumulation_steps=accumulation_steps)
    sampler, counts, factors = mixed_families(), [], []
    for epoch in range(config.num_epochs):
        sampler.set_epoch(epoch)
        counts.append(sampler.num_batches)
        ends = [n for n in range(1, counts[-1] + 1) if n % accumulation_steps == 0 or n == counts[-1]]
        factors += [rate_factor(config, epoch, batch, counts[-1]) for batch in ends]
    assert len(set(counts)) > 1
    peak = factors.index(max(factors))
    assert factors[peak] == pytest.approx(1.0, abs=1e-3)
    assert factors[: peak + 1] == sorted(factors[: peak + 1])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)
    assert 0 < factors[-1] < 1e-3


def test_the_rate_of_a_step_depends_on_its_place_alone():
    """So a resumed run goes on with the rates of the run."""
    config = TrainingConfig(num_epochs=4, warmup_epochs=1, accumulation_steps=4)
    assert rate_factor(config, 0, 4, 10) == pytest.approx(1 / 3)
    assert rate_factor(config, 0, 10, 10) == 1.0
    assert rate_factor(config, 2, 8, 10) == pytest.approx(0.5 * (1 + math.cos(math.pi * (4 / 3) / 3)))


def test_the_rate_scales_with_the_effective_batch_only_if_asked():
    scaled = TrainingConfig(learning_rate=3e-4, lr_reference_batch=64)
    assert learning_rate(scaled, 32) == pytest.approx(1.5e-4)
    assert learning_rate(TrainingConfig(learning_rate=3e-4, lr_reference_batch=None), 32) == 3e-4


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_every_parameter_is_in_one_group_and_only_matrices_decay(optimizer):
    model = DCALVerificationModel("test_resnet", image_size=64, attention_dim=16, num_heads=2, num_blocks=1)
    loss = DCALLoss(model.width, 5, model.branches, LossConfig())
    config = TrainingConfig(optimizer=optimizer, weight_decay=0.1, backbone_lr_factor=0.5)
    built = build_optimizer(model, loss, config, 1e-2)
    groups = built.param_groups
    assert learning_rates(built) == {"backbone": 5e-3, "new": 1e-2}
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    everything = {id(p): name for m in (model, loss) for name, p in m.named_parameters()}
    assert sorted(grouped) == sorted(everything)
    cnn = {id(parameter) for parameter in model.backbone.cnn.parameters()}
    for group in groups:
        assert group["params"]
        for parameter in group["params"]:
            name = everything[id(parameter)]
            is_token = name.endswith(("cls_token", "position"))
            assert (group["weight_decay"] > 0) == (parameter.ndim >= 2 and not is_token), name
            assert group["peak_lr"] == (5e-3 if id(parameter) in cnn else 1e-2), name


def test_a_backbone_factor_of_zero_freezes_it():
    model = DCALVerificationModel("test_vit", image_size=32)
    loss = DCALLoss(model.width, 5, model.branches, LossConfig())
    before = [parameter.requires_grad for parameter in model.parameters()]
    optimizer = build_optimizer(model, loss, TrainingConfig(backbone_lr_factor=0), 1e-2)
    assert [parameter.requires_grad for parameter in model.parameters()] == before
    assert learning_rates(optimizer) == {"backbone": 0.0, "new": 1e-2}
    trained = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    assert not trained & {id(parameter) for parameter in model.backbone.parameters()}
    assert {id(parameter) for parameter in model.glca_block.parameters()} <= trained


def test_devices_are_checked_before_the_run():
    assert resolve_device("cpu").type == "cpu"
    with pytest.raises(ConfigError, match="'gpu' is not a device"):
        resolve_device("gpu")
    with pytest.raises(ConfigError, match="CUDA devices are visible"):
        resolve_device("cuda:99")
    with pytest.raises(ConfigError, match="not supported"):
        resolve_device("meta")


def test_an_apple_gpu_is_refused_where_there_is_none(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"'mps': no Apple GPU can be used here; use auto, cpu or cuda"):
        resolve_device("mps")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve_device("mps").type == "mps"


def test_precision_on_a_cpu():
    cpu = torch.device("cpu")
    assert amp_dtype(RuntimeConfig(), cpu) is None
    assert amp_dtype(RuntimeConfig(amp="bf16"), cpu) is torch.bfloat16
    with pytest.raises(ConfigError, match="needs a GPU"):
        amp_dtype(RuntimeConfig(amp="fp16"), cpu)


@pytest.mark.parametrize(
    ("num_epochs", "warmup", "is_told"), [(0, 5.0, False), (5, 5.0, True), (6, 5.0, False)]
)
def test_a_warm_up_that_never_ends_is_told_where_there_is_training(num_epochs, warmup, is_told, caplog):
    config = TwinVerificationConfig().override(
        {"training.num_epochs": num_epochs, "training.warmup_epochs": warmup}
    )
    check_processes(config, torch.device("cpu"))
    assert ("ends within its warm-up" in caplog.text) is is_told
