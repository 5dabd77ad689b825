"""Backbones against timm's own forward passes, strict weight files, and refusals with a message."""

import inspect
import pickle
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import huggingface_hub.constants
import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tiny_vits import randomise
from torch.utils._python_dispatch import TorchDispatchMode

from twin_dcal import hub
from twin_dcal.config import TwinVerificationConfig
from twin_dcal.errors import ModelError
from twin_dcal.models import pretrained
from twin_dcal.models.backbone import FeatureBackbone, ViTBackbone, build_backbone, new_block
from twin_dcal.models.dcal import DCALVerificationModel
from twin_dcal.models.face import layouts
from twin_dcal.models.fitting import outlining

SHARED = Path(__file__).resolve().parents[3] / "shared" / "weights"
OURS = {"attention_dim": 16, "num_heads": 2, "num_blocks": 2}


@pytest.fixture(autouse=True)
def compare_with_few(monkeypatch):
    monkeypatch.setattr(layouts, "LAYOUTS", {})
    monkeypatch.setattr(layouts, "_TIMM", {"blocks.0.attn.qkv.weight": ("test_vit",)})


def stored_weights(name):
    path = SHARED / name
    if not path.is_file():
        pytest.skip(f"no {path}")
    return path


def random_images(size, num_images=2):
    return torch.randn(num_images, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "size", "num_prefix"),
    [
        ("test_vit", 64, 1),
        ("vit_tiny_patch16_224", 32, 1),
        ("deit_tiny_distilled_patch16_224", 32, 2),
        ("vit_small_patch14_reg4_dinov2", 28, 5),
    ],
)
def test_sa_embedding_is_timms_class_token(name, size, num_prefix):
    torch.manual_seed(0)
    model = randomise(DCALVerificationModel(name, image_size=size, branches=("sa",))).eval()
    theirs = timm.create_model(name, img_size=size, num_classes=0).eval()
    theirs.load_state_dict(model.backbone.vit.state_dict(), strict=True)
    images = random_images(size)
    with torch.no_grad():
        wanted = theirs.forward_features(images)
        assert wanted[:, 0].std() > 0.1
        torch.testing.assert_close(model(images).sa, wanted[:, 0], rtol=1e-4, atol=1e-4)
        embedded = model.embed(images, "sa")
    torch.testing.assert_close(embedded, torch.nn.functional.normalize(wanted[:, 0]), rtol=0, atol=1e-5)
    assert model.backbone.num_prefix == num_prefix
    rows, columns = model.backbone.grid
    assert rows * columns + num_prefix == wanted.shape[1]
    assert model.width == wanted.shape[2]


@pytest.mark.parametrize("option", [{"pre_norm": True}, {"no_embed_class": True, "reg_tokens": 3}], ids=str)
def test_other_ways_to_embed_patches_are_timms(tiny_model, images, option):
    model = tiny_model(option, branches=("sa",)).eval()
    torch.testing.assert_close(model(images).sa, model.backbone.vit.forward_features(images)[:, 0])


@pytest.mark.parametrize("name", ["test_resnet", "resnet10t", "test_efficientnet"])
def test_cnn_tokens_are_timms_feature_map_projected(name):
    torch.manual_seed(0)
    backbone = build_backbone(name, image_size=96, **OURS).eval()
    theirs = timm.create_model(name, num_classes=0).eval()
    theirs.load_state_dict(backbone.cnn.state_dict(), strict=True)
    images = random_images(96)
    with torch.no_grad():
        map_BFhw = theirs.forward_features(images)
        torch.testing.assert_close(backbone.cnn.forward_features(images), map_BFhw, rtol=1e-4, atol=1e-4)
        tokens = backbone.tokens(images)
        assert backbone.grid == tuple(map_BFhw.shape[2:]) == (3, 3)
        for row in range(3):
            for column in range(3):
                number = 1 + 3 * row + column
                wanted = backbone.project(map_BFhw[:, :, row, column]) + backbone.position[0, number]
                torch.testing.assert_close(tokens[:, number], wanted, rtol=1e-4, atol=1e-4)
        cls = (backbone.cls_token[0, 0] + backbone.position[0, 0]).expand(2, -1)
    torch.testing.assert_close(tokens[:, 0], cls)
    assert (backbone.width, backbone.num_heads, backbone.num_prefix) == (16, 2, 1)


SMALL = {"embed_dim": 24, "depth": 2, "num_heads": 2}

