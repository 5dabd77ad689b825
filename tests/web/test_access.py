"""Who may ask: Host against DNS rebinding, Origin and Sec-Fetch-Site against other pages, a token for all others."""

import pytest

from twin_dcal.errors import ConfigError
from twin_dcal.web.access import access_for, is_loopback

TOKEN = "a-token-long-enough"


def status(access, path="/api/verify", **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    refusal = access.refusal(path, {"host": "127.0.0.1:8014", **named})
    return None if refusal is None else refusal.status


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:80", "localhost:9", "LOCALHOST", "[::1]:8014", "127.8.0.1"]
)
def test_loopback_hosts_are_known(host):
    assert status(access_for("127.0.0.1", None), host=host) is None


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "127.0.0.1.evil.example", "evil@127.0.0.1", "127.0.0.1/..", "192.168.0.2:8014", "[::1", "::1",
     "localhost.", "localhost evil", "127.0.0.1:", "0.0.0.0"],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/", "/page.js", "/api/model", "/openapi.json"])
def test_other_hosts_are_refused_everywhere(host, path):
    assert status(access_for("127.0.0.1", None), path, host=host) == 403


def test_an_open_address_takes_addresses_and_its_names_but_no_others():
    access = access_for("box.example", TOKEN, ["Proxy.example"])
    for host in ("192.168.0.2:8014", "[2001:db8::1]", "box.example:8014", "proxy.example", "localhost"):
        assert status(access, "/", host=host) is None
    assert status(access, "/", host="evil.example") == 403


@pytest.mark.parametrize(
    ("origin", "expected"),
    [("http://127.0.0.1:8014", None), ("https://127.0.0.1:8014", None), ("http://127.0.0.1:8015", 403), ("null", 403),
     ("http://evil.example", 403), ("", 403), ("http://127.0.0.1:8014@evil.example", 403), ("http://[", 403)],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/", "/api/verify"])
def test_origin_must_be_the_page_itself(origin, expected, path):
    assert status(access_for("127.0.0.1", None), path, origin=origin) == expected


def test_other_sites_may_link_to_the_page_but_not_call_the_api():
    access = access_for("127.0.0.1", None)
    assert status(access, "/", sec_fetch_site="cross-site") is None
    for site, expected in {"cross-site": 403, "same-site": 403, "same-origin": None, "none": None}.items():
        assert status(access, "/api/model", sec_fetch_site=site) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [(f"Bearer {TOKEN}", None), (f"bearer {TOKEN}", None), (f"Basic {TOKEN}", 401), ("Bearer", 401), ("", 401),
     (f"Bearer {TOKEN}x", 401), (f"Bearer {TOKEN[:-1]}", 401), (TOKEN, 401), ("Bearer ü", 401)],
)  # fmt: skip
def test_the_token_guards_the_api(given, expected):
    access = access_for("0.0.0.0", TOKEN)
    assert status(access, authorization=given) == expected
    assert status(access, "/", authorization=given) is None  # the page is the same for everybody


def test_a_missing_token_says_how_to_send_it():
    refusal = access_for("127.0.0.1", TOKEN).refusal("/api/model", {"host": "localhost"})
    assert refusal.headers == {"WWW-Authenticate": "Bearer"}
    assert "Authorization: Bearer" in refusal.reason


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.2", "box.example", ""])
def test_an_open_address_needs_a_token(host):
    with pytest.raises(ConfigError, match="give a token"):
        access_for(host, None)


@pytest.mark.parametrize("token", ["", "short", "a token with spaces", "x" * 15, "ü" * 20, "x" * 20 + "\n"])
def test_weak_tokens_are_refused(token):
    with pytest.raises(ConfigError, match="16 or more"):
        access_for("0.0.0.0", token)


def test_loopback_is_told_by_address():
    assert all(map(is_loopback, ("127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "localhost.example", "")))
