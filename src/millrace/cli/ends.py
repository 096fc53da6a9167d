"""How the command line ends: its exit codes, one table for code, help and documentation."""

from __future__ import annotations

from millrace import errors

DONE = 0
FAILED = 1
WRONG = 2
NO_MATCH = 3
NOT_FOUND = 4
UNREACHABLE = 5
REFUSED = 6
NOT_NOW = 7
TIMED_OUT = 124
INTERRUPTED = 130

MEANINGS: dict[int, str] = {
    DONE: "It did what was asked; a server was told to stop, and stopped.",
    FAILED: "It could not: an item failed or was cancelled, a server did not start, a worker is not alive.",
    WRONG: "The command line, a setting or a file is wrong; nothing was begun.",
    NO_MATCH: "millrace sync: the two files do not match.",
    NOT_FOUND: "There is no such job, schedule, delivery or preset.",
    UNREACHABLE: "No server answers there; for millrace worker --check: no database.",
    REFUSED: "The server wants a token, or another one.",
    NOT_NOW: "Not now: the queue is full, the job has ended, the key is taken.",
    TIMED_OUT: "--timeout ran out; the job goes on.",
    INTERRUPTED: "Ctrl-C; the job goes on.",
}
"""Every code the command line ends with, and what it says. A signal that ends it counts 128 more."""


def code_of(error: errors.MillraceError) -> int:
    """Return the exit code for what went wrong."""
    from millrace import client

    meanings: tuple[tuple[tuple[type[errors.MillraceError], ...], int], ...] = (
        ((client.NotFound,), NOT_FOUND),
        ((client.Unreachable,), UNREACHABLE),
        ((client.Unauthorized, client.Forbidden), REFUSED),
        ((client.Conflict, client.Busy), NOT_NOW),
        ((client.WaitTimeout,), TIMED_OUT),
        ((client.LocalError, client.BadRequest, client.TooLarge), WRONG),
        ((errors.SettingsError, errors.InvalidRequest), WRONG),
    )
    return next((code for kinds, code in meanings if isinstance(error, kinds)), FAILED)
