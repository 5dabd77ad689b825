"""Whatever is handed to the engine or a gallery, of whatever type: an answer, or one clear line."""

import inspect
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny_model

from twin_dcal import TwinInferenceEngine
from twin_dcal.errors import ConfigError, ModelError, TwinDcalError
from twin_dcal.inference.gallery import Gallery
from twin_dcal.metrics.error_curve import Threshold

WRONG = {
    "None": None, "a number": 7202, "a fraction": 0.5, "NaN": float("nan"), "a truth value": True, "complex": 1j,
    "no text": "", "a text": "nobody", "a NUL": "a\0b", "bytes": b"x", "no bytes": b"", "a path": Path("nowhere"),
    "an empty list": [], "a list of numbers": [1, 2], "a list of None": [None], "nested lists": [[1], [2, 3]],
    "a pair": (None, None), "a mapping": {"a": 1}, "a set": {1}, "an array": np.zeros(3), "pixels": np.zeros((4, 4, 3)),
    "texts": np.array(["a", "b"]), "a tensor": torch.zeros(3), "an object": object(), "a function": len, "a type": int,
    "an open file": BytesIO(b"x"), "a generator": (each for each in ()),
}  # fmt: skip
FLAGS = ("exact", "progress", "return_attention", "began", "deciding", "shared", "known")
"""Taken by their truth, or made by the engine itself."""


@pytest.fixture(scope="module")
def photos(tiny_faces):
    return [str(path) for path in sorted(tiny_faces.glob("test/*/*.png"))[:3]]


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    path = tiny_model(
        tmp_path_factory.mktemp("wrong_types"), threshold=Threshold(0.5, {"data": "validation"})
    )
    return TwinInferenceEngine(path, "cpu", align="never")


@pytest.fixture(scope="module")
def right(engine, photos):
    """What is right for each parameter, of the public calls of engine and gallery."""
    prepared = engine.prepare_image(photos[0])
    people = {"al": [photos[0]], "bo": [photos[1]]}
    pairs = [(photos[0], photos[1]), (photos[0], photos[0])]
    of_engine = {
        "batch_verify": {"pairs": pairs}, "cluster": {"images": photos},
        "compute_similarity_matrix": {"images1": photos},
        "decide": {"one": prepared, "two": prepared}, "verify_with_attention": {"one": prepared, "two": prepared},
        "decide_and_look": {"one": prepared, "two": prepared}, "enroll": {"source": people},
        "explain": {"pixels1": prepared.pixels, "pixels2": prepared.pixels}, "extract_features": {"images": photos},
        "look": {"image": photos[0]}, "open_gallery": {"path": "no.gallery"},
        "optimize_threshold": {"pairs": pairs, "labels": [0, 1]}, "prepare": {"image": photos[0]},
        "prepare_image": {"image": photos[0]}, "prepare_pair": {"img1": photos[0], "img2": photos[1]},
        "rates": {"threshold": 0.5}, "set_threshold": {"value": 0.5}, "set_threshold_probability": {"value": 0.5},
        "verify": {"img1": photos[0], "img2": photos[1]}, "verify_pair": {"img1": photos[0], "img2": photos[1]},
        "verify_table": {"table": "pairs.csv"}, "save_decision": {},
    }  # fmt: skip
    of_gallery = {
        "add": {"person": "al", "photographs": photos[0]}, "add_all": {"listed": [("al", photos[0])]},
        "add_twins": {"pairs": [("al", "bo")]}, "remove": {"person": "al"}, "save": {"path": "x.gallery"},
        "search": {"photographs": photos[0]}, "verify": {"photographs": photos[0], "person": "al"}, "counts": {},
    }  # fmt: skip
    return {TwinInferenceEngine: of_engine, Gallery: of_gallery}, people


INNER = {"decide_pairs", "decide_sides", "sides", "load", "at"}
"""Between the modules of the engine: what they get was looked at before."""


