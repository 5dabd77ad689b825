"""Who may ask: the Host, Origin and token of a request, and the headers that every answer carries.

A page on another site cannot be kept from sending requests to this machine. DNS rebinding is met by the Host, requests
forged from other pages by Origin and Sec-Fetch-Site, everybody else by the token, which no browser sends by itself.
"""

import ipaddress
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from twin_dcal.errors import ConfigError

MIN_TOKEN = 16
API = "/api/"
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")

ANSWER_HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@dataclass(frozen=True)
class Refusal:
    """An answer instead of what was asked: a status from 400 on, its reason, and headers."""

    status: int
    reason: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Access:
    """What requests must bring along.

    names: host names under which the page may be opened, besides localhost and loopback addresses, in lower case.
    any_address: also under any IP address; they need no name service, so they cannot be rebound.
    token: what the API's requests carry as a bearer token; None asks for none.
    """

    names: frozenset[str] = frozenset()
    any_address: bool = False
    token: str | None = None

    def refusal(self, path: str, headers: Mapping[str, str]) -> Refusal | None:
        """Why a request is not answered, None where it is. `headers` by lower-case name."""
        host = headers.get("host", "")
        if not self._knows(host):
            return Refusal(
                403,
                "this page is not served under that Host; open it at the address that was printed at its start",
            )
        origin = headers.get("origin")
        if origin is not None and _netloc(origin) != host.lower():
            return Refusal(403, "requests from other sites' pages are refused (Origin)")
        if not path.startswith(API):
            return None
        if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            return Refusal(403, "requests from other sites' pages are refused (Sec-Fetch-Site)")
        if self.token is not None and not _bears(headers.get("authorization", ""), self.token):
            return Refusal(
                401,
                "a token is needed: send the one given at the start as 'Authorization: Bearer TOKEN'",
                {"WWW-Authenticate": "Bearer"},
            )
        return None

    def _knows(self, host: str) -> bool:
        found = _HOST.fullmatch(host)
        if found is None:
            return False
        name = found[1].lower()
        if name == "localhost" or name in self.names:
            return True
        try:
            address = ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return self.any_address or address.is_loopback


def access_for(host: str, token: str | None, names: Iterable[str] = ()) -> Access:
    """What an address to listen at asks for. ConfigError: open to others without a token, or a token easy to guess."""
    if token is not None and (
        len(token) < MIN_TOKEN or not token.isascii() or not token.isprintable() or " " in token
    ):
        raise ConfigError(
            f"token of {len(token)} characters: give {MIN_TOKEN} or more letters, digits and signs without spaces, "
            "such as python -c 'import secrets; print(secrets.token_urlsafe())' prints"
        )
    local = is_loopback(host)
    if not local and token is None:
        raise ConfigError(
            f"host {host}: others can reach this address; give a token too, or leave out the host"
        )
    own = () if local else (host,)
    return Access(frozenset(name.lower() for name in (*own, *names)), any_address=not local, token=token)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address to listen at."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _netloc(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None


def _bears(authorization: str, token: str) -> bool:
    scheme, _, given = authorization.partition(" ")
    return scheme.lower() == "bearer" and secrets.compare_digest(given.strip().encode(), token.encode())