# name, arguments that make it tiny, rows and columns of the input and of the patches
OTHERS = {
    "no class token": ("test_vit2", {"depth": 2}, (64, 32), (4, 2)),
    "relative positions": ("test_vit_relpos", {"depth": 2}, (32, 48), (2, 3)),
    "SigLIP": ("vit_base_patch16_siglip_224", SMALL, (32, 48), (2, 3)),
    "pooled": ("vit_medium_patch16_gap_240", SMALL, (32, 48), (2, 3)),
    "DINOv3": ("vit_small_patch16_dinov3", SMALL, (32, 48), (2, 3)),
    "EVA-02": ("eva02_tiny_patch14_224", SMALL, (42, 56), (3, 4)),
    "BEiT": ("beit_base_patch16_224", SMALL, (32, 48), (2, 3)),
    "rotary ViT": ("vit_small_patch16_rope_224", SMALL, (32, 48), (2, 3)),
    "Swin": (
        "swin_tiny_patch4_window7_224", {"embed_dim": 12, "depths": (2, 1), "num_heads": (1, 2)}, (56, 112), (7, 14),
    ),
    "Hiera": ("hiera_tiny_224", {"embed_dim": 12, "stages": (1, 1, 1, 1)}, (64, 96), (2, 3)),
    "MambaOut": ("test_mambaout", {}, (64, 96), (2, 3)),
    "CoAtNet": ("test_coatnet", {}, (64, 96), (2, 3)),
    "a CNN": ("test_resnet", {}, (64, 96), (2, 3)),
}  # fmt: skip


@pytest.fixture
def other(monkeypatch):
    """Builds one of OTHERS, and timm's own network with its weights."""

    def build(kind):
        name, options, size, _ = OTHERS[kind]
        create = timm.create_model
        monkeypatch.setattr(timm, "create_model", lambda name, **given: create(name, **options, **given))
        torch.manual_seed(0)
        backbone = randomise(build_backbone(name, image_size=size, **OURS)).eval()
        sized = (
            {"img_size": size}
            if "img_size" in inspect.signature(type(backbone.cnn).__init__).parameters
            else {}
        )
        theirs = create(name, num_classes=0, **options, **sized).eval()
        theirs.load_state_dict(backbone.cnn.state_dict(), strict=True)
        return backbone, theirs

    return build


