"""Face networks in timm's format: what is cut is what timm runs, and the embedding layer stays."""

import json
import logging

import pytest
import timm
import torch
from face_weights import random_table
from huggingface_hub import constants
from safetensors.torch import save_file

from twin_dcal.errors import ModelError
from twin_dcal.models.face import layouts, timm_face
from twin_dcal.models.face.layouts import build_face_network, load_face_network
from twin_dcal.models.face.network import FaceInput

VIT = {"embed_dim": 24, "depth": 4, "num_heads": 2, "patch_size": 8}
GAP = VIT | {"class_token": False, "global_pool": "avg"}

# architecture, arguments, input size, whether it is fixed, maps of the stages (rows, columns)
CASES = {
    "vit with a class token": ("vit_tiny_patch16_224", VIT, (32, 24), True, [(4, 3)] * 2),
    "vit with registers": ("vit_tiny_patch16_224", VIT | {"reg_tokens": 2}, (32, 24), True, [(4, 3)] * 2),
    "pooled vit": ("vit_small_patch16_224", GAP, (32, 24), True, [(4, 3)] * 2),
    "attention-pooled vit": ("vit_base_patch16_siglip_224", VIT, (32, 24), True, [(4, 3)] * 2),
    "rotary vit": ("eva02_tiny_patch14_224", VIT, (32, 24), True, [(4, 3)]),
    "convnext": (
        "convnext_atto", {"dims": [4, 6, 8, 10], "depths": [1, 1, 2, 1], "patch_size": 2}, (64, 48), False,
        [(32, 24), (16, 12), (8, 6), (4, 3), (2, 1)],
    ),
    "resnet": ("resnet10t", {"channels": [4, 6, 8, 10]}, (64, 32), False, [(32, 16), (16, 8), (8, 4), (4, 2), (2, 1)]),
    "channels last": (
        "swin_tiny_patch4_window7_224", {"embed_dim": 12, "depths": [1, 1], "num_heads": [1, 2]}, (56, 56), True,
        [(14, 14), (7, 7)],
    ),
}  # fmt: skip


