"""The report in a real browser: silent, offline, fitting a phone, right in light, dark and print."""

import os
import shutil

import pytest
import synthetic_evaluations as synthetic
from axe_core import violations

from twin_dcal.report.html import write_report

BROWSER = os.environ.get("TWIN_DCAL_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
WHITE = "rgb(255, 255, 255)"

pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="no Chromium: install one, or name it in TWIN_DCAL_CHROMIUM"),
]


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (dev extra)")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def page_url(tmp_path_factory):
    from PIL import Image

    root = tmp_path_factory.mktemp("images")
    made = synthetic.evaluation(6, 4, root=root)
    for path in made.points.paths:
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (64, 64), (hash(path.name) % 200, 120, 90)).save(path)
    return write_report(made, tmp_path_factory.mktemp("report"), root=root, formats=()).as_uri()


@pytest.fixture
def opened(browser, page_url):
    """A function that opens the report; at the end of the test nothing may have been said or asked for."""
    pages, said, asked = [], [], []

    def visit(url=page_url, **how):
        page = browser.new_page(**how)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(dialog.message))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(url)
        page.wait_for_load_state("networkidle")
        pages.append(page)
        return page

    yield visit
    for page in pages:
        page.close()
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [page.url for page in pages]


def colours(page, selector="body"):
    script = "(s) => { const c = getComputedStyle(document.querySelector(s)); return [c.color, c.backgroundColor] }"
    return page.evaluate(script, selector)


def brightness(colour):
    return sum(int(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3]) / 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_opens_silently_and_asks_for_nothing(opened, scheme):
    page = opened(color_scheme=scheme)
    ink, paper = colours(page)
    assert (
        brightness(ink) < 80 < 200 < brightness(paper)
        if scheme == "light"
        else brightness(ink) > 200 > 80 > brightness(paper)
    )
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert page.locator("svg.plot").count() == 7
    stroke = page.evaluate(
        "getComputedStyle(document.querySelector('#plot-roc path[style*=\"--twin\"]')).stroke"
    )
    assert stroke == {"light": "rgb(191, 71, 0)", "dark": "rgb(255, 154, 94)"}[scheme]


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (390, "dark")])
def test_axe_finds_nothing(opened, width, scheme):
    page = opened(viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True)
    assert violations(page) == []


@pytest.mark.parametrize("width", [320, 390, 768, 1280, 1920])
def test_no_sideways_scrolling(opened, width):
    page = opened(viewport={"width": width, "height": 844})
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    wide = page.evaluate(
        "[...document.querySelectorAll('body *')].filter(part => !part.closest('.scroll') && !part.closest('svg')"
        " && part.getBoundingClientRect().right > innerWidth + 1).map(part => part.outerHTML.slice(0, 80))"
    )
    assert wide == []


def test_wide_tables_scroll_in_their_own_box_and_can_be_reached(opened):
    page = opened(viewport={"width": 390, "height": 844})
    box = page.locator(".scroll").first
    assert box.evaluate("box => box.scrollWidth > box.clientWidth")
    assert box.get_attribute("tabindex") == "0"
    box.evaluate("box => box.scrollLeft = 200")
    head = page.locator(".figures tbody th[scope=row]").first.bounding_box()
    assert head["x"] >= box.bounding_box()["x"] - 1  # names of rows stay in sight


def test_text_of_plots_is_legible_on_a_phone(opened):
    page = opened(viewport={"width": 390, "height": 844})
    heights = page.evaluate(
        "[...document.querySelectorAll('svg.plot text')].filter(text => text.textContent.trim())"
        ".map(text => { const at = text.getScreenCTM();"
        " return parseFloat(getComputedStyle(text).fontSize) * Math.hypot(at.c, at.d) })"
    )
    assert min(heights) >= 7.5


def test_names_in_plots_stay_inside_with_the_page_fonts(opened):
    page = opened(viewport={"width": 1280, "height": 900})
    outside = page.evaluate(
        "[...document.querySelectorAll('svg.plot')].flatMap(svg => { const room = svg.getBoundingClientRect();"
        " return [...svg.querySelectorAll('text')].filter(text => { const box = text.getBoundingClientRect();"
        " return box.left < room.left - 2 || box.right > room.right + 2 }).map(text => text.textContent) })"
    )
    assert outside == []


def test_print_is_dark_on_white_whatever_the_screen(opened):
    page = opened(color_scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    ink, paper = colours(page)
    assert brightness(ink) < 80
    assert paper in (WHITE, "rgba(0, 0, 0, 0)")
    assert colours(page, ".card")[1] == WHITE
    assert not page.locator("nav").is_visible()
    assert page.locator(".gallery img").first.is_visible()
    pdf = page.pdf(format="A4")
    assert pdf.startswith(b"%PDF")
    assert 4 <= pdf.count(b"/Type /Page\n") + pdf.count(b"/Type /Page ") <= 14


def test_hostile_names_do_nothing(opened, small, tmp_path):
    from dataclasses import replace

    attack = "</td><img src=x onerror=\"alert('in')\"><script>alert('in')</script>"
    people = [replace(person, person=attack) for person in small.people]
    families = [replace(family, family=attack) for family in small.families]
    made = replace(small, people=people, families=families, points=None)
    page = opened(write_report(made, tmp_path, title=attack, formats=()).as_uri())
    assert page.title() == attack
    assert attack in page.locator("#people").locator("xpath=..").inner_text()
    assert page.locator("script").count() == 0