@pytest.mark.parametrize("kind", OTHERS)
def test_patches_of_other_networks_are_timms_map_projected(kind, other):
    backbone, theirs = other(kind)
    _, _, size, grid = OTHERS[kind]
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        tokens = backbone.tokens(images)
        norm = kind != "Hiera"  # whose last norm is in its classifier
        (map_BFhw,) = theirs.forward_intermediates(images, indices=1, norm=norm, intermediates_only=True)
        assert backbone.grid == tuple(map_BFhw.shape[2:]) == grid
        assert tokens.shape == (2, 1 + grid[0] * grid[1], 16)
        assert tokens.std(dim=1).min() > 0.01
        for row in range(grid[0]):
            for column in range(grid[1]):
                number = 1 + grid[1] * row + column
                wanted = backbone.project(map_BFhw[:, :, row, column]) + backbone.position[0, number]
                torch.testing.assert_close(tokens[:, number], wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", OTHERS)
def test_everything_of_other_networks_that_takes_part_is_trained(kind, other):
    backbone, _ = other(kind)
    size = OTHERS[kind][2]
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    x = backbone.train().tokens(images)
    for block in backbone.blocks:
        x = block(x)
    (backbone.norm(x) * torch.randn(x.shape)).sum().backward()
    trained = {name for name, parameter in backbone.named_parameters() if parameter.requires_grad}
    assert trained == {name for name, parameter in backbone.named_parameters() if parameter.grad is not None}
    assert any(name.startswith("cnn.") for name in trained)


def test_a_plain_vit_of_other_than_square_size_keeps_its_blocks():
    torch.manual_seed(0)
    backbone = randomise(build_backbone("test_vit", image_size=(32, 64))).eval()
    theirs = timm.create_model("test_vit", img_size=(32, 64), num_classes=0).eval()
    theirs.load_state_dict(backbone.vit.state_dict(), strict=True)
    images = torch.randn(2, 3, 32, 64, generator=torch.Generator().manual_seed(0))
    assert backbone.grid == (2, 4)
    with torch.no_grad():
        x = backbone.tokens(images)
        for block in backbone.blocks:
            x = block(x)
        torch.testing.assert_close(backbone.norm(x), theirs.forward_features(images), rtol=1e-4, atol=1e-4)
    with pytest.raises(ModelError, match="image_size 40 is not a multiple of the 16-pixel patches"):
        build_backbone("test_vit", image_size=(32, 40))


def test_our_blocks_on_a_cnn_are_plain_timm_blocks_after_each_other():
    torch.manual_seed(0)
    model = randomise(DCALVerificationModel("test_resnet", image_size=64, **OURS)).eval()
    images = random_images(64)
    with torch.no_grad():
        x_BTC = model.backbone.tokens(images)
        for block in model.backbone.blocks:
            x_BTC = block(x_BTC)
        torch.testing.assert_close(model(images).sa, model.backbone.norm(x_BTC)[:, 0], rtol=1e-4, atol=1e-4)


def test_new_blocks_start_like_timms():
    torch.manual_seed(0)
    block = new_block(64, 4)
    assert block.attn.qkv.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert not block.attn.qkv.bias.any()
    assert not block.mlp.fc2.bias.any()


# Weight files


def compare_with_file(network, path, skip=()):
    """Every tensor of the file is in the network, bit for bit, and nothing in the network is from elsewhere."""
    loaded = network.state_dict()
    with safe_open(path, "pt") as file:
        names = {name for name in file.keys() if not name.startswith(("head.", "classifier."))}  # noqa: SIM118
        assert {name for name in loaded if not name.endswith("num_batches_tracked")} <= names <= set(loaded)
        for name in names - set(skip):
            assert torch.equal(loaded[name], file.get_tensor(name).to(loaded[name].dtype)), name


def test_a_cnn_holds_the_files_tensors():
    path = stored_weights("tf_efficientnet_lite0.safetensors")
    backbone = build_backbone("tf_efficientnet_lite0", pretrained=str(path), image_size=64, **OURS)
    compare_with_file(backbone.cnn, path)


def test_a_dinov2_holds_the_files_tensors_with_the_position_embedding_resized():
    path = stored_weights("vit_small_patch14_dinov2.fp16.safetensors")
    backbone = build_backbone("vit_small_patch14_dinov2", pretrained=str(path), image_size=56)
    compare_with_file(backbone.vit, path, skip=["pos_embed"])
    assert backbone.grid == (4, 4)
    with safe_open(path, "pt") as file:
        stored = file.get_tensor("pos_embed").float()
    loaded = backbone.vit.pos_embed
    assert loaded.shape == (1, 17, 384)
    assert stored.shape[1] == 1 + 37 * 37
    torch.testing.assert_close(loaded[:, 0], stored[:, 0])
    # Resizing keeps the overall layout: the mean over each quarter of the image is nearly the same.
    new, old = loaded[0, 1:].view(4, 4, 384), stored[0, 1:].view(37, 37, 384)
    for rows, big_rows in ((slice(2), slice(18)), (slice(2, 4), slice(19, 37))):
        a, b = new[rows, :2].mean((0, 1)), old[big_rows, :18].mean((0, 1))
        assert torch.nn.functional.cosine_similarity(a, b, dim=0) > 0.9


@pytest.fixture
def stored(tmp_path):
    """Writes test_vit's weights at 32 px after `change` edited them; returns the path."""
    torch.manual_seed(1)
    weights = timm.create_model("test_vit", img_size=32, num_classes=10).state_dict()

    def write(change=lambda weights: None, name="weights.safetensors"):
        edited = {key: value.clone() for key, value in weights.items()}
        change(edited)
        path = tmp_path / name
        if name.endswith("safetensors"):
            save_file(edited, path)
        else:
            torch.save(edited, path)
        return path

    return write


def under(prefix, **beside):
    """A change that puts a prefix before every name, and other tensors beside them."""

    def change(weights):
        for key in list(weights):
            weights[prefix + key] = weights.pop(key)
        weights.update(beside)

    return change


@pytest.mark.parametrize("prefix", ["backbone.", "model.", "student.backbone.", "network._orig_mod."])
def test_names_with_a_prefix_load_and_the_prefix_is_named(stored, prefix, caplog):
    plain = build_backbone("test_vit", pretrained=str(stored()), image_size=32).vit.state_dict()
    path = stored(under(prefix, **{"arcface.weight": torch.zeros(7, 3), "norm.weight": torch.zeros(3)}))
    with caplog.at_level("INFO"):
        loaded = build_backbone("test_vit", pretrained=str(path), image_size=32).vit.state_dict()
    assert all(torch.equal(loaded[key], plain[key]) for key in plain)
    assert f"'{prefix}' taken off their names" in caplog.text


def test_what_is_missing_below_a_prefix_is_an_error_and_so_are_two_networks(stored):
    def incomplete(weights):
        under("model.")(weights)
        del weights["model.blocks.0.attn.qkv.weight"]

    with pytest.raises(ModelError, match=r"not weights of 'test_vit'.*blocks\.0\.attn\.qkv\.weight"):
        build_backbone("test_vit", pretrained=str(stored(incomplete)), image_size=32)

    def twice(weights):
        other = {f"teacher.{key}": value.clone() for key, value in weights.items()}
        under("student.", **other)(weights)

    with pytest.raises(
        ModelError, match=r"holds the network more than once, under 'student\.' and 'teacher\.'"
    ):
        build_backbone("test_vit", pretrained=str(stored(twice)), image_size=32)


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth"])
def test_a_file_with_its_classifier_loads_without_it(stored, name):
    path = stored(name=name)
    backbone = build_backbone("test_vit", pretrained=str(path), image_size=32)
    wanted = timm.create_model(
        "test_vit", img_size=32, num_classes=10, checkpoint_path=str(path)
    ).state_dict()
    loaded = backbone.vit.state_dict()
    assert set(wanted) - set(loaded) == {"head.weight", "head.bias"}
    assert all(torch.equal(loaded[key], wanted[key]) for key in loaded)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda weights: weights.pop("blocks.1.mlp.fc1.bias"), "blocks.1.mlp.fc1.bias"),
        (lambda weights: weights.update({"blocks.9.extra": torch.zeros(2)}), "blocks.9.extra"),
        (lambda weights: weights.update({"norm.weight": torch.zeros(3)}), "norm.weight"),
    ],
    ids=["missing", "left over", "shape"],
)
@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth"])
def test_a_file_that_does_not_match_is_refused_with_its_keys(stored, change, named, name):
    path = stored(change, name)
    with pytest.raises(ModelError) as error:
        build_backbone("test_vit", pretrained=str(path), image_size=32)
    message = str(error.value)
    assert message.startswith(f"{path}: these are not weights of 'test_vit'")
    assert named in message
    assert "\n" not in message


