"""Switches of the libraries below: set before they are imported, never over the user's, never by the bare import."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import huggingface_hub.constants
import pytest

from twin_dcal import privacy
from twin_dcal.errors import ModelError
from twin_dcal.models import pretrained
from twin_dcal.models.backbone import build_backbone

PRINT = "import os, json; print(json.dumps(dict(os.environ)))"


def environment_after(code, **given):
    """The child's environment once `code` ran, started with none of our switches."""
    names = (*privacy.PRIVACY_DEFAULTS, "TWIN_DCAL_DEFAULTS")
    clean = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{PRINT}"],
        env=clean | given,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_the_bare_import_leaves_the_environment_alone():
    assert not environment_after("import twin_dcal").keys() & privacy.PRIVACY_DEFAULTS.keys()


@pytest.mark.parametrize(
    "code", ["from twin_dcal import DCALVerificationModel", "import twin_dcal.models.blocks"]
)
def test_set_before_timm_is_imported(code):
    order = "import sys\nassert 'huggingface_hub' not in sys.modules\n"
    check = "\nimport huggingface_hub.constants as c\nassert c.HF_HUB_OFFLINE and c.HF_HUB_DISABLE_TELEMETRY"
    found = environment_after(order + code + check)
    assert {name: found[name] for name in privacy.PRIVACY_DEFAULTS} == privacy.PRIVACY_DEFAULTS


SPY = """
import os, sys
class Spy:
    def find_spec(self, name, path=None, target=None):
        if name == "onnxruntime":
            assert os.environ.get("ORT_DISABLE_TELEMETRY") == "1"
            print("imported")
sys.meta_path.insert(0, Spy())
"""


@pytest.mark.parametrize(
    "code",
    ["from twin_dcal.inference.onnx_backend import _open_session\ntry: _open_session(b'', '')\nexcept ModelError: pass",
     "from twin_dcal.export.quantization import to_int8\ntry: to_int8(None)\nexcept AttributeError: pass"],
    ids=["inference", "export"],
)  # fmt: skip
def test_set_before_onnxruntime_is_imported(code):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    names = (*privacy.PRIVACY_DEFAULTS, "TWIN_DCAL_DEFAULTS")
    clean = {name: value for name, value in os.environ.items() if name not in names}
    code = f"{SPY}\nfrom twin_dcal.errors import ModelError\n{code}"
    done = subprocess.run([sys.executable, "-c", code], env=clean, capture_output=True, text=True)
    assert (done.returncode, set(done.stdout.split())) == (0, {"imported"}), done.stderr


def imported_roots(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield (node.module or "").partition(".")[0]


@pytest.mark.parametrize("library", ["mlflow", "wandb", "onnxruntime", "ray"])
def test_whoever_imports_a_library_that_asks_sets_the_switches(library):
    source = Path(privacy.__file__).parent
    importing = [path for path in source.rglob("*.py") if library in imported_roots(path)]
    assert importing
    # `mlflow_model` is imported by MLflow itself.
    without = [
        path.name for path in importing if "set_privacy_defaults()" not in path.read_text(encoding="utf-8")
    ]
    assert without in ([], ["mlflow_model.py"])


def test_whoever_imports_timm_is_in_a_package_that_set_the_switches():
    source = Path(privacy.__file__).parent
    importing = {path for path in source.rglob("*.py") if "timm" in imported_roots(path)}
    assert importing
    packages = {path.relative_to(source).parts[0] for path in importing}
    for package in packages:
        assert "\nset_privacy_defaults()" in (source / package / "__init__.py").read_text(encoding="utf-8")


def test_the_users_own_are_kept():
    found = environment_after(
        "from twin_dcal.privacy import set_privacy_defaults as s; s(); s()",
        HF_HUB_OFFLINE="0",
        DO_NOT_TRACK="",
    )
    assert (found["HF_HUB_OFFLINE"], found["DO_NOT_TRACK"]) == ("0", "")
    assert found["WANDB_ERROR_REPORTING"] == "false"
    ours = found["TWIN_DCAL_DEFAULTS"].split(",")
    assert sorted(ours) == sorted(privacy.PRIVACY_DEFAULTS.keys() - {"HF_HUB_OFFLINE", "DO_NOT_TRACK"})


def test_what_was_set_before_stays_ours():
    code = "import os\nfrom twin_dcal.privacy import set_privacy_defaults as s\n"
    code += "s()\ndel os.environ['DO_NOT_TRACK']\ns()"
    assert "HF_HUB_OFFLINE" in environment_after(code)["TWIN_DCAL_DEFAULTS"].split(",")


def test_the_hub_is_open_only_where_we_closed_it(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    for ours, is_offline in (("HF_HUB_OFFLINE", False), ("DO_NOT_TRACK,HF_HUB_OFFLINE", False), ("", True)):
        monkeypatch.setenv("TWIN_DCAL_DEFAULTS", ours)
        with privacy.hub_allowed():
            assert huggingface_hub.constants.HF_HUB_OFFLINE is is_offline
        assert huggingface_hub.constants.HF_HUB_OFFLINE is True


def test_weights_that_are_here_need_no_network_and_say_nothing(monkeypatch, caplog, tmp_path):
    asked = []
    monkeypatch.setattr(pretrained, "try_to_load_from_cache", lambda repo, file: str(tmp_path / file))
    monkeypatch.setattr(pretrained, "hub_allowed", lambda: asked.append(1))

    class Stop(Exception):
        pass

    def create(name, pretrained=False, **options):
        if pretrained:
            raise Stop
        return made(name, pretrained=False, **options)

    made = pretrained.timm.create_model
    monkeypatch.setattr(pretrained.timm, "create_model", create)
    with pytest.raises(ModelError, match="Stop"):
        build_backbone("test_vit", pretrained=True, image_size=160)
    assert (asked, caplog.text) == ([], "")
