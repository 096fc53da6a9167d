"""A real mail server on a free port of this machine, which keeps what it is sent."""

from __future__ import annotations

import asyncio
import threading
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

from aiosmtpd.smtp import SMTP


class MailServer:
    """Takes any mail.

    refuse   the answer to mail instead of taking it (``550 no``); None: it is taken.
    hold     when set, mail is kept but its sender gets no answer until ``let_go``.
    """

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.refuse: str | None = None
        self.hold = False
        self.port = 0
        ready = threading.Event()

        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            self._let_go, self._over = asyncio.Event(), asyncio.Event()
            server = await self._loop.create_server(lambda: SMTP(self, hostname="127.0.0.1"), "127.0.0.1", 0)
            async with server:
                self.port = server.sockets[0].getsockname()[1]
                ready.set()
                await self._over.wait()

        self._thread = threading.Thread(target=lambda: asyncio.run(serve()), name="mail-server", daemon=True)
        self._thread.start()
        assert ready.wait(30)

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        """Keep a mail."""
        if self.refuse is not None:
            return self.refuse
        mail = message_from_bytes(envelope.content, policy=default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        if self.hold:
            await self._let_go.wait()
        return "250 OK"

    def let_go(self) -> None:
        """Answer those who were held."""
        self.hold = False
        self._loop.call_soon_threadsafe(self._let_go.set)

    def address(self, to: str = "ops@example.org", **more: str) -> str:
        """Return the Apprise URL by which mail to ``to`` goes through this server."""
        query = {"from": "millrace@example.org", "to": to, "mode": "insecure", **more}
        return f"mailto://127.0.0.1:{self.port}?" + "&".join(f"{k}={v}" for k, v in query.items())

    def texts(self) -> list[str]:
        """Return the plain text of each mail."""
        return [mail.get_body(("plain",)).get_content().replace("\r\n", "\n") for mail in self.mails]  # type: ignore[union-attr]

    def close(self) -> None:
        """End."""
        self.let_go()
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(10)
