"""The page in a real browser: photos in, decision, slider, overlays, history; silent, and asking no other host."""

import os
import shutil

import made_engine
import pytest
from axe_core import violations
from made_engine import CURVE, THRESHOLD, photo
from talking import served

BROWSER = os.environ.get("TWIN_DCAL_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]

WEAK_CONTRAST = """() => {
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const linear = (value) => (value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  const light = (colour) => {
    const [r, g, b] = parts(colour).slice(0, 3).map((value) => linear(value / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const below = (part) => {
    for (; part; part = part.parentElement) {
      const colour = getComputedStyle(part).backgroundColor;
      if ((parts(colour)[3] ?? 1) === 1) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const found = [];
  for (const part of document.querySelectorAll("body *")) {
    const own = [...part.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || part.closest("svg, .filled .hint, [hidden]") || !part.getClientRects().length) continue;
    const [a, b] = [light(getComputedStyle(part).color), light(below(part))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) found.push([part.textContent.slice(0, 40), (a + 0.05) / (b + 0.05)]);
  }
  return found;
}"""  # WCAG 2.1, 1.4.3

pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="no Chromium: install one, or name it in TWIN_DCAL_CHROMIUM"),
]


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (dev extra)")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", *CAMERA])
        yield opened
        opened.close()


@pytest.fixture
def opened(browser, port):
    """A function that opens the page; at the end nothing may have been said, nor any other host asked."""
    contexts, said, asked = [], [], []

    def visit(port=port, hash="", **how):
        context = browser.new_context(**how)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"http://127.0.0.1:{port}/{hash}")
        page.wait_for_load_state("networkidle")
        return page

    visit.said = said
    yield visit
    for context in contexts:
        context.close()
    assert said == []
    assert {url.split("/")[2].split(":")[0] for url in asked if not url.startswith(("data:", "blob:"))} == {
        "127.0.0.1"
    }


def file(content, name="photo.png"):
    return {"name": name, "mimeType": "image/png", "buffer": content}


ONE, TWO = photo(1), photo(2)


def choose(page, one=ONE, two=TWO):
    page.get_by_label("First photo", exact=True).first.set_input_files(file(one))
    page.get_by_label("Second photo", exact=True).first.set_input_files(file(two))
    page.locator("#verdict:not(:empty)").wait_for()
    page.locator("#status:not(.busy)").wait_for()


def wait_for_video(page):  # wait_for_function would need 'unsafe-eval'
    page.locator("#video").evaluate(
        "async video => { while (!video.videoWidth) await new Promise(done => setTimeout(done, 20)) }"
    )


def drop(page, side, *parts):
    """Drop files on a side; a number stands for so many bytes."""
    page.evaluate(
        "([side, parts]) => { const files = new DataTransfer();"
        " for (const part of parts) files.items.add(new File([new Uint8Array(part)], 'a.png', { type: 'image/png' }));"
        " const event = new DragEvent('drop', { dataTransfer: files, bubbles: true, cancelable: true });"
        " document.querySelectorAll('.frame')[side].dispatchEvent(event) }",
        [side, list(parts)],
    )


def slide(page, value):
    page.locator("#threshold").evaluate(
        "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input')) }", str(value)
    )


def test_from_two_photos_to_a_decision(opened, web_engine):
    page = opened()
    assert page.locator("#status").inner_text() == "Choose two photos."
    assert not page.locator("#answer").is_visible()
    choose(page)
    expected = web_engine.verify_pair(photo(1), photo(2))
    told = "Same person" if expected.same_person else "Two different people"
    assert page.locator("#verdict").inner_text() == told
    assert f"{expected.similarity:.3f}" in page.locator("#why").inner_text()
    assert f"{THRESHOLD:.3f}" in page.locator("#why").inner_text()
    assert "Probability that both show one person" in page.locator("#probability").inner_text()
    assert page.locator("#warnings li").count() == len(expected.warnings)
    for face in page.locator(".face").all():
        # of the photo's pixels, not of the 32 that the network saw
        assert face.evaluate("face => face.complete && face.naturalWidth") == 64


