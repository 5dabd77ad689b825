"""What does a command ask of the network? Runs it where nothing leads out, and lists what it tried.

    python benchmarks/watch_network.py [--log FILE] -- dcal-train --data_dir FACES …

The command runs in a network namespace of its own, in which every address there is belongs to the loopback device:
a packet to anywhere arrives here and is read from the device (AF_PACKET), whatever library or language sent it. A
name server answers every name with one address, so that a connection follows and is seen too. The sockets of resolver
daemons (under /run) are hidden, since those would ask on the command's behalf. Traffic between 127.x addresses is
the command's own affair, unless it is DNS.

Linux, with `unshare` and `ip`; root, or user namespaces for everybody. Exit code: 3 if anything was asked, else the
command's own. Nothing but the standard library, to be short enough to read.
"""

import argparse
import ipaddress
import json
import os
import select
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ASKED = 3
ANSWER = "203.0.113.1"  # TEST-NET-3: nobody's
_TCP, _UDP, _ICMP, _ICMP6 = 6, 17, 1, 58
_ETH_IP, _ETH_IP6, _ETH_ALL = 0x0800, 0x86DD, 3
_OUTGOING = 4
_SOL_PACKET, _PACKET_STATISTICS = 263, 6


def describe(packet: bytes, own: frozenset[str] = frozenset()) -> str | None:
    """ "tcp 203.0.113.1:443" for an IP packet that asks something of another machine, None for any other.

    Args: own: further addresses of this machine. Answers (TCP without SYN, from port 53, ICMP errors) ask nothing.
    """
    version = packet[0] >> 4
    if version == 4:
        header, protocol, target = (packet[0] & 15) * 4, packet[9], str(ipaddress.ip_address(packet[16:20]))
    else:
        header, protocol, target = 40, packet[6], str(ipaddress.ip_address(packet[24:40]))
    if ipaddress.ip_address(target).is_loopback or target in own:
        return None
    body = packet[header:]
    if protocol in (_TCP, _UDP):
        source, port = struct.unpack("!HH", body[:4])
        if protocol == _TCP and body[13] & 0x12 != 0x02:  # anything but a first SYN
            return None
        if protocol == _UDP and 53 in (source, port):  # the name server tells names
            return None
        return f"{'tcp' if protocol == _TCP else 'udp'} {target}:{port}"
    if protocol in (_ICMP, _ICMP6) and body[0] in ((3, 11) if protocol == _ICMP else (1, 2, 3, 4)):
        return None
    return f"protocol {protocol} {target}"


def question(query: bytes) -> str:
    """The name a DNS query asks for."""
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode("ascii", "replace"))
        at += query[at] + 1
    return ".".join(labels)


def answer(query: bytes) -> bytes:
    """A reply that gives ANSWER for type A and nothing for the others."""
    end = 12
    while query[end]:
        end += query[end] + 1
    end += 5
    is_address = struct.unpack("!H", query[end - 4 : end - 2])[0] == 1
    reply = query[:2] + struct.pack("!HHHHH", 0x8180, 1, int(is_address), 0, 0) + query[12:end]
    if is_address:
        reply += struct.pack("!HHHIH", 0xC00C, 1, 1, 60, 4) + socket.inet_aton(ANSWER)
    return reply


