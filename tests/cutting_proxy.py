"""A TCP proxy before a real server that loses answers and cuts connections, as networks do."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading


class CuttingProxy:
    """Forwards connections to ``port`` of this machine until it is told to do otherwise.

    requests   the first line of every request that went through, in order.
    refused    connections on which these bytes are sent are cut; empty: none.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self.requests: list[str] = []
        self.refused = b""
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        self._losing = 0
        self._limits: list[int] = []
        self._own_port = 0
        self.open()
        self.url = f"http://127.0.0.1:{self._own_port}"

    def lose_answers(self, number: int) -> None:
        """Let the next requests through, but cut the connection instead of their answers."""
        self._losing = number

    def limit_answers(self, *limits: int) -> None:
        """Cut the next connections after so many bytes of answers each."""
        self._limits = list(limits)

    def cut(self) -> int:
        """Cut every connection there is, at once and without a goodbye; return how many."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for client, server in pairs:
            reset(client)
            reset(server)
        return len(pairs)

    def open(self) -> None:
        """Take connections, after it was closed on the same port again."""
        self._listener = socket.create_server(("127.0.0.1", self._own_port))
        self._own_port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        # Closing alone leaves a thread that is in accept() holding the port.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._port))
            with self._lock:
                self._pairs.append((client, server))
                limit = self._limits.pop(0) if self._limits else None
            threading.Thread(target=self._up, args=(client, server), daemon=True).start()
            threading.Thread(target=self._down, args=(server, client, limit), daemon=True).start()

    def _up(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while block := client.recv(65536):
                if self.refused and self.refused in block:
                    reset(client)
                    break
                line = block.split(b"\r\n", 1)[0]
                if line.endswith(b"HTTP/1.1"):
                    self.requests.append(line.decode().removesuffix(" HTTP/1.1"))
                server.sendall(block)
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_WR)

    def _down(self, server: socket.socket, client: socket.socket, limit: int | None) -> None:
        with contextlib.suppress(OSError):
            while block := server.recv(65536):
                if self._losing:
                    self._losing -= 1
                    break
                if limit is not None:
                    client.sendall(block[:limit])
                    limit -= len(block)
                    if limit <= 0:
                        break
                else:
                    client.sendall(block)
        reset(client)
        reset(server)


def reset(connection: socket.socket) -> None:
    """Close a connection with RST, as a machine that vanished and came back would."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
