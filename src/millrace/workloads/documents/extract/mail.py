"""Read EML: headers and body as one page, then its attachments.

Source: RFC 5322 and the MIME RFCs 2045–2049, through the standard library.
"""

from __future__ import annotations

import email
import email.policy
from email.message import EmailMessage, MIMEPart
from pathlib import Path

from millrace.errors import BadInput
from millrace.workloads.documents.extract.collector import Collector
from millrace.workloads.documents.extract.html import text_of
from millrace.workloads.documents.extract.metadata import of_mail
from millrace.workloads.documents.extract.text import decode

_HEADERS = ("From", "To", "Cc", "Bcc", "Reply-To", "Date", "Subject", "Sensitivity", "X-Classification")


def read(path: Path, name: str, out: Collector) -> None:
    """Read a message, then its attachments, into ``out``."""
    message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
    if not isinstance(message, EmailMessage) or not any(
        message[header] for header in ("From", "Subject", "Received", "MIME-Version")
    ):
        raise BadInput(f"{name} is not an e-mail message: it has no headers", code="broken_file")
    lines = [f"{key}: {value}" for key in _HEADERS for value in message.get_all(key, [])]
    body = message.get_body(preferencelist=("plain", "html"))
    images = 0
    if body is not None:
        text, images = _body(body, name)
        lines += ["", text]
    out.add("\n".join(lines), images=images)
    out.note(of_mail(message))
    for number, part in enumerate(message.iter_attachments(), 1):
        _attachment(part, number, out)


def _body(part: MIMEPart, name: str) -> tuple[str, int]:
    data = part.get_payload(decode=True)
    raw = data if isinstance(data, bytes) else b""
    text = decode(raw, name, declared=part.get_content_charset())
    return text_of(text) if part.get_content_subtype() == "html" else (text.replace("\r\n", "\n"), 0)


def _attachment(part: object, number: int, out: Collector) -> None:
    if not isinstance(part, EmailMessage):
        return
    kind = part.get_content_type()
    if kind == "message/rfc822":
        inner = part.get_payload(0) if part.is_multipart() else None
        data = inner.as_bytes() if isinstance(inner, EmailMessage) else b""
        name = part.get_filename() or f"message-{number}.eml"
    else:
        payload = part.get_payload(decode=True)
        data = payload if isinstance(payload, bytes) else b""
        name = part.get_filename() or f"part-{number}{_suffix(kind)}"
    if data:
        out.embed(name, data)


def _suffix(kind: str) -> str:
    return {"text/plain": ".txt", "text/html": ".html", "application/pdf": ".pdf", "image/png": ".png",
            "image/jpeg": ".jpg"}.get(kind, "")  # fmt: skip