class Watch:
    """Reads the loopback device and answers DNS from a thread, until closed. `asked` counts what was seen."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self._own = frozenset(own_addresses())
        self._packets = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_ALL))
        self._packets.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 20)
        self._packets.bind(("lo", _ETH_ALL))
        self._names = list(name_servers())
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def close(self) -> int:
        """Stop; the number of packets that went by unread."""
        time.sleep(0.3)
        self._done.set()
        self._thread.join()
        statistics = self._packets.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
        return int(struct.unpack("II", statistics)[1])

    def _read(self) -> None:
        while not self._done.is_set():
            for ready in select.select([self._packets, *self._names], [], [], 0.1)[0]:
                data, sender = ready.recvfrom(512)
                if ready is not self._packets:
                    self._answer(ready, data, sender)
                elif sender[2] == _OUTGOING and sender[1] in (_ETH_IP, _ETH_IP6):
                    self._note(describe(data, self._own))

    def _answer(self, server: socket.socket, query: bytes, sender: tuple[str, int]) -> None:
        try:
            self._note(f"dns {question(query)}")
            server.sendto(answer(query), sender)
        except (IndexError, struct.error):
            self._note("dns (no readable question)")

    def _note(self, what: str | None) -> None:
        if what is not None:
            self.asked[what] += 1


def name_servers() -> Iterator[socket.socket]:
    """UDP sockets on every address that /etc/resolv.conf names: an answer must come from the address asked."""
    lines = Path("/etc/resolv.conf").read_text().splitlines() if Path("/etc/resolv.conf").exists() else []
    found = {line.split()[1].partition("%")[0] for line in lines if line.startswith("nameserver ")}
    for address in sorted(found | {"127.0.0.1"}):  # 127.0.0.1: what the C library asks where none is named
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        server = socket.socket(family, socket.SOCK_DGRAM)
        server.bind((address, 53))
        yield server


def own_addresses() -> set[str]:
    """What /etc/hosts gives for this machine's own name."""
    lines = Path("/etc/hosts").read_text().splitlines() if Path("/etc/hosts").exists() else []
    return {line.split()[0] for line in lines if socket.gethostname() in line.partition("#")[0].split()[1:]}


def enclose() -> None:
    """Make this namespace one in which every address is the loopback device's."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["ip", "route", "add", "local", "0.0.0.0/0", "dev", "lo"], check=True)
    if Path("/proc/net/if_inet6").exists():
        subprocess.run(["ip", "-6", "route", "add", "local", "::/0", "dev", "lo"], check=True)
    for folder in ("/run", "/var/run"):
        if Path(folder).is_dir() and not Path(folder).is_symlink():
            subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], check=True)


def inside(command: list[str], log: Path | None) -> int:
    enclose()
    watch, began = Watch(), time.monotonic()
    code = subprocess.run(command).returncode
    seconds = round(time.monotonic() - began, 1)
    missed = watch.close()
    if log is not None:
        told = {"asked": watch.asked, "missed_packets": missed, "exit_code": code, "seconds": seconds}
        log.write_text(json.dumps(told, indent=1) + "\n")
    for what, times in sorted(watch.asked.items()):
        print(f"asked {times} x {what}", file=sys.stderr)
    if missed:
        print(f"{missed} packets went by too fast to be read", file=sys.stderr)
    if not watch.asked and not missed:
        print(f"nothing was asked of the network in {seconds:.0f} s", file=sys.stderr)
    return ASKED if watch.asked or missed else code


def missing() -> str | None:
    """Why a command cannot be enclosed here, None if it can."""
    for tool in ("unshare", "ip", "mount"):
        if shutil.which(tool) is None:
            return f"no '{tool}' here (packages util-linux, iproute2)"
    tried = subprocess.run([*_unshare(), "true"], capture_output=True, text=True)
    return None if tried.returncode == 0 else f"no namespaces for this user: {tried.stderr.strip()}"


def _unshare() -> list[str]:
    return ["unshare", "--net", "--mount", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--log", type=Path, help="what was asked, as JSON")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("command", nargs="+", help="after --")
    options = parser.parse_args()
    if options.inside:
        return inside(options.command, options.log)
    why_not = missing()
    if why_not is not None:
        print(f"error: {why_not}", file=sys.stderr)
        return 2
    log = [] if options.log is None else ["--log", str(options.log.resolve())]
    again = [sys.executable, str(Path(__file__).resolve()), "--inside", *log, "--", *options.command]
    return subprocess.run([*_unshare(), *again]).returncode


if __name__ == "__main__":
    sys.exit(main())