def test_what_the_browser_cannot_draw_leaves_no_broken_picture(opened):
    page = opened()
    face = page.locator(".face").first
    drop(page, 0, 40)
    page.locator(".face.undrawn").wait_for(state="attached")
    assert face.evaluate("face => getComputedStyle(face).visibility") == "hidden"
    before = "frame => getComputedStyle(frame, '::after').content"
    assert page.locator(".frame").first.evaluate(before) == '"No preview"'
    page.get_by_label("First photo", exact=True).first.set_input_files(file(ONE))
    page.locator(".face:not(.undrawn)").first.wait_for()
    assert page.locator(".frame").first.evaluate(before) == "none"


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (390, "dark")])
def test_axe_finds_nothing(opened, width, scheme):
    page = opened(viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True)
    assert violations(page) == []
    choose(page)
    page.locator("input[value=pair]").check(force=True)
    page.locator(".overlay:visible").nth(1).wait_for()
    assert violations(page) == []


def test_the_slider_decides_and_shows_the_rates(opened, web_engine):
    page = opened()
    choose(page)
    similarity = web_engine.verify_pair(photo(1), photo(2)).similarity
    for threshold, verdict in (
        (similarity - 0.01, "Same person"),
        (min(0.999, similarity + 0.004), "Two different people"),
    ):
        slide(page, threshold)
        assert page.locator("#verdict").inner_text() == verdict
        assert verdict.lower() in page.locator("#threshold").get_attribute("aria-valuetext")
        value = float(page.locator("#threshold").input_value())
        rates = web_engine.rates(value)
        shown = page.locator("#rates tbody tr td:first-of-type").all_inner_texts()
        parsed = [float(text.replace("\u202f%", "")) / 100 for text in shown]
        assert parsed == pytest.approx([rates.twin_fmr, rates.unrelated_fmr, rates.fnmr], abs=0.005)
    page.get_by_role("button", name="Back to the model’s").click()
    assert page.locator("#threshold-value").inner_text() == f"{THRESHOLD:.3f}"


def test_rates_follow_the_servers_rule_everywhere(opened, web_engine):
    page = opened()
    values = [-1, -0.2, -0.1, 0.1, 0.25, 0.4, 0.55, 0.7, 0.9, 0.95, 0.96, 1]
    found = page.evaluate(
        "async ([curve, values]) => { const { ratesAt } = await import('/drawing.js');"
        " return values.map((value) => ratesAt(curve, value)) }", [CURVE, values],
    )  # fmt: skip
    for value, rates in zip(values, found, strict=True):
        expected = web_engine.rates(value)
        assert (rates["fmr"]["twin"], rates["fmr"]["unrelated"], rates["fnmr"]) == (
            expected.twin_fmr, expected.unrelated_fmr, expected.fnmr
        )  # fmt: skip


def test_overlays_switch(opened):
    page = opened()
    choose(page)
    assert page.locator("#choices label").all_inner_texts() == [
        "Photos only", "Why alike or different", "Attention", "GLCA regions",
    ]  # fmt: skip
    assert not page.locator(".overlay").first.is_visible()
    drawn = set()
    for name in ("rollout", "pair", "glca_regions"):
        page.locator(f"input[value={name}]").check(force=True)
        page.locator(".overlay:visible").first.wait_for()
        assert page.locator(".overlay:visible").count() == 2
        drawn.add(page.locator(".overlay").first.evaluate("canvas => canvas.toDataURL()"))
        assert page.locator("#overlay-says").inner_text()
    assert len(drawn) == 3
    page.locator("input[value=none]").check(force=True)
    assert page.locator(".overlay:visible").count() == 0
    assert not page.locator("#lines").is_visible()
    page.get_by_label("Matched regions").check()
    page.locator("#lines g").nth(1).wait_for()
    box = page.locator("#pair").bounding_box()
    for circle in page.locator("#lines circle").all():
        spot = circle.bounding_box()
        assert box["x"] <= spot["x"] <= box["x"] + box["width"]
    page.get_by_label("Matched regions").uncheck()
    assert not page.locator("#lines").is_visible()


