"""What an operator can set about images, with safe defaults."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

MIB = 1024 * 1024

DEFAULT_PROMPT = (
    "You catalogue pictures for an archive. Describe only what can be seen, without guessing names of "
    "people or brands that are not legible. Answer with a short title (at most ten words), a "
    "description (two to four sentences) and five to twenty keywords, single words or short phrases, "
    "the most important first."
)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class VisionSettings(_Section):
    """An OpenAI-compatible vision endpoint (Ollama, vLLM, LM Studio, OpenRouter, OpenAI …).

    base_url       up to and including ``/v1``.
    api_key        sent as a bearer token; empty: none is sent.
    languages      of title and description, the first one the default (BCP 47).
    structured     how the answer's form is asked for: ``json_schema``, ``json_object`` or ``none``
                   (the prompt alone); a server that refuses one is asked with the next.
    side           pixels of the longer side of the picture that is sent.
    timeout        seconds for one request; ``attempts`` how often it is tried.
    max_tokens     of one answer.
    price_input, price_output   of a million tokens, in any currency; with ``daily_budget`` (the same
                   currency, per calendar day UTC) no more is asked once it is spent.
    """

    base_url: str = ""
    model: str = ""
    api_key: SecretStr = SecretStr("")
    prompt: str = DEFAULT_PROMPT
    languages: tuple[Annotated[str, Field(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$")], ...] = ("en",)
    structured: Literal["json_schema", "json_object", "none"] = "json_schema"
    side: Annotated[int, Field(ge=64, le=4096)] = 1024
    timeout: Annotated[float, Field(gt=0)] = 60.0
    attempts: Annotated[int, Field(ge=1, le=10)] = 3
    max_tokens: Annotated[int, Field(ge=50)] = 1000
    price_input: Annotated[float, Field(ge=0)] = 0.0
    price_output: Annotated[float, Field(ge=0)] = 0.0
    daily_budget: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _languages_given(self) -> VisionSettings:
        if not self.languages:
            raise ValueError("languages must name at least one language")
        if self.daily_budget is not None and not (self.price_input or self.price_output):
            raise ValueError("daily_budget needs price_input and price_output, or nothing can be counted")
        return self


class ClipSettings(_Section):
    """CLIP or SigLIP from a local directory, over a vocabulary of the user's own.

    directory   an ONNX export: ``vision_model.onnx``, ``text_model.onnx``, ``tokenizer.json`` and the
                two JSON files beside them (extra ``clip``).
    vocabulary  a text file, one keyword a line; ``#`` starts a comment.
    template    the sentence a keyword is put into.
    count       at most so many keywords; ``threshold`` is the least probability of one.
    """

    directory: str = ""
    vocabulary: str = ""
    template: Annotated[str, Field(pattern=r"\{\}")] = "a photo of {}"
    count: Annotated[int, Field(ge=1, le=50)] = 8
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.05


class ImagesSettings(_Section):
    """The section ``images``.

    max_images       in one batch.
    max_image_bytes  of one image; larger ones fail.
    max_pixels       width × height beyond which an image is not decoded.
    fetch_timeout    seconds for one download.
    read_text        whether text in pictures is read: where it seems likely, always, or never.
    existing         what becomes of a title and description that a file already has: ``keep``
                     (keywords are joined) or ``replace``.
    tagger           what else looks at the pictures: nothing, ``vision`` or ``clip``.
    retention        seconds a finished job is kept.
    max_queued_jobs  unfinished jobs beyond which new ones are refused.
    timeout          seconds one image may take in analysis, the tagger's time included.
    """

    max_images: Annotated[int, Field(ge=1, le=10_000)] = 100
    max_image_bytes: Annotated[int, Field(ge=1024, le=1024 * MIB)] = 10 * MIB
    max_pixels: Annotated[int, Field(ge=1)] = 50_000_000
    fetch_timeout: Annotated[float, Field(gt=0)] = 60.0
    read_text: Literal["auto", "always", "never"] = "auto"
    existing: Literal["keep", "replace"] = "keep"
    tagger: Literal["none", "vision", "clip"] = "none"
    vision: VisionSettings = VisionSettings()
    clip: ClipSettings = ClipSettings()
    retention: Annotated[float, Field(gt=0)] = 86_400.0
    max_queued_jobs: Annotated[int, Field(ge=1)] | None = 1000
    timeout: Annotated[float, Field(gt=0)] = 300.0

    @model_validator(mode="after")
    def _tagger_configured(self) -> ImagesSettings:
        if self.tagger == "vision" and not (self.vision.base_url and self.vision.model):
            raise ValueError("tagger is vision, so vision.base_url and vision.model must be set")
        if self.tagger == "clip" and not (self.clip.directory and self.clip.vocabulary):
            raise ValueError("tagger is clip, so clip.directory and clip.vocabulary must be set")
        return self