def test_weights_of_another_network_are_refused(stored):
    with pytest.raises(
        ModelError, match="these are not weights of 'test_resnet'.*They resemble timm's test_vit"
    ):
        build_backbone("test_resnet", pretrained=str(stored()), image_size=64, **OURS)


class Hostile:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (Path.touch, (self.marker,))


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_a_file_with_code_is_refused_and_the_code_not_run(tmp_path, name):
    marker, path = tmp_path / "ran", tmp_path / name
    path.write_bytes(pickle.dumps({"cls_token": Hostile(marker)}))
    with pytest.raises(ModelError, match="not a weights file that can be read safely"):
        build_backbone("test_vit", pretrained=str(path), image_size=32)
    torch.save({"cls_token": Hostile(marker)}, path)
    with pytest.raises(ModelError, match="not a weights file that can be read safely"):
        build_backbone("test_vit", pretrained=str(path), image_size=32)
    assert not marker.exists()


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
@pytest.mark.parametrize(
    "content", [b"", b"not weights", bytes(range(256)) * 8], ids=["empty", "text", "noise"]
)
def test_garbage_is_refused(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ModelError) as error:
        build_backbone("test_vit", pretrained=str(path), image_size=32)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert "trusted" not in str(error.value), "torch advises to read what it refuses"


@pytest.mark.parametrize("content", [[1, 2], {"state_dict": 3}, {"epoch": 3}, 7], ids=str)
def test_a_readable_file_of_something_else_is_refused(tmp_path, content):
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    with pytest.raises(ModelError, match="weights.pth"):
        build_backbone("test_vit", pretrained=str(path), image_size=32)


def test_a_tensor_that_repeats_its_numbers_is_refused_before_anything_is_made_of_it(stored):
    endless = torch.zeros(1).expand(10**9, 1000)
    path = stored(lambda weights: weights.update({"norm.weight": endless}), name="weights.pth")
    with pytest.raises(ModelError, match=r"norm\.weight claims more numbers than the file holds for it"):
        build_backbone("test_vit", pretrained=str(path), image_size=32)


