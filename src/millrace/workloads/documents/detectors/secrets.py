"""Secrets: keys, tokens and passwords by the forms that their issuers give them.

Placeholders (``<your-key>``, ``xxxx``, ``${VAR}``) are not findings. Where an issuer builds a checksum
or a structure into its tokens it is checked.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
import zlib
from collections import Counter
from collections.abc import Iterator

from millrace.workloads.documents.detectors.passage import Hints, Passage
from millrace.workloads.documents.document import Finding, Verdict

_TOKENS: tuple[tuple[str, str, str, float], ...] = (
    # type, literal that must be on the page, pattern, weight
    *(("AWS_ACCESS_KEY", lead, rf"(?<![A-Z0-9]){lead}[A-Z2-7]{{16}}(?![A-Z0-9])", 0.95)
      for lead in ("AKIA", "ASIA", "ABIA", "ACCA")),
    ("GITHUB_TOKEN", "gh", r"(?<!\w)gh[pousr]_[A-Za-z0-9]{36}(?!\w)", 0.97),
    ("GITHUB_TOKEN", "github_pat_", r"(?<!\w)github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}(?!\w)", 0.97),
    ("GITLAB_TOKEN", "glpat-", r"(?<!\w)glpat-[\w-]{20,}(?!\w)", 0.95),
    ("SLACK_TOKEN", "xox", r"(?<!\w)xox[abeoprs]-(?:\d+-)*[A-Za-z0-9-]{10,}(?!\w)", 0.95),
    ("SLACK_WEBHOOK", "hooks.slack.com", r"https://hooks\.slack\.com/services/T\w+/B\w+/\w{20,}", 0.95),
    ("STRIPE_KEY", "_live_", r"(?<!\w)[rs]k_live_[A-Za-z0-9]{16,}(?!\w)", 0.97),
    ("GOOGLE_API_KEY", "AIza", r"(?<!\w)AIza[\w-]{35}(?![\w-])", 0.95),
    ("OPENAI_KEY", "sk-", r"(?<![\w-])sk-(?:proj-|svcacct-|ant-[a-z0-9]+-)?[A-Za-z0-9_-]{32,}(?!\w)", 0.9),
    ("SENDGRID_KEY", "SG.", r"(?<!\w)SG\.[\w-]{22}\.[\w-]{43}(?!\w)", 0.97),
    ("NPM_TOKEN", "npm_", r"(?<!\w)npm_[A-Za-z0-9]{36}(?!\w)", 0.97),
    ("PYPI_TOKEN", "pypi-", r"(?<!\w)pypi-AgEIcHlwaS5vcmc[\w-]{50,}", 0.97),
    ("HUGGINGFACE_TOKEN", "hf_", r"(?<!\w)hf_[A-Za-z0-9]{34}(?!\w)", 0.95),
    ("VAULT_TOKEN", "hvs.", r"(?<!\w)hvs\.[\w-]{24,}", 0.95),
    ("TELEGRAM_TOKEN", ":AA", r"(?<!\w)\d{8,10}:AA[\w-]{33}(?![\w-])", 0.95),
    ("AZURE_KEY", "AccountKey=", r"AccountKey=([A-Za-z0-9+/]{86}==)", 0.97),
    ("PRIVATE_KEY", "PRIVATE KEY", r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----[\s\S]{0,6000}?"
     r"(?:-----END (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----|\Z)", 0.98),
    ("JWT", "eyJ", r"(?<![\w-])eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}", 0.8),
    ("URL_CREDENTIALS", "://", r"(?<!\w)[a-z][a-z0-9+.-]{2,20}://[^\s:/@<>\"']{1,64}:([^\s:/@<>\"']{3,128})@[\w.-]+", 0.9),
)  # fmt: skip
_LEAD, _REACH = 40, 7000
"""How far before its literal a secret may begin, and how far it may reach from there."""
_PATTERNS = tuple((kind, literal, re.compile(pattern), weight) for kind, literal, pattern, weight in _TOKENS)
_ASSIGNED = re.compile(
    r"(?<![a-z])(pass(?:word|wd|phrase|code)?|pwd|passwort|kennwort|mot de passe|contraseña|密码|パスワード|secret(?:[ _-]?key)?|"
    r"api[ _-]?key|access[ _-]?key|access[ _-]?token|auth[ _-]?token|client[ _-]?secret|private[ _-]?key|"
    r"aws_secret_access_key|wi-?fi (?:password|key)|pin(?: code)?)[\"']?[ \t]*(?:is|[:=]>?|：)[ \t]*"
    r"[\"'`]?([^\s\"'`<>,;]{4,128})"
)
_LABELS = Hints("pass", "pwd", "kennwort", "mot de passe", "contraseña", "密码", "パスワード", "secret", "api", "access", "auth",
                "client", "private", "aws_secret", "wifi", "wi-fi", "pin")  # fmt: skip
_PLACEHOLDER = re.compile(
    r"(?i)^(?:x+|\*+|•+|\.+|_+|-+|\$\{?.*|%.*|\{.*|<.*|\[.*|your.*|example.*|changeme.*|change_me.*|placeholder.*|todo.*|none|"
    r"null|true|false|required|optional|string|redacted|required\.?|protected|password.*|secret|test|dummy.*|n/a|"
    r"must|should|is|not|and|the|for|a|an|to|of|field|reset|expired?|incorrect|invalid|forgotten|policy.*|env\..*|"
    r"os\..*|process\..*|config\..*|self\..*|settings\..*|.*\w\(.*)$"
)

_SAMPLE_URL = re.compile(
    r"(?i):(?:pass(?:word|wd)?|pwd|secret|guest|user|abc|xyz|hello|foo|bar|test|changeme|x+|\*+|token|admin|root)@"
    r"|@(?:[\w-]+\.)*(?:example(?:\.\w+)?|localhost|127\.0\.0\.1|host(?:name)?|invalid|test|server|proxy)(?:$|[:/])"
)


def detect(passage: Passage) -> Iterator[Finding]:
    """Yield the secrets of a page."""
    for kind, literal, pattern, weight in _PATTERNS:
        if literal not in passage.folded:
            continue
        for match in _matches(pattern, literal, passage.folded):
            group = 1 if pattern.groups else 0
            if group and _PLACEHOLDER.match(match[1]):
                continue
            verdict, factor = _verdict(kind, match[0])
            yield passage.finding(f"secret.{kind.lower()}", kind, "secret", match.start(group), match.end(group),
                                  verdict=verdict, context=kind.lower().replace("_", " "),
                                  weight=weight * factor)  # fmt: skip
    yield from _assignments(passage)


def _matches(pattern: re.Pattern[str], literal: str, text: str) -> Iterator[re.Match[str]]:
    """Yield the matches of a pattern, looked for from shortly before each place of its literal."""
    done, at = 0, text.find(literal)
    while at >= 0:
        low = max(done, at - _LEAD)
        match = pattern.search(text, low, low + _REACH)
        if match is None:
            at = text.find(literal, at + 1)
            continue
        yield match
        done = match.end()
        at = text.find(literal, done)


def _verdict(kind: str, value: str) -> tuple[Verdict, float]:
    if kind == "GITHUB_TOKEN" and value.startswith("gh"):
        right = github_checksum(value[4:34]) == value[34:]
        return Verdict("crc32", right), 1.0 if right else 0.8
    if kind == "JWT":
        right = _is_jose_header(value.partition(".")[0])
        return Verdict("jose-header", right), 1.0 if right else 0.4
    if kind == "URL_CREDENTIALS" and _SAMPLE_URL.search(value):
        return Verdict("documentation-sample", False), 0.2
    if kind == "AWS_ACCESS_KEY" and value.endswith("EXAMPLE"):
        return Verdict("documentation-sample", False), 0.2
    return Verdict("structure", True), 1.0


def github_checksum(body: str) -> str:
    """Return the six last characters of a GitHub token: CRC-32 of the others in base 62."""
    alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    number, out = zlib.crc32(body.encode()), ""
    while number:
        number, digit = divmod(number, 62)
        out = alphabet[digit] + out
    return out.rjust(6, "0")


def _is_jose_header(part: str) -> bool:
    try:
        header = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (binascii.Error, ValueError):
        return False
    return isinstance(header, dict) and "alg" in header


def _assignments(passage: Passage) -> Iterator[Finding]:
    for match in passage.matches(_ASSIGNED, passage.windows(_LABELS, 0, 170)):
        start, end = match.span(2)
        value = passage.folded[start:end].rstrip(".,;:)")
        label = match[1]
        if _PLACEHOLDER.match(value) or len(value) < 4:
            continue
        numeric = value.isdigit()
        if label.startswith("pin") and not (numeric and 4 <= len(value) <= 8):
            continue
        bits = _bits(value)
        varied = sum(bool(re.search(p, value)) for p in (r"[a-z]", r"[A-Z]", r"\d", r"[^\w]"))
        if varied < 2 and not label.startswith("pin"):
            continue
        weight = 0.85 if bits > 30 and varied >= 3 else 0.75 if bits > 20 else 0.5
        yield passage.finding("secret.password", "PASSWORD" if "key" not in label and "token" not in label
                              else "API_KEY", "secret", start, start + len(value),
                              verdict=Verdict("entropy", bits > 20), context=label, weight=weight)  # fmt: skip


def _bits(value: str) -> float:
    """Return the information in a string, in bits, by the frequencies of its own characters."""
    counts = Counter(value)
    return -sum(n * math.log2(n / len(value)) for n in counts.values())
