"""What the installation promises: the user's own torch is kept, and hooks take their tools from PATH."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_no_requirement_replaces_the_users_torch():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.partition("==")[0] for line in lines if "==" in line and not line.startswith("#")}
    assert {"numpy", "timm"} <= pinned
    assert not pinned & {"torch", "torchvision"}
    bounds = dict(re.findall(r'"(torch(?:vision)?)([<>=!~][^"]*)",', (ROOT / "pyproject.toml").read_text()))
    assert set(bounds) == {"torch", "torchvision"}
    assert all(re.fullmatch(r">=[\d.]+", bound) for bound in bounds.values()), (
        "a lower bound keeps what is newer"
    )


def test_hooks_take_their_tools_from_path():
    entries = re.findall(r"entry: (.*)", (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert [shlex.split(entry)[0] for entry in entries] == ["ruff", "ruff", "mypy"]


def test_the_citation_names_the_version():
    (version,) = re.findall(r'"([\d.]+)"', (ROOT / "src/twin_dcal/_version.py").read_text(encoding="utf-8"))
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