def write(folder, architecture, arguments, size, fixed, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), classes=7):
    """A folder as timm-face publishes them, with random weights."""
    folder.mkdir(exist_ok=True)
    config = {
        "architecture": architecture,
        "num_classes": classes,
        "pretrained_cfg": {
            "input_size": [3, *size], "fixed_input_size": fixed, "mean": list(mean), "std": list(std),
            "num_classes": classes, "first_conv": None, "classifier": "head",
        },
        "model_args": arguments,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    sized = {"img_size": tuple(size)} if fixed else {}
    network = timm.create_model(architecture, num_classes=classes, **arguments, **sized).eval()
    weights = {key: value for key, value in network.state_dict().items() if value.is_floating_point()}
    weights = random_table({key: tuple(value.shape) for key, value in weights.items()})
    network.load_state_dict(weights, strict=False)
    save_file(network.state_dict(), folder / "model.safetensors")
    return network


@pytest.mark.parametrize("case", CASES)
def test_a_folder_gives_what_timm_gives(tmp_path, case):
    architecture, arguments, size, fixed, grids = CASES[case]
    reference = write(tmp_path / "face", architecture, arguments, size, fixed)
    network = load_face_network("timm", tmp_path / "face")
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = reference(images)
        assert expected.std() > 0.05
        torch.testing.assert_close(network(images), expected, rtol=1e-5, atol=1e-5)
        assert network.embedding_dim == 7
        assert list(network.grids) == grids
        x = images
        for stage, channels, (rows, columns) in zip(
            network.stages, network.channels, network.grids, strict=True
        ):
            x = stage(x)
            assert network.patches(x).shape == (2, rows * columns, channels)


@pytest.mark.parametrize("case", ["vit with registers", "channels last", "rotary vit"])
def test_patches_are_the_ones_at_their_place(tmp_path, case):
    """timm's own map of the last features, row by row."""
    architecture, arguments, size, fixed, _ = CASES[case]
    reference = write(tmp_path / "face", architecture, arguments, size, fixed)
    network = load_face_network("timm", tmp_path / "face")
    images = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        x = images
        for stage in network.stages:
            x = stage(x)
        norm = case != "vit with registers"  # a plain ViT's last norm is in the head
        (known,) = reference.forward_intermediates(images, indices=1, norm=norm, intermediates_only=True)
        torch.testing.assert_close(network.patches(x), known.flatten(2).transpose(1, 2), rtol=1e-5, atol=1e-5)


def test_every_tensor_has_its_timm_name_and_the_stages_hold_their_weights(tmp_path):
    reference = write(tmp_path / "face", *CASES["pooled vit"][:4])
    network = load_face_network("timm", tmp_path / "face")
    assert sorted(network.names.values()) == sorted(reference.state_dict())
    early = {network.names[f"stages.0.{key}"] for key, _ in network.stages[0].named_parameters()}
    assert {"pos_embed", "patch_embed.proj.weight", "blocks.0.norm1.weight", "blocks.1.norm1.weight"} <= early
    assert not any(name.startswith(("blocks.2", "head", "fc_norm")) for name in early)


def test_statistics_that_differ_between_channels_are_applied_inside(tmp_path):
    mean, std = (0.2, 0.5, 0.7), (0.1, 0.2, 0.3)
    reference = write(tmp_path / "face", *CASES["convnext"][:4], mean=mean, std=std)
    network = load_face_network("timm", tmp_path / "face")
    assert network.input == FaceInput((64, 48), mean=0.0, std=255.0)
    pixels = torch.rand(1, 3, 64, 48, generator=torch.Generator().manual_seed(1))
    known = (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(network(pixels), reference(known), rtol=1e-5, atol=1e-5)


def test_the_same_network_is_built_from_its_description(tmp_path):
    write(tmp_path / "face", *CASES["vit with a class token"][:4])
    network = load_face_network("timm", tmp_path / "face")
    again = build_face_network("timm", json.loads(json.dumps(network.description)))
    again.load_state_dict(network.state_dict())
    images = torch.rand(1, 3, 32, 24)
    with torch.no_grad():
        assert torch.equal(again.eval()(images), network(images))
    assert again.input == network.input == FaceInput((32, 24))


PUBLISHED = {  # config.json of gaunernst's models; parameters as github.com/gau-nernst/timm-face tells them
    "vit_tiny_patch8_112": ("vit_tiny_patch16_224", {"patch_size": 8}, True, 5_512_640),
    "vit_small_patch8_gap_112": (
        "vit_small_patch16_224", {"patch_size": 8, "class_token": False, "global_pool": "avg"}, True, 21_640_832,
    ),
    "convnext_nano": ("convnext_nano", {"patch_size": 2}, False, 15_303_712),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configurations_are_understood(name):
    architecture, arguments, fixed, parameters = PUBLISHED[name]
    description = {
        "architecture": architecture, "num_classes": 512, "model_args": arguments, "size": [112, 112],
        "fixed_size": fixed, "mean": [0.5] * 3, "std": [0.5] * 3,
    }  # fmt: skip
    network = build_face_network("timm", description)
    assert network.embedding_dim == 512
    assert network.input == FaceInput()
    if parameters:
        assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    vit = name.startswith("vit")
    assert network.strides == ((8, 8, 8) if vit else (2, 4, 8, 16, 32))
    assert network.grids[-1] == ((14, 14) if vit else (3, 3))


def test_a_file_inside_the_folder_will_do_and_local_dir_is_understood(tmp_path):
    write(tmp_path / "face", *CASES["convnext"][:4])
    for source in (tmp_path / "face" / "model.safetensors", f"local-dir:{tmp_path / 'face'}"):
        assert load_face_network("timm", source).embedding_dim == 7


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub whose one model lies in a folder; tells what was asked, and whether asking was allowed."""
    write(tmp_path / "hub", *CASES["convnext"][:4])
    asked, cached = [], []

    def download(repository, name, revision=None):
        asked.append((repository, name, revision, constants.HF_HUB_OFFLINE))
        return str(tmp_path / "hub" / name)

    def cache(repository, name, revision=None):
        return str(tmp_path / "hub" / name) if (repository, revision) in cached else None

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    monkeypatch.setattr(timm_face, "need_hub", lambda name: logging.warning("asked for %s", name))
    monkeypatch.setattr(timm_face, "try_to_load_from_cache", cache)
    return asked, cached


@pytest.mark.parametrize("scheme", ["hf_hub:", "hf-hub:"])
def test_the_hub_is_asked_only_for_what_the_cache_lacks_and_told(hub, scheme, caplog):
    asked, cached = hub
    with caplog.at_level(logging.WARNING):
        load_face_network("timm", f"{scheme}some/face@v2")
    assert asked == [
        ("some/face", "config.json", "v2", False),
        ("some/face", "model.safetensors", "v2", False),
    ]
    assert caplog.messages.count("asked for some/face") == 2, "once for each file"
    assert constants.HF_HUB_OFFLINE
    asked.clear()
    caplog.clear()
    cached.append(("some/face", None))
    load_face_network("timm", f"{scheme}some/face")
    assert not asked
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


def test_a_hub_that_does_not_answer_is_one_line(monkeypatch):
    def download(*_, **__):
        raise OSError("no\nnetwork")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    monkeypatch.setattr(timm_face, "need_hub", lambda name: None)
    monkeypatch.setattr(timm_face, "try_to_load_from_cache", lambda *_, **__: None)
    with pytest.raises(ModelError, match=r"'hf_hub:some/face' could not be fetched \(OSError: no network\)"):
        load_face_network("timm", "hf_hub:some/face")


def test_wrong_folders_are_one_line(tmp_path):
    write(tmp_path / "face", *CASES["convnext"][:4])
    config = json.loads((tmp_path / "face" / "config.json").read_text())
    with pytest.raises(ModelError, match="no config.json beside the weights"):
        load_face_network("timm", tmp_path)
    for broken, message in [
        (config | {"architecture": "nothing_like_it"}, "has no architecture 'nothing_like_it'"),
        (
            config | {"model_args": {"checkpoint_path": "x"}},
            "sets checkpoint_path, which is no part of a network",
        ),
        (config | {"model_args": {"patch_size": 3, "odd": 1}}, "timm cannot build 'convnext_atto'"),
        ({"architecture": "convnext_atto"}, "not the config.json of a timm network"),
        ([], "not the config.json of a timm network"),
    ]:
        (tmp_path / "face" / "config.json").write_text(json.dumps(broken))
        with pytest.raises(ModelError, match=message) as error:
            load_face_network("timm", tmp_path / "face")
        assert "\n" not in str(error.value)
    (tmp_path / "face" / "config.json").write_text(json.dumps(config))
    (tmp_path / "face" / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="neither model.safetensors nor pytorch_model.bin is there"):
        load_face_network("timm", tmp_path / "face")


def test_a_picture_classifier_taken_for_a_face_network_is_told(tmp_path, caplog):
    write(tmp_path / "face", *CASES["convnext"][:4], classes=1000)
    with caplog.at_level(logging.WARNING):
        load_face_network("timm", tmp_path / "face")
    assert "its classifier has 1000 outputs and is taken for the embedding" in caplog.text


def test_weights_of_another_network_are_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(layouts, "_TIMM", {})
    write(tmp_path / "face", *CASES["convnext"][:4])
    write(tmp_path / "other", *CASES["pooled vit"][:4])
    (tmp_path / "other" / "model.safetensors").replace(tmp_path / "face" / "model.safetensors")
    with pytest.raises(ModelError, match="not weights of 'convnext_atto in timm's format': ") as error:
        load_face_network("timm", tmp_path / "face")
    assert "\n" not in str(error.value)
