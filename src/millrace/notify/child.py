"""The process that runs Apprise: reads one request as a line of JSON, answers with one, and ends.

What an address may lead to is held at the interpreter's own gates (audit events, PEP 578), below all the
libraries that Apprise uses: every address that a socket connects to is judged after names were looked
up, so no redirect, second host in a query or changed answer of a name server gets around it.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import sys
import threading
from typing import Any

import orjson

from millrace.addresses import refusal

_CONNECTS = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})
_PROGRAMS = frozenset(
    {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty"}
)
_LOGS = frozenset({"syslog.syslog", "syslog.openlog"})
_READABLE = tuple(
    {
        *(sys.prefix, sys.base_prefix, sys.exec_prefix, *(entry for entry in sys.path if entry)),
        *("/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/usr/share", "/usr/lib", "/usr/local/share"),
        *("/etc/resolv.conf", "/etc/hosts", "/etc/host.conf", "/etc/nsswitch.conf", "/etc/mime.types"),
        *("/etc/localtime", "/dev/urandom", "/dev/null", "/etc/httpd/conf/mime.types"),
        *(
            os.environ[name]
            for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")
            if name in os.environ
        ),
    }
)
_LONGEST_REASON = 500


class Gate:
    """Refuses what an address may not lead to, and remembers why."""

    def __init__(self, *, trusted: bool, allow_private: bool, network: bool = True) -> None:
        self.trusted = trusted
        self.allow_private = allow_private or trusted
        self.network = network
        self.refused: str | None = None

    def close(self) -> None:
        """Watch from now on, until the process ends."""
        sys.addaudithook(self._on_event)

    def _on_event(self, event: str, arguments: tuple[Any, ...]) -> None:
        reason = None
        if event in _CONNECTS:
            reason = self._of_connection(arguments[1])
        elif not self.trusted and event in _PROGRAMS:
            reason = "it would run a program"
        elif not self.trusted and event in _LOGS:
            reason = "it would write into the log of this machine"
        elif not self.trusted and event == "open":
            reason = self._of_file(arguments[0], arguments[1])
        if reason is not None:
            self.refused = self.refused or reason
            raise PermissionError(reason)

    def _of_connection(self, address: Any) -> str | None:
        if not self.network:
            return "nothing is connected to while an address is checked"
        if isinstance(address, (str, bytes)):
            return None if self.trusted else "it would reach a service inside this machine"
        if address is None:
            return None  # a socket that was connected, and judged, before
        host = str(address[0]).partition("%")[0]
        try:
            found = ipaddress.ip_address(host)
        except ValueError:
            return f"{host!r} is no address"
        why = refusal(found, self.allow_private)
        return None if why is None else f"it leads to {found}, {why}"

    def _of_file(self, path: Any, mode: Any) -> str | None:
        if isinstance(path, int):
            return None
        name = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - resolve() would open directories
        writes = isinstance(mode, str) and any(letter in mode for letter in "wax+")
        if not writes and any(name == root or name.startswith(f"{root}/") for root in _READABLE):
            return None
        if name == "/dev/null":
            return None
        return "it would open a file of this machine"


def check(addresses: list[str]) -> list[str | None]:
    """Return for each address why Apprise cannot use it."""
    from apprise import Apprise

    reasons: list[str | None] = []
    schemas = {name for entry in Apprise().details()["schemas"] for name in _names(entry)}
    for address in addresses:
        scheme = address.partition("://")[0].lower()
        if scheme not in schemas:
            reasons.append(f"there is no service {scheme[:32]!r}")
        elif Apprise.instantiate(address, suppress_exceptions=True) is None:
            reasons.append(
                f"the address is not as {scheme}:// addresses are; see Apprise's page of that service"
            )
        else:
            reasons.append(None)
    return reasons


def _names(entry: dict[str, Any]) -> set[str]:
    return {*(entry.get("protocols") or ()), *(entry.get("secure_protocols") or ())}


def send(message: dict[str, str]) -> str | None:
    """Send a message; return why that failed, in the words of Apprise's log."""
    from apprise import Apprise, AppriseAsset, LogCapture, NotifyFormat

    apprise = Apprise(asset=AppriseAsset(app_id="Millrace", app_desc="Millrace", app_url=""))
    if not apprise.add(message["url"]):
        return "the address is not one that Apprise can use"
    with LogCapture(level=logging.WARNING, fmt="%(message)s") as out:  # type: ignore[no-untyped-call]
        sent = apprise.notify(
            body=message["body"],
            title=message["title"],
            notify_type=message["tone"],
            body_format=NotifyFormat.TEXT,
        )
        said = " ".join(out.getvalue().split())
    if sent:
        return None
    return said[:_LONGEST_REASON] or "the service did not take it"


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Do what a request asks."""
    import apprise  # noqa: F401 - loaded before files are watched

    if "check" in request:
        Gate(trusted=False, allow_private=False, network=False).close()
        return {"reasons": check(request["check"])}
    gate = Gate(trusted=request["trusted"], allow_private=request["allow_private"])
    gate.close()
    failed = send(request["send"])
    refused = None if failed is None else gate.refused
    return {"refused": refused, "failed": None if refused is not None else failed}


def main() -> None:
    """Answer one request, or end when nobody waits for the answer any more."""
    request = orjson.loads(sys.stdin.buffer.readline())

    def end_with_the_server() -> None:
        sys.stdin.buffer.read()
        os._exit(1)

    threading.Thread(target=end_with_the_server, daemon=True).start()
    out = os.dup(1)
    # Whatever a library prints must not be taken for the answer.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    try:
        given = answer(request)
    except Exception as error:  # noqa: BLE001 - told to the server
        # Apprise catches its services' errors; what is left is told, or nobody would ever know.
        given = {"crashed": f"{type(error).__name__}: {error}"}
    os.write(out, orjson.dumps(given) + b"\n")
    os._exit(0)


if __name__ == "__main__":
    main()
