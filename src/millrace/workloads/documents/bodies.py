"""What the documents contract takes as JSON."""

from __future__ import annotations

from typing import Annotated

from pydantic import AliasChoices, BaseModel, ConfigDict, Field


class Ruling(BaseModel):
    """A person's ruling on a document."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    doc_id: Annotated[str, Field(min_length=1, max_length=128)]
    category: str = Field(
        validation_alias=AliasChoices("category", "final_category", "corrected_category", "new_category")
    )
    reviewer: str = Field(
        min_length=1, max_length=200, validation_alias=AliasChoices("reviewer", "reviewed_by", "user")
    )
    reason: str = Field(
        "", max_length=4000, validation_alias=AliasChoices("reason", "comment", "feedback", "notes")
    )
    secondary_tags: Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=32)] | None = None


class Classify(BaseModel):
    """How a document is to be classified again; the server's settings where nothing is said."""

    model_config = ConfigDict(extra="forbid")

    redact: bool | None = None
    highlight: bool | None = None
