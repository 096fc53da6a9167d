"""What an operator can set for documents, with safe defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from millrace.workloads.documents.limits import Limits

_Count = Annotated[int, Field(gt=0)]
_DEFAULT = Limits()


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EndpointSettings(_Section):
    """An OpenAI-compatible endpoint that is asked for a second opinion.

    url             its base, up to and including ``/v1``.
    model           the model's name there.
    key_env         the environment variable that holds its API key; empty: none is sent.
    timeout         seconds.
    max_characters  how much of a document is shown to it.
    masked          whether personal and secret values are masked before they are sent.
    """

    url: Annotated[str, Field(pattern=r"^https?://")]
    model: str
    key_env: str = ""
    timeout: Annotated[float, Field(gt=0)] = 60.0
    max_characters: _Count = 40_000
    masked: bool = True


class DocumentSettings(_Section):
    """Settings of the documents workload (section ``documents``).

    policy            a policy file; unset: the one that ships.
    ocr               rapidocr, tesseract, auto (what is installed, RapidOCR first) or off.
    ocr_languages     Tesseract's languages, as ``eng+deu``.
    tessdata          Tesseract's language data; unset: the system's.
    llm, llm_second   endpoints for a second opinion, and one that must agree with it.
    zeroshot          directory of a sentence-embedding model that may ask for a review.
    zeroshot_margin   how much nearer (cosine) a passage must be to a sensitive text than to a plain one.
    highlight         whether marked copies are made.
    redact            whether redacted copies are made unless a request says otherwise.
    font              a fixed-width TrueType font for text set as PDF; unset: the system's, else Courier.
    max_file_bytes    the largest file taken.
    max_batch         files in one upload.
    max_pages … max_embedded   see ``limits.py``.
    timeout           seconds that reading one document may take.
    memory            bytes of address space that reading one document may take.
    ttl               seconds that finished documents are kept.
    """

    policy: Path | None = None
    ocr: Literal["auto", "rapidocr", "tesseract", "off"] = "auto"
    ocr_languages: str = "eng"
    tessdata: Path | None = None
    llm: EndpointSettings | None = None
    llm_second: EndpointSettings | None = None
    zeroshot: Path | None = None
    zeroshot_margin: Annotated[float, Field(gt=-2, lt=2)] = 0.12
    highlight: bool = True
    redact: bool = False
    font: Path | None = None
    max_file_bytes: _Count = 256 * 1024 * 1024
    max_batch: Annotated[int, Field(gt=0, le=2000)] = 1000
    max_pages: _Count = _DEFAULT.max_pages
    max_characters: _Count = _DEFAULT.max_characters
    max_unpacked: _Count = _DEFAULT.max_unpacked
    max_ratio: Annotated[float, Field(gt=1)] = _DEFAULT.max_ratio
    max_entries: _Count = _DEFAULT.max_entries
    max_pixels: _Count = _DEFAULT.max_pixels
    max_ocr_pages: Annotated[int, Field(ge=0)] = _DEFAULT.max_ocr_pages
    max_depth: Annotated[int, Field(ge=0, le=8)] = _DEFAULT.max_depth
    max_embedded: Annotated[int, Field(ge=0)] = _DEFAULT.max_embedded
    timeout: Annotated[float, Field(gt=0)] = 1800.0
    memory: _Count = 6 * 1024 * 1024 * 1024
    ttl: Annotated[float, Field(gt=0)] | None = 7 * 86400.0

    @field_validator("policy")
    @classmethod
    def _policy_is_right(cls, path: Path | None) -> Path | None:
        if path is not None:
            from millrace.errors import SettingsError
            from millrace.workloads.documents.policy import load

            try:
                load(str(path.absolute()))
            except SettingsError as error:
                raise ValueError(error.message) from error
            return path.absolute()
        return None
