"""The page on sync names every setting, method and column there is."""

import re
from pathlib import Path

from millrace.workloads.sync.methods import AI_MODELS, METHODS
from millrace.workloads.sync.pairs import CHOICES, COLUMNS
from millrace.workloads.sync.settings import SyncSettings

PAGE = (Path(__file__).parents[3] / "docs" / "workloads" / "sync.md").read_text(encoding="utf-8")


def test_every_setting_is_on_the_page_with_its_default():
    section = PAGE.partition("## Settings")[2]
    rows = [line.split("|") for line in section.splitlines() if line.startswith("| `")]
    found = {name: row[2].strip() for row in rows for name in re.findall(r"`(\w+)`", row[1])}
    assert set(found) == set(SyncSettings.model_fields)
    for name, value in SyncSettings().model_dump().items():
        if value is not None:
            assert float(found[name]) == value, name


def test_every_method_model_and_column_is_on_the_page():
    for word in (*METHODS, *AI_MODELS, *COLUMNS, *CHOICES):
        assert f"`{word}`" in PAGE or f"{word}," in PAGE, word
