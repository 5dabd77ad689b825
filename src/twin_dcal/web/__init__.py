"""The local page and its API: two photos to a decision in the browser, nothing leaves the machine (docs/web.md)."""

LOOPBACK = "127.0.0.1"
PORT = 8765
