"""Whether the model hub can be asked: told in one line, within seconds, and nothing asked against the user's will."""

import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from twin_dcal import hub
from twin_dcal.errors import ModelError
from twin_dcal.presets import ON_HUB, PRESETS


class Refuses(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.send_error(404)

    def log_message(self, *given):
        pass


@pytest.fixture(autouse=True)
def own_environment(monkeypatch):
    hub.need_hub.cache_clear()
    for name in ("HF_HUB_OFFLINE", "TWIN_DCAL_DEFAULTS", "HF_ENDPOINT", "HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME",
                 "HUGGINGFACE_HUB_CACHE", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    yield
    hub.need_hub.cache_clear()


@pytest.fixture
def server():
    server = HTTPServer(("127.0.0.1", 0), Refuses)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_any_answer_will_do_and_it_is_said_first_that_the_network_is_asked(server, monkeypatch, caplog):
    monkeypatch.setenv("HF_ENDPOINT", server)
    hub.need_hub("vit_x")
    hub.need_hub("vit_x")
    assert caplog.messages == ["model.pretrained: asking the network: weights of 'vit_x' from the model hub"]


def test_nobody_there_is_one_line_that_names_the_two_ways_out(monkeypatch):
    with socket.socket() as taken:  # bound, not listening: whoever connects is refused
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("HF_ENDPOINT", address)
        with pytest.raises(ModelError) as error:
            hub.need_hub("vit_x")
    assert str(error.value) == (
        f"the pretrained weights of 'vit_x' are not on this machine, and {address} does not answer. Name a weights "
        "file with --model.pretrained FILE, or start from random weights with --model.pretrained false"
    )


def test_a_name_server_that_hangs_is_not_waited_for(monkeypatch):
    released = threading.Event()
    monkeypatch.setattr(hub, "PATIENCE_S", 0.05)
    monkeypatch.setattr(hub, "_is_reachable", lambda address: released.wait(60))
    with pytest.raises(ModelError, match="does not answer"):
        hub.need_hub("vit_x")
    released.set()


def test_a_server_that_takes_the_call_and_says_nothing_is_not_there(monkeypatch):
    monkeypatch.setattr(hub, "PATIENCE_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert not hub._is_reachable(f"http://127.0.0.1:{silent.getsockname()[1]}")


@pytest.mark.parametrize(("ours", "is_asked"), [("", False), ("HF_HUB_OFFLINE", True)])
def test_ones_own_offline_switch_is_heeded(ours, is_asked, monkeypatch):
    asked = []
    monkeypatch.setattr(hub, "answers", lambda address: bool(asked.append(address)))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TWIN_DCAL_DEFAULTS", ours)
    with pytest.raises(ModelError) as error:
        hub.need_hub("vit_x")
    assert ("HF_HUB_OFFLINE forbids" in str(error.value)) is not is_asked
    assert bool(asked) is is_asked


@pytest.mark.parametrize(
    ("variable", "below"),
    [("HF_HOME", "hub"), ("HF_HUB_CACHE", "."), ("XDG_CACHE_HOME", "huggingface/hub")],
)
def test_what_lies_in_the_hubs_folder_is_seen(variable, below, tmp_path, monkeypatch):
    monkeypatch.setenv(variable, str(tmp_path))
    assert not hub.may_be_cached("vit_base_patch16_224")
    (tmp_path / below / "models--timm--vit_base_patch16_224.augreg2_in21k_ft_in1k").mkdir(parents=True)
    assert hub.may_be_cached("vit_base_patch16_224")
    assert hub.may_be_cached("vit_base_patch16_224.augreg_in1k"), "timm looks for the very file"
    assert not hub.may_be_cached("vit_large_patch16_224")


def test_backbones_that_presets_fetch_are_on_the_hub():
    import timm

    fetched = {
        values["model"]["backbone"] for values in PRESETS.values() if values["model"].get("pretrained", True)
    }
    assert fetched - {"onnx"} == ON_HUB, "a face network's weights are a file"
    assert all(timm.models.get_pretrained_cfg(name).hf_hub_id for name in ON_HUB)