def test_overlays_with_arrow_keys(opened):
    page = opened()
    choose(page)
    page.locator("input[value=none]").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("input[value=pair]").is_checked()
    page.locator(".overlay:visible").nth(1).wait_for()
    assert page.evaluate("document.activeElement.value") == "pair"  # not lost when the maps arrive


def test_why_is_asked_for_once_and_only_when_wanted(opened):
    page = opened()
    sent = []
    page.on("request", lambda request: sent.append(request.method) if "verify" in request.url else None)
    choose(page)
    page.locator("input[value=rollout]").check(force=True)
    assert len(sent) == 1
    page.get_by_label("Matched regions").check()
    page.locator("#lines g").nth(1).wait_for()
    page.locator("input[value=pair]").check(force=True)
    page.locator("#legend:visible").wait_for()
    assert len(sent) == 2


SLOW_ANSWERS = """(() => {
  const { fetch } = window, { json } = Response.prototype;
  let newest = 0;
  window.fetch = async (path, options = {}) => {
    const number = path.includes("verify") ? (newest += 1) : null;
    return Object.assign(await fetch(path, { ...options, signal: null }), { number });
  };
  Response.prototype.json = async function () {
    const told = await json.call(this);
    if (this.number) await new Promise((done) => setTimeout(done, 400));
    if (window.givenUp && this.number && this.number < newest) throw new DOMException("given up", "AbortError");
    return told;
  };
})()"""


@pytest.mark.parametrize("given_up", [True, False])
def test_an_answer_for_photos_that_were_replaced_is_dropped(opened, given_up):
    page = opened()
    page.evaluate(SLOW_ANSWERS)
    page.evaluate("value => { window.givenUp = value }", given_up)
    choose(page)
    choose(page, photo(3), photo(3))  # the first of the two asks already, with the other photo of before
    assert "Similarity 1.000" in page.locator("#why").inner_text()
    page.wait_for_timeout(600)
    assert page.locator("#history li").count() == 2
    assert not page.locator("#problem").is_visible()


def test_why_is_asked_for_once_even_while_it_is_worked_out(opened):
    page = opened()
    page.evaluate(SLOW_ANSWERS)
    choose(page)
    sent = []
    page.on("request", lambda request: sent.append(request.method) if "verify" in request.url else None)
    page.locator("input[value=pair]").check(force=True)
    page.get_by_label("Matched regions").check()
    page.locator("#lines g").nth(1).wait_for()
    assert len(sent) == 1


def test_history_is_in_memory_only(opened):
    page = opened()
    choose(page)
    choose(page, photo(3), photo(3))
    page.locator("#history li").nth(1).wait_for()
    first = page.locator("#why").inner_text()
    page.locator("#history button").nth(1).click()
    assert page.locator("#why").inner_text() != first
    assert page.evaluate("localStorage.length + sessionStorage.length + document.cookie.length") == 0
    page.reload()
    page.wait_for_load_state("networkidle")
    assert not page.locator("#past").is_visible()
    choose(page)
    page.get_by_role("button", name="Clear").click()
    assert not page.locator("#past").is_visible()


def test_a_damaged_photo_is_told_and_can_be_replaced(opened):
    page = opened()
    page.get_by_label("First photo", exact=True).first.set_input_files(file(photo(1)))
    page.get_by_label("Second photo", exact=True).first.set_input_files(file(b"no image at all"))
    page.locator("#problem:visible").wait_for()
    assert page.locator("#problem").inner_text().startswith("Second photo: not an image")
    assert not page.locator("#answer").is_visible()
    page.get_by_label("Second photo", exact=True).first.set_input_files(file(photo(2)))
    page.locator("#verdict:not(:empty)").wait_for()
    assert not page.locator("#problem").is_visible()
    assert "422" in opened.said.pop()  # the browser's own line about the refused request
    assert opened.said == []


def test_a_photo_that_is_too_large_is_not_sent(opened):
    page = opened()
    drop(page, 0, 21 * 2**20)
    assert "up to 20 MB" in page.locator("#problem").inner_text()