def calls(kind):
    return sorted(
        name
        for name, found in inspect.getmembers(kind, callable)
        if not name.startswith("_") and name not in INNER
    )


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in (TwinInferenceEngine, Gallery) for name in calls(kind)]
)  # fmt: skip
def test_a_wrong_type_is_one_clear_line(engine, right, kind, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    known, people = right
    photo = people["al"][0]
    Path("pairs.csv").write_text(f"img1,img2\n{photo},{photo}\n")
    monkeypatch.setattr(engine, "_deciding", engine.deciding)
    given, faults = known[kind][name], []
    for parameter in inspect.signature(getattr(kind, name)).parameters:
        for called, wrong in WRONG.items():
            if parameter in ("self", *FLAGS) or (isinstance(wrong, bool) and parameter == "top"):
                continue
            target = engine if kind is TwinInferenceEngine else engine.enroll(people)
            try:
                getattr(target, name)(**{**given, parameter: wrong})
            except TwinDcalError as error:
                if "\n" in str(error) or len(str(error)) > 300:
                    faults.append(f"{parameter}={called}: {error}")
            except Exception as error:
                faults.append(f"{parameter}={called}: {type(error).__name__}: {error}")
    assert faults == []


def test_an_engine_of_the_wrong_types_is_one_clear_line(engine, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    faults = []
    backend = engine.backend
    for parameter in ("model_path", "device", "threshold", "align", "threshold_probability"):
        right = {"model_path": engine.source.path, "align": "never"}
        for called, wrong in WRONG.items():
            with monkeypatch.context() as patched:
                if parameter != "model_path":
                    patched.setattr("twin_dcal.inference.opened.open_backend", lambda *_: backend)
                try:
                    TwinInferenceEngine(**{**right, parameter: wrong})
                except TwinDcalError as error:
                    if "\n" in str(error) or len(str(error)) > 300:
                        faults.append(f"{parameter}={called}: {error}")
                except Exception as error:
                    faults.append(f"{parameter}={called}: {type(error).__name__}: {error}")
    for attribute in ("align", "surface"):
        for called, wrong in WRONG.items():
            with pytest.raises(ConfigError, match=f"{attribute} .*: give one of ") as caught:
                setattr(engine, attribute, wrong)
            assert "\n" not in str(caught.value), called
    assert faults == []
    assert TwinInferenceEngine(engine.source.path, torch.device("cpu"), align="never").backend.device == "cpu"


def test_one_picture_where_several_are_meant_is_refused(engine, photos):
    """Its rows, or the letters of its path, would be taken for pictures."""
    pixels = engine.prepare(photos[0])
    ones = [pixels, pixels[..., 0], torch.tensor(pixels).permute(2, 0, 1), Image.fromarray(pixels), photos[0],
            Path(photos[0]), BytesIO(Path(photos[0]).read_bytes()), bytearray(b"x")]  # fmt: skip
    for one in ones:
        for call in (engine.extract_features, engine.compute_similarity_matrix):
            with pytest.raises(ConfigError, match=r"^images: one picture; give a list, \[picture\]$"):
                call(one)
        with pytest.raises(ConfigError, match="images: one picture"):
            engine.compute_similarity_matrix([pixels], one)
        if not isinstance(one, str | Path):  # of a folder
            with pytest.raises(ConfigError, match="images: one picture"):
                engine.cluster(one)
    with pytest.raises(ConfigError, match="^images '': no path"):
        engine.cluster("")
    with pytest.raises(ConfigError, match="^source '': no path"):
        engine.enroll("")
    with pytest.raises(ConfigError, match=r"^images: a dict; give a list of pictures$"):
        engine.extract_features({photos[0]: 1})


def test_several_pictures_are_taken_in_any_list(engine, photos):
    pixels = np.stack([engine.prepare(photo) for photo in photos])
    expected = engine.extract_features(photos)
    for several in (
        pixels,
        torch.tensor(pixels).permute(0, 3, 1, 2),
        tuple(photos),
        np.array(photos),
        iter(photos),
    ):
        np.testing.assert_allclose(engine.extract_features(several), expected, atol=1e-5)


def test_one_photograph_of_a_person_needs_no_list(engine, photos):
    al, bo = map(engine.prepare, photos[:2])
    cy = np.ascontiguousarray(al[:, ::-1])
    gallery = engine.enroll({"al": al, "bo": torch.tensor(bo).permute(2, 0, 1), "cy": Image.fromarray(cy)})
    assert gallery.counts() == {"al": 1, "bo": 1, "cy": 1}
    assert gallery.add("al", engine.prepare(photos[2])).num_added == 1
    with pytest.raises(ConfigError, match="^photographs of al: a int; give a list of pictures"):
        engine.enroll({"al": 5})


def test_what_is_no_gallery_is_told_so(engine, tmp_path):
    for wrong in ("", tmp_path, 5, None):
        with pytest.raises(ModelError):
            engine.open_gallery(wrong)


def test_who_is_no_text_is_told_so(engine, photos):
    gallery = engine.enroll({"7202": [photos[0]]})
    for call in (gallery.remove, lambda person: gallery.verify(photos[0], person)):
        for wrong in (7202, None, [], np.array(["7202"])):
            with pytest.raises(ConfigError, match="^person .*: give a name"):
                call(wrong)
    assert gallery.remove("7202") == 1


def test_names_that_end_in_a_nul_are_names_of_their_own(engine, photos, tmp_path):
    gallery = engine.enroll({"a": [photos[0]], "a\0": [photos[1]]}, tmp_path / "x.gallery")
    assert gallery.counts() == engine.open_gallery(tmp_path / "x.gallery").counts() == {"a": 1, "a\0": 1}
    assert gallery.search(photos[1]).hits[0].person == "a\0"
