"""The settings' page: every setting is on it, with its default, and nothing that is not there."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from millrace.errors import SettingsError
from millrace.settings import Settings
from millrace.settings_sources import SHORT_NAMES, load_settings

PAGE = (Path(__file__).parents[2] / "docs" / "settings.md").read_text(encoding="utf-8")


def names(model: type[BaseModel], prefix: str = "") -> set[str]:
    found = set()
    for name, field in model.model_fields.items():
        inner = field.annotation
        if name == "workloads" and not prefix:
            continue
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found |= names(inner, f"{prefix}{name}.")
        else:
            found.add(prefix + name)
    return found


def documented() -> set[str]:
    cells = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    return {name for cell in cells for name in re.findall(r"`([a-z_.]+)`", cell)}


def test_the_page_and_the_settings_have_the_same_names():
    assert documented() == names(Settings)


def test_the_short_names_are_on_the_page():
    for name in SHORT_NAMES:
        assert f"`{name}`" in PAGE


def test_the_example_can_be_read(tmp_path):
    text = re.search(r"```yaml\n(.*?)```", PAGE, re.S).group(1)
    file = tmp_path / "millrace.yaml"
    file.write_text(text.replace("/srv/media", str(tmp_path)).partition("transcripts:")[0], encoding="utf-8")
    settings = load_settings(file, environ={})
    assert (settings.host, settings.token, settings.fetch.max_bytes) == (
        "0.0.0.0",
        "change-me",
        2_000_000_000,
    )


def test_the_sentence_on_the_page_is_the_one_that_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "millrace.yaml").write_text("prot: 80\n", encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        load_settings(environ={})
    assert f"millrace: {caught.value.message}" in PAGE
