"""How the package feels from Python: what it offers, short texts of its values, signatures, examples that run."""

import doctest
import inspect
import typing

import numpy as np
import pytest
import torch
from tiny import tiny_model

import twin_dcal
from twin_dcal.config import TwinVerificationConfig
from twin_dcal.evaluation.result import Evaluation, Histograms
from twin_dcal.explain.result import PairExplanation
from twin_dcal.inference.result import VerificationResult
from twin_dcal.metrics.error_curve import Threshold
from twin_dcal.notebook import html_table

CLASSES = [getattr(twin_dcal, name) for name in twin_dcal.__all__ if name != "__version__"]


def test_only_public_names_are_offered():
    assert dir(twin_dcal) == sorted(twin_dcal.__all__)


def functions_of(kind):
    """The functions that a class offers and that are defined here, in itself or in what it is made of."""
    ours = [base for base in kind.__mro__ if base.__module__.startswith("twin_dcal.")]
    for name, value in (item for base in ours for item in vars(base).items()):
        function = getattr(value, "fget", None) or getattr(value, "__func__", value)
        if inspect.isfunction(function) and (name == "__init__" or not name.startswith("_")):
            yield function


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_signatures_resolve(kind):
    for function in functions_of(kind):
        typing.get_type_hints(function)
        assert "ForwardRef" not in str(inspect.signature(function)), function
    assert "ForwardRef" not in str(inspect.signature(kind))


@pytest.fixture
def home(tiny_faces, tmp_path, monkeypatch):
    """The folder that examples are written for: best_model.pth, a.png, b.png and the data set faces."""
    tiny_model(tmp_path, threshold=Threshold(0.5, {}))
    for name, source in zip("ab", sorted(tiny_faces.glob("test/*/0.png")), strict=False):
        (tmp_path / f"{name}.png").write_bytes(source.read_bytes())
    (tmp_path / "faces").symlink_to(tiny_faces)
    monkeypatch.chdir(tmp_path)
    from twin_dcal.inference.aligning import Aligner

    monkeypatch.setattr(
        Aligner, "__init__", never_aligning(Aligner.__init__)
    )  # patterns of colours are no faces


def never_aligning(init):
    return lambda self, align, *more: init(self, "never", *more)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_public_class_has_an_example_that_runs(kind, home):
    finder = doctest.DocTestFinder(exclude_empty=True)
    examples = finder.find(kind, globs={kind.__name__: kind, "torch": torch})
    assert examples[0].examples, "of the class itself"
    for each in examples:
        told = []
        runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
        runner.run(each, out=told.append)
        assert not runner.failures, "".join(told)


def result(**changes):
    values = {
        "verification_score": 0.773, "verification_decision": True, "similarity": 0.7347, "threshold": 0.2869,
        "threshold_source": {}, "estimated_fmr": None, "estimated_fnmr": None, "model": {},
        "warnings": ("a <b> model",), "elapsed_ms": 1.0,
    }  # fmt: skip
    return VerificationResult(**{**values, **changes})


def test_a_result_is_one_short_line_and_a_table():
    told = "VerificationResult(same person, similarity +0.735, threshold +0.287, score 0.773)"
    assert repr(result()) == told
    other = result(verification_decision=False, verification_score=None)
    assert repr(other) == "VerificationResult(different people, similarity +0.735, threshold +0.287)"
    page = result()._repr_html_()
    assert "<th>decision</th><td>same person</td>" in page
    assert "<th>warning</th><td>a &lt;b&gt; model</td>" in page


def test_an_evaluation_is_one_short_line_and_a_table():
    figures = {
        "twin": {"eer": 0.34784, "roc_auc": 0.7, "intervals": {"eer": [0.26, 0.4385], "roc_auc": [0.6227, 0.7673]}},
        "unrelated": None, "all": {"eer": 0.2, "roc_auc": 0.9, "intervals": {}},
    }  # fmt: skip
    made = Evaluation(figures, {}, Histograms(np.zeros(1), {}), None, (), (), (), (), None)
    told = "twin: EER 34.8 % [26.0, 43.9], AUC 0.700 [0.623, 0.767]; all: EER 20.0 %, AUC 0.900"
    assert repr(made) == f"Evaluation({told})"
    assert "<th>twin</th><td>34.8 % [26.0, 43.9]</td><td>0.700 [0.623, 0.767]</td>" in made._repr_html_()


def test_a_configuration_tells_what_differs():
    assert repr(TwinVerificationConfig()) == "TwinVerificationConfig()"
    assert (
        str(TwinVerificationConfig().override({"data.image_size": 64}))
        == "TwinVerificationConfig(data.image_size=64)"
    )


def test_an_explanation_does_not_print_its_maps():
    one = np.zeros((3, 4), np.float32)
    made = PairExplanation(0.5, "combined", one, one, one, one, None, None, None, None, False, (), {})
    assert repr(made) == "PairExplanation(similarity +0.500, combined, maps of 3 x 4)"


def test_tables_escape():
    assert html_table([("<a>", 1)], ("x&", "y")) == (
        "<table><thead><tr><th>x&amp;</th><th>y</th></tr></thead>"
        "<tbody><tr><th>&lt;a&gt;</th><td>1</td></tr></tbody></table>"
    )
