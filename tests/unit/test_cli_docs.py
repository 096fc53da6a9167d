"""docs/cli.md says what the command line takes: its reference is the one that the code gives."""

from __future__ import annotations

from tests.cli_reference import BEGIN, END, GUIDE, render


def test_the_reference_is_up_to_date() -> None:
    written = GUIDE.read_text().partition(BEGIN)[2].partition(END)[0].strip()
    assert written == render().strip(), "write it anew: python -m tests.cli_reference"


def test_every_argument_and_option_says_what_it_is_for() -> None:
    empty = [line for line in render().splitlines() if line.startswith("| `") and line.endswith("|  |")]
    assert empty == []
