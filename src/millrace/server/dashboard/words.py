"""How times, sizes and numbers are written for people. Pure."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from markupsafe import Markup

_SIZES = ("B", "KB", "MB", "GB", "TB", "PB")


def span(seconds: float | None) -> str:
    """Write a duration in its two largest units.

    >>> [span(s) for s in (0.03, 4.2, 75, 3720, 90000, None)]
    ['0.03 s', '4.2 s', '1 m 15 s', '1 h 2 m', '1 d 1 h', '–']
    """
    if seconds is None:
        return "–"
    seconds = max(0.0, seconds)
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    for large, small, unit, part in ((3600, 60, "m", "s"), (86400, 3600, "h", "m")):
        if whole < large:
            head, rest = divmod(whole, small)
            tail = rest if part == "s" else rest // 60
            return f"{head} {unit} {tail} {part}" if tail else f"{head} {unit}"
    days, rest = divmod(whole, 86400)
    return f"{days} d {rest // 3600} h" if rest >= 3600 else f"{days} d"


def clock(seconds: float) -> str:
    """Write a place in a recording.

    >>> clock(0), clock(75.4), clock(3725)
    ('0:00', '1:15', '1:02:05')
    """
    whole = int(seconds)
    if whole >= 3600:
        return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
    return f"{whole // 60}:{whole % 60:02}"


def base(name: str) -> str:
    """Return the last part of what looks like a path; else the name.

    >>> base("/srv/media/talk.mp3"), base("talk.mp3"), base("https://example.com/")
    ('talk.mp3', 'talk.mp3', 'example.com')
    """
    return name.rstrip("/").rpartition("/")[2] or name


def size(number: float | None) -> str:
    """Write a number of bytes.

    >>> [size(n) for n in (0, 999, 1500, 48_000_000)]
    ['0 B', '999 B', '1.5 KB', '48 MB']
    """
    if number is None:
        return "–"
    for unit in _SIZES:
        if number < 1000 or unit == _SIZES[-1]:
            return f"{number:.0f} {unit}" if number >= 10 or unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    raise AssertionError("unreachable")


def count(number: int) -> str:
    """Write a whole number with thin spaces between thousands."""
    return f"{number:,}".replace(",", "\u202f")


def plural(number: int, one: str, many: str | None = None) -> str:
    """Write a number with its noun.

    >>> plural(1, "job"), plural(2, "job"), plural(0, "retry", "retries")
    ('1 job', '2 jobs', '0 retries')
    """
    return f"{count(number)} {one if number == 1 else many or one + 's'}"


def moment(at: float | None, style: str = "ago") -> Markup:
    """Write a time as an element that the page keeps true.

    ``ago``, ``for`` (how long it has lasted), or ``due`` (an estimate, which may turn out too early).
    """
    if at is None:
        return Markup("–")
    stamp = datetime.fromtimestamp(at, UTC)
    passed = time.time() - at
    text = span(max(0.0, passed)) if style == "for" else told(passed)
    if style == "due" and passed > -1:
        text = "soon"
    return Markup('<time datetime="{}" title="{}" data-{}>{}</time>').format(
        stamp.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        date(at),
        style,
        text,
    )


def date(at: float) -> str:
    """Write a time in full."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def told(passed: float) -> str:
    """Say roughly how long ago something was; what is to come is negative.

    >>> told(1), told(130), told(-7200)
    ('just now', '2 m ago', 'in 2 h')
    """
    if passed < -1:
        return f"in {_rough(-passed)}"
    return "just now" if passed < 3 else f"{_rough(passed)} ago"


def _rough(seconds: float) -> str:
    return span(seconds) if seconds < 10 else " ".join(span(seconds).split(" ")[:2])
