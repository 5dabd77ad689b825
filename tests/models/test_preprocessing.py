"""Pixels to network input: torchvision's normalisation, for bytes and floats alike."""

import json

import pytest
import torch
from torchvision.transforms.v2 import functional as tv

from twin_dcal.config import TwinVerificationConfig
from twin_dcal.models.backbone import build_backbone
from twin_dcal.models.preprocessing import Preprocessing

PREPROCESSING = Preprocessing(32, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def pixels():
    return torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_bytes_and_floats_equal_torchvision():
    images = pixels()
    before = images.clone()
    wanted = tv.normalize(images.float() / 255, list(PREPROCESSING.mean), list(PREPROCESSING.std))
    ours = PREPROCESSING.normalize(images)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, wanted, rtol=0, atol=1e-5)
    torch.testing.assert_close(PREPROCESSING.normalize(images.float() / 255), wanted, rtol=0, atol=1e-5)
    assert torch.equal(images, before)


def test_dark_float_images_are_not_taken_for_bytes_and_bright_bytes_are():
    float_images = torch.ones(1, 3, 2, 2)
    byte_images = torch.ones(1, 3, 2, 2, dtype=torch.uint8)
    assert (PREPROCESSING.normalize(float_images) > 2).all()
    assert (PREPROCESSING.normalize(byte_images) < -1.7).all()


def test_half_precision_images_give_float32():
    images = pixels().float() / 255
    ours = PREPROCESSING.normalize(images.half())
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, PREPROCESSING.normalize(images), rtol=0, atol=5e-3)


def test_round_trip_through_json():
    stored = json.loads(json.dumps(PREPROCESSING.to_dict()))
    assert Preprocessing.from_dict(stored) == PREPROCESSING


@pytest.mark.parametrize("normalize", [True, False])
def test_statistics_are_the_backbones_or_none(normalize):
    config = TwinVerificationConfig.from_dict({"data": {"image_size": 64, "normalize": normalize}})
    backbone = build_backbone("test_resnet", image_size=64, attention_dim=8, num_heads=1, num_blocks=1)
    made = Preprocessing.of(backbone, config)
    assert made.image_size == 64
    images = pixels()
    if normalize:
        assert (made.mean, made.std) == (backbone.mean, backbone.std) == ((0.5,) * 3, (0.5,) * 3)
        torch.testing.assert_close(made.normalize(images), images.float() / 127.5 - 1)
    else:
        torch.testing.assert_close(made.normalize(images), images.float() / 255)
