"""Patterns of file names: ``**/*.{mkv,mp4}`` against a path relative to a folder. Pure."""

from __future__ import annotations

import re
from functools import lru_cache

from millrace.errors import InvalidRequest

_MAX_BRACES = 256


def check_pattern(pattern: str) -> None:
    """Raise InvalidRequest when a pattern cannot be used."""
    if not pattern or len(pattern) > 1024 or "\0" in pattern:
        raise InvalidRequest(f"pattern {pattern[:50]!r} must have 1–1024 characters and no NUL")
    if pattern.startswith("/") or ".." in pattern.split("/"):
        raise InvalidRequest(
            f"pattern {pattern!r} is matched below path: it must not start with / or contain .."
        )
    for expanded in expand_braces(pattern):
        try:
            re.compile(_regex(expanded))
        except re.error as error:
            raise InvalidRequest(f"pattern {pattern!r} cannot be understood: {error}") from None
        if re.search(r"\[[^\]]*$", expanded):
            raise InvalidRequest(f"pattern {pattern!r} has a [ without its ]")


def expand_braces(pattern: str) -> list[str]:
    """Return the patterns that ``{a,b}`` stands for, nested ones too; InvalidRequest when unbalanced."""
    done: list[str] = []
    waiting = [pattern]
    while waiting:
        text = waiting.pop()
        start = text.find("{")
        if start < 0:
            if "}" in text:
                raise InvalidRequest(f"pattern {pattern!r} has a }} without its {{")
            done.append(text)
            continue
        options, end = _alternatives(text, start, pattern)
        waiting += [text[:start] + option + text[end:] for option in options]
        if len(done) + len(waiting) > _MAX_BRACES:
            raise InvalidRequest(f"pattern {pattern!r} stands for more than {_MAX_BRACES} patterns")
    return done


def _alternatives(text: str, start: int, pattern: str) -> tuple[list[str], int]:
    depth, begin, options = 0, start + 1, []
    for position in range(start, len(text)):
        letter = text[position]
        if letter == "{":
            depth += 1
        elif letter == "," and depth == 1:
            options.append(text[begin:position])
            begin = position + 1
        elif letter == "}":
            depth -= 1
            if depth == 0:
                return [*options, text[begin:position]], position + 1
    raise InvalidRequest(f"pattern {pattern!r} has a {{ without its }}")


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(_regex(part)) for part in expand_braces(pattern))


def _regex(pattern: str) -> str:
    """Translate a pattern of components: ``**`` spans folders, ``*`` and ``?`` stay within one.

    A pattern of one component fits a name at any depth.
    """
    *folders, name = pattern.split("/")
    out = [] if folders else ["(?:[^/]+/)*"]
    for folder in folders:
        out.append("(?:[^/]+/)*" if folder == "**" else _component(folder) + "/")
    if name == "**":
        out.append(".*")
    else:
        stem, dot, extension = name.rpartition(".")
        out.append(_component(stem) + rf"\.(?i:{_component(extension)})" if dot else _component(name))
    return "(?s:" + "".join(out) + r")\Z"


def _component(part: str) -> str:
    out: list[str] = []
    at = 0
    while at < len(part):
        letter = part[at]
        at += 1
        if letter == "*":
            if out[-1:] != ["[^/]*"]:
                out.append("[^/]*")
        elif letter == "?":
            out.append("[^/]")
        elif letter == "[" and (end := part.find("]", at + 1)) > 0:
            inside = part[at:end].replace("\\", r"\\").replace("[", r"\[").replace("^", r"\^")
            out.append(f"[^/{inside[1:]}]" if inside.startswith("!") else f"[{inside}]")
            at = end + 1
        else:
            out.append(re.escape(letter))
    return "".join(out)


def matches(relative: str, pattern: str) -> bool:
    """Return whether a path relative to the scanned folder matches; case is ignored in the extension."""
    return any(regex.match(relative) for regex in _compiled(pattern))
