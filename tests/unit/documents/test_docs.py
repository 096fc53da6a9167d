"""The page about documents names every setting, every type of finding and every path."""

from __future__ import annotations

from pathlib import Path

from millrace.workloads.documents import plugin
from millrace.workloads.documents.detectors import identifiers, legal, unsafe_rules
from millrace.workloads.documents.policy import load
from millrace.workloads.documents.settings import DocumentSettings, EndpointSettings

PAGE = (Path(__file__).parents[3] / "docs" / "workloads" / "documents.md").read_text()


def test_every_setting_is_documented() -> None:
    named = {*DocumentSettings.model_fields, *EndpointSettings.model_fields}
    assert {name for name in named if f"`{name}`" not in PAGE} == set()


def test_every_type_of_finding_is_documented() -> None:
    types = {kind.type for kind in identifiers.KINDS} | {term[0] for term in legal._TERMS}
    types |= {harm.type for harm in unsafe_rules.HARMS}
    assert {name for name in types if f"`{name}`" not in PAGE} == set()


def test_every_path_and_category_is_documented() -> None:
    assert {path for path in plugin.errors if path not in PAGE} == set()
    assert {category for category in load().categories if f"`{category}`" not in PAGE} == set()