def test_a_truncated_file_is_refused(stored):
    for name in ("weights.pth", "weights.safetensors"):
        path = stored(name=name)
        path.write_bytes(path.read_bytes()[:-5000])
        with pytest.raises(ModelError, match="not a weights file"):
            build_backbone("test_vit", pretrained=str(path), image_size=32)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"model\.pretrained: no weights file .*nowhere\.safetensors"):
        build_backbone("test_vit", pretrained=str(tmp_path / "nowhere.safetensors"), image_size=32)


@pytest.fixture
def empty_hub(monkeypatch, tmp_path):
    """A model hub that answers and has nothing, and a machine without any weights; tells what the hub was asked for."""
    asked = []

    class Nothing(BaseHTTPRequestHandler):
        def do_HEAD(self):
            asked.append(self.path)
            self.send_error(404)

        do_GET = do_HEAD

        def log_message(self, *given):
            pass

    server = HTTPServer(("127.0.0.1", 0), Nothing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", address)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    monkeypatch.setattr(
        huggingface_hub.constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        address + "/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    hub.need_hub.cache_clear()
    yield asked
    hub.need_hub.cache_clear()
    server.shutdown()
    server.server_close()


def test_weights_that_the_hub_lacks_are_an_error(empty_hub):
    with pytest.raises(
        ModelError, match=r"weights of 'test_vit' could not be fetched.*Give --model\.pretrained FILE"
    ) as error:
        build_backbone("test_vit", pretrained=True, image_size=160)
    assert "\n" not in str(error.value)
    assert any("test_vit" in path for path in empty_hub), "the hub was asked for the weights"


def test_weights_of_a_hub_that_does_not_answer_are_an_error_at_once(monkeypatch, tmp_path):
    monkeypatch.setattr(pretrained, "try_to_load_from_cache", lambda *given: None)
    monkeypatch.setattr(hub, "answers", lambda address: False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    hub.need_hub.cache_clear()
    monkeypatch.setattr(timm, "create_model", refusing_weights(timm.create_model))
    with pytest.raises(
        ModelError, match=r"weights of 'test_vit' are not on this machine, and .* does not answer"
    ):
        build_backbone("test_vit", pretrained=True, image_size=160)
    hub.need_hub.cache_clear()


def refusing_weights(create):
    def create_model(name, **options):
        assert not options.get("pretrained"), "timm was let loose on a hub that does not answer"
        return create(name, **options)

    return create_model


# Refusals


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("resnet5O", 64, "timm has no model 'resnet5O'"),
        ("vit_tiny_patch16_22", 64, "timm has no model 'vit_tiny_patch16_22'; similar names: "),
        ("", 64, "timm has no model ''"),
        ("vit_tiny_patch16_224", 50, "image_size 50 is not a multiple of the 16-pixel patches.*use 48 or 64"),
        ("vit_small_patch14_dinov2", 32, "image_size 32 is not a multiple of the 14-pixel.*use 28 or 42"),
        ("eva02_tiny_patch14_224", 50, "image_size 50 is not a multiple of the 14-pixel patches"),
        ("hiera_tiny_224", 80, r"takes no images of 80 x 80 pixels \(.*another data.image_size"),
        (
            "levit_128s",
            224,
            r"has no patches to attend to: features of shape \(1, 16, 384\) are neither a map nor",
        ),
        ("crossvit_9_240", 240, "has no patches to attend to"),
    ],
)
def test_networks_that_do_not_fit_are_refused(name, size, message):
    with pytest.raises(ModelError, match=message):
        build_backbone(name, image_size=size, **OURS)


def test_blocks_of_another_kind_are_refused():
    vit = timm.create_model("test_vit", img_size=32, num_classes=0)

    class OtherBlock(type(vit.blocks[0])):
        pass

    vit.blocks[1].__class__ = OtherBlock
    with pytest.raises(ModelError, match="'test_vit' has blocks of type OtherBlock with Attention; only"):
        ViTBackbone(vit, "test_vit")


def test_attention_of_another_kind_is_refused():
    vit = timm.create_model("test_vit", img_size=32, num_classes=0)

    class OtherAttention(type(vit.blocks[0].attn)):
        pass

    vit.blocks[0].attn.__class__ = OtherAttention
    with pytest.raises(ModelError, match="blocks of type Block with OtherAttention"):
        ViTBackbone(vit, "test_vit")


def test_the_channels_of_the_feature_map_are_checked():
    with pytest.raises(ModelError, match=r"feature_dim is 2048, .*'resnet10t' has 512 channels.*or to null"):
        build_backbone("resnet10t", image_size=64, feature_dim=2048, **OURS)
    backbone = build_backbone("resnet10t", image_size=64, feature_dim=512, **OURS)
    assert isinstance(backbone, FeatureBackbone)
    assert backbone.grid == (2, 2)


