"""What the accessibility checker axe-core finds on a page, for the tests in a real browser."""

import pytest


def violations(page) -> list[str]:
    """`impact rule: help (element)` of everything that is wrong; the page's context must have `bypass_csp=True`."""
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe is not installed (dev extra)"
    )
    found = axe.Axe().run(page).response["violations"]
    return [
        f"{each['impact']} {each['id']}: {each['help']} ({each['nodes'][0]['html'][:200]})" for each in found
    ]
