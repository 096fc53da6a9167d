"""Runs the application on a socket until it is told to stop."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
from collections.abc import Iterator, Mapping
from types import FrameType

import uvicorn

from millrace.errors import Unavailable
from millrace.server.app import create_app
from millrace.server.services import Services
from millrace.workloads import Plugin

log = logging.getLogger(__name__)

_GRACE_SECONDS = 10


def bind(host: str, port: int) -> socket.socket:
    """Listen on ``host:port`` (port 0: any free one); Unavailable, saying why, when that is not possible."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        found = socket.socket(family, kind, protocol)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(2048)
    except OSError as error:
        reason = error.strerror or str(error)
        raise Unavailable(
            f"cannot listen on {host} port {port}: {reason}; choose another with --port"
        ) from error
    return found


def url_of(listener: socket.socket) -> str:
    """Return the URL at which a listening socket is reached."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Server(uvicorn.Server):
    """A server that ends its event streams when it is told to stop, and exits 0 for it."""

    def __init__(self, config: uvicorn.Config, services: Services) -> None:
        super().__init__(config)
        self._services = services

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Listen for SIGINT and SIGTERM. Unlike uvicorn's own, nothing is raised again afterwards."""
        before = {sig: signal.signal(sig, self.handle_exit) for sig in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for sig, handler in before.items():
                signal.signal(sig, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop gracefully; at once when asked a second time."""
        log.info("stopping on %s", signal.Signals(sig).name)
        self._services.closing.set()
        super().handle_exit(sig, frame)


def run(services: Services, plugins: Mapping[str, Plugin], listener: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT. Requests under way get ten seconds to end."""
    config = uvicorn.Config(
        create_app(services, plugins),
        loop="uvloop",
        http="httptools",
        ws="websockets-sansio",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        ws_max_size=1 << 20,
        # A client that has answered no ping for a minute is gone.
        ws_ping_interval=20.0,
        ws_ping_timeout=40.0,
    )
    server = _Server(config, services)
    log.info("listening on %s", url_of(listener))
    server.run(sockets=[listener])