def test_building_leaves_the_network_in_training_mode_and_its_statistics_alone():
    backbone = build_backbone("test_resnet", image_size=64, **OURS)
    assert all(module.training for module in backbone.modules())
    fresh = timm.create_model("test_resnet", num_classes=0).state_dict()
    means = [key for key in fresh if key.endswith(("running_mean", "running_var", "num_batches_tracked"))]
    assert means
    assert all(torch.equal(backbone.cnn.state_dict()[key], fresh[key]) for key in means)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {"attention_dim": 128, "num_blocks": 7},
            "left out: model.attention_dim 128 (it has 64), model.num_blocks 7",
        ),
        ({"num_heads": 3}, "left out: model.num_heads 3 (it has 2)"),
        ({}, None),
        ({"attention_dim": 64, "num_heads": 2, "num_blocks": 6}, None),
    ],
)
def test_sizes_of_our_blocks_that_a_vit_does_not_take_are_told(given, told, caplog):
    DCALVerificationModel("test_vit", image_size=32, **given)
    assert (told in caplog.text) if told else not caplog.text


def test_a_configuration_that_sets_none_of_them_is_silent(caplog):
    for values in ({}, TwinVerificationConfig().model_dump()):
        config = TwinVerificationConfig.from_dict(values).override(
            {"model.backbone": "test_vit", "model.pretrained": False, "data.image_size": 32}
        )
        DCALVerificationModel.from_config(config)
    assert not caplog.text


def test_a_tag_that_timm_lacks_is_one_line():
    with pytest.raises(
        ModelError, match=r"no weights 'WRONGTAG' for the model 'vit_base_patch16_224'; .*augreg"
    ) as told:
        build_backbone("vit_base_patch16_224.WRONGTAG")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", ["regnety_002", "regnety_002.pycls_in1k"])
def test_a_network_that_a_library_cannot_outline_is_not_told_of_a_wrong_tag(name, monkeypatch):
    def cannot(*_, **__):
        raise RuntimeError("Tensor.item() cannot be called on meta tensors")

    monkeypatch.setattr("timm.create_model", cannot)
    with pytest.raises(
        ModelError, match=rf"backbone '{name}': timm \S+ and torch \S+ cannot describe it .*item\(\)"
    ):
        build_backbone(name)


@pytest.mark.parametrize(("width", "heads"), [(100, 12), (12, 0), (0, 1), (-12, 12)])
def test_heads_that_do_not_divide_the_width_are_one_line(width, heads):
    message = rf"attention_dim {width} is not a multiple of num_heads {heads}; use one that is"
    with pytest.raises(ModelError, match=message):
        build_backbone("test_resnet", image_size=64, attention_dim=width, num_heads=heads)


def test_the_size_of_a_map_is_found_without_computing_it():
    """At 2048 pixels the features and their gradients would take gigabytes."""
    backbone = build_backbone("resnet18", image_size=2048, attention_dim=32, num_heads=2, num_blocks=1)
    assert backbone.grid == (64, 64)
    assert {tensor.device.type for tensor in backbone.state_dict().values()} == {"cpu"}


@pytest.mark.parametrize(
    "name", ["test_vit", "test_resnet", "test_efficientnet", "swin_tiny_patch4_window7_224"]
)
def test_an_outline_has_the_tensors_of_the_network_and_draws_no_weights(name):
    drawn = []

    class Watched(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            drawn.append(func.overloadpacket.__name__)
            return func(*args, **(kwargs or {}))

    with Watched(), outlining():
        outline = timm.create_model(name).state_dict()
        filled = torch.empty(2, device="cpu").fill_(3)
    assert filled.tolist() == [3, 3]
    assert drawn.count("fill_") == 1
    assert not {"uniform_", "normal_", "erfinv_", "clamp_"} & set(drawn)
    real = timm.create_model(name).state_dict()
    assert all(value.is_meta for value in outline.values())
    assert {key: (value.shape, value.dtype) for key, value in outline.items()} == {
        key: (value.shape, value.dtype) for key, value in real.items()
    }


def test_filling_a_tensor_without_values_leaves_it_as_it_is():
    with outlining():
        weight = torch.nn.Parameter(torch.empty(2, 3))
        for filled in (weight.data.uniform_(), torch.nn.init.kaiming_uniform_(weight), weight.data.mul_(2)):
            assert filled.is_meta
            assert filled.shape == (2, 3)
