"""Face networks from ONNX files: ONNX Runtime's numbers, stages that can be trained, files that are refused."""

import copy

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from tiny_face import EMBEDDING, SIZE, tiny_face_onnx

from twin_dcal.errors import ModelError
from twin_dcal.models.face.onnx_network import OnnxNetwork


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("face") / "tiny.onnx"
    tiny_face_onnx(path)
    return path


@pytest.fixture
def network(file):
    return OnnxNetwork.from_file(file).eval()


def pictures(count=3, seed=0):
    return torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def runtime(path, images):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"input": images.numpy()})[0]


def test_embeddings_are_those_of_onnx_runtime(file, network):
    images = pictures()
    np.testing.assert_allclose(network(images).detach().numpy(), runtime(file, images), atol=1e-5)


def test_the_graph_is_cut_where_maps_shrink(network):
    assert network.strides == (2, 4, 8, 16)
    assert network.grids == ((16, 16), (8, 8), (4, 4), (2, 2))
    assert network.channels == (8, 8, 8, 8)
    assert network.embedding_dim == EMBEDDING


def test_stages_and_head_have_gradients_and_slopes_do_not_move(network):
    network(pictures()).square().sum().backward()
    parameters = dict(network.named_parameters())
    assert parameters
    assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in parameters.values())
    assert not any("slope" in name for name in parameters)


def test_gradients_of_prelu_are_those_of_torch(network):
    """Finite differences of the whole network in float64; of 8 by 8 pixels that fill the picture by repetition."""
    network = copy.deepcopy(network).double()
    patches = pictures(2)[:, :, :8, :8].double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: network(x.repeat(1, 1, 4, 4)).sum(1), (patches,), atol=1e-4)


def test_a_skeleton_holds_no_weights_and_takes_them_back(network):
    copied = OnnxNetwork.from_skeleton(network.skeleton, "file", 10**6)
    assert len(network.skeleton) < 8000
    copied.load_state_dict(network.state_dict(), strict=True)
    images = pictures()
    assert torch.equal(copied.eval()(images), network(images))


def test_a_skeleton_cannot_ask_for_more_memory_than_its_weights_take(network):
    with pytest.raises(ModelError, match=r"asks for \d+ bytes"):
        OnnxNetwork.from_skeleton(network.skeleton, "file", 100)


def test_weights_are_kept_once(network):
    in_file = sum(np.prod(tensor.dims) for tensor in tiny_face_onnx().graph.initializer)
    counted = sum(value.numel() for name, value in network.state_dict().items() if "num_batches" not in name)
    assert counted == in_file


def test_a_file_that_scales_itself_is_given_bytes(tmp_path):
    tiny_face_onnx(tmp_path / "own.onnx", own_scale=True)
    network = OnnxNetwork.from_file(tmp_path / "own.onnx").eval()
    assert (network.input.mean, network.input.std) == (0.0, 1.0)
    images = (pictures() + 1) * 127.5
    np.testing.assert_allclose(
        network(images).detach().numpy(), runtime(tmp_path / "own.onnx", images), atol=1e-5
    )


def test_files_that_are_no_face_network_are_one_line(tmp_path):
    def message(name, model=None, content=None):
        path = tmp_path / name
        path.write_bytes(content) if model is None else onnx.save(model, str(path))
        with pytest.raises(ModelError) as error:
            OnnxNetwork.from_file(path)
        text = str(error.value)
        assert "\n" not in text
        assert str(path) in text
        return text

    assert "not an ONNX model" in message("text.onnx", content=b"no model at all")
    two = tiny_face_onnx()
    two.graph.input.append(helper.make_tensor_value_info("other", 1, [1]))
    assert "2 inputs" in message("two.onnx", two)
    flat = tiny_face_onnx()
    del flat.graph.input[0].type.tensor_type.shape.dim[2:]
    assert "its input is" in message("flat.onnx", flat)
    large = tiny_face_onnx()
    for place in (2, 3):
        large.graph.input[0].type.tensor_type.shape.dim[place].dim_value = 100_000
    assert "at most 1024" in message("large.onnx", large)
    outside = tiny_face_onnx()
    outside.graph.initializer[0].ClearField("raw_data")
    outside.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    outside.graph.initializer[0].external_data.add(key="location", value="../secret")
    assert "other files" in message("outside.onnx", outside)
    with pytest.raises(ModelError, match="no weights file"):
        OnnxNetwork.from_file(tmp_path / "absent.onnx")