def test_dropped_photos(opened):
    page = opened()
    drop(page, 0, list(photo(1)))
    drop(page, 1, list(photo(2)))
    page.locator("#verdict:not(:empty)").wait_for()


def test_the_camera(opened):
    page = opened(permissions=["camera"])
    page.get_by_label("Take first photo with the camera").click()
    page.locator("#camera[open]").wait_for()
    wait_for_video(page)
    page.get_by_role("button", name="Cancel").click()
    assert page.locator("#status").inner_text() == "Choose two photos."
    for which in ("first", "second"):
        page.get_by_label(f"Take {which} photo with the camera").click()
        wait_for_video(page)
        page.get_by_role("button", name="Take", exact=True).click()
    page.locator("#verdict:not(:empty)").wait_for()
    assert page.evaluate("document.getElementById('video').srcObject") is None  # the camera is off again
    page.get_by_label("Take first photo with the camera").click()
    wait_for_video(page)
    page.get_by_role("button", name="Take 5 in a row").click()
    page.locator(".photo").first.locator(".tiles img").nth(5).wait_for()
    page.get_by_label("Take first photo with the camera").click()
    wait_for_video(page)
    page.get_by_role("button", name="Take 5 in a row").click()
    page.get_by_role("button", name="Cancel").click()
    assert page.locator("#camera[open]").count() == 0


def test_a_token_in_the_address_is_taken_out_of_it(opened, web_engine):
    token = "a-token-long-enough"
    with served(web_engine, token=token, host="0.0.0.0") as port:
        page = opened(port, f"#token={token}")
        choose(page)
        assert page.url == f"http://127.0.0.1:{port}/"
        page.reload()
        page.locator("#work:visible").wait_for()  # known for as long as the tab is open
        other = opened(port)
        other.locator("#token-form:visible").wait_for()
        other.get_by_label("Token").fill("not the right one")
        other.get_by_role("button", name="Open").click()
        other.get_by_text("That token is not the right one.").wait_for()
        other.get_by_label("Token").fill(token)
        other.get_by_role("button", name="Open").click()
        other.locator("#work:visible").wait_for()
    assert all("401" in text for text in opened.said)
    opened.said.clear()


def test_without_a_curve_the_page_says_so(opened, tmp_path):
    with served(made_engine.engine(tmp_path, curve=False)) as port:
        page = opened(port)
        assert "stores no error curve" in page.locator("#rates-note").inner_text()
        choose(page)
        assert not page.locator("#rates").is_visible()
        assert not page.locator("#overlays").is_visible()


@pytest.mark.parametrize("width", [320, 390, 768, 1280, 1920])
def test_no_sideways_scrolling(opened, width):
    page = opened(viewport={"width": width, "height": 844})
    choose(page)
    page.locator("summary").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(opened, scheme):
    page = opened(color_scheme=scheme)
    choose(page)
    page.locator("summary").click()
    weak = page.evaluate(WEAK_CONTRAST)
    assert weak == []


def test_everything_that_acts_has_a_name_and_can_be_reached(opened):
    page = opened()
    choose(page)
    nameless = page.evaluate(
        "[...document.querySelectorAll('button, input, summary')].filter(part => part.getClientRects().length"
        " && !(part.getAttribute('aria-label') || part.textContent.trim() || part.labels?.length))"
        ".map(part => part.outerHTML)"
    )
    assert nameless == []
    reached = []
    for _ in range(20):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate(
                "(({ id, className, tagName }) => id || className || tagName)(document.activeElement)"
            )
        )
    order = [
        name for name in ("again", "camera", "matches", "threshold", "SUMMARY", "clear") if name in reached
    ]
    assert [reached.index(name) for name in order] == sorted(reached.index(name) for name in order)
    assert {"threshold", "SUMMARY", "clear", "again"} <= set(reached)
    assert page.locator("#verdict").get_attribute("aria-live") == "polite"
    assert page.locator("#status").get_attribute("role") == "status"
    assert page.locator("#problem").get_attribute("role") == "alert"
