"""The page on images names every setting of the section, with its default."""

import re
from pathlib import Path

import pytest
import yaml

from millrace.workloads.images.settings import ClipSettings, ImagesSettings, VisionSettings

PAGE = (Path(__file__).parents[3] / "docs" / "workloads" / "images.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("model", [ImagesSettings, VisionSettings, ClipSettings])
def test_every_setting_is_on_the_page(model):
    for name in model.model_fields:
        assert f"`{name}`" in PAGE or f"    {name}: " in PAGE, name


def test_the_examples_are_valid_settings():
    found = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.S)]
    sections = [example["images"] for example in found if "images" in example]
    assert [ImagesSettings.model_validate(section).tagger for section in sections] == ["vision", "clip"]
