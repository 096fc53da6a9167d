"""The page about transcripts names every setting with its default, and every artifact."""

import re
from pathlib import Path

from pydantic import BaseModel

from millrace.workloads.transcripts.settings import TranscriptsSettings
from millrace.workloads.transcripts.view import ARTIFACTS

PAGE = (Path(__file__).parents[3] / "docs" / "workloads" / "transcripts.md").read_text(encoding="utf-8")


def names(model: type[BaseModel], prefix: str = "") -> dict[str, object]:
    found = {}
    for name, field in model.model_fields.items():
        if isinstance(field.default, BaseModel):
            found |= names(type(field.default), f"{prefix}{name}.")
        else:
            found[prefix + name] = field.default
    return found


def test_every_setting_is_on_the_page_with_its_default():
    rows = dict(re.findall(r"^\| `([a-z_.]+)` \|([^|]*)\|", PAGE.partition("## Settings")[2], re.M))
    settings = names(TranscriptsSettings)
    assert set(rows) == set(settings)
    for name, default in settings.items():
        shown = rows[name].strip().strip("`")
        if isinstance(default, float):
            assert float(shown) == default, name
        elif default is None:
            assert shown in ("", "demucs` in `models_dir")
        else:
            assert shown == str(default), name


def test_every_artifact_is_on_the_page():
    for key, (name, _) in ARTIFACTS.items():
        assert f"`{key}`" in PAGE
        assert f"`{name}`" in PAGE
