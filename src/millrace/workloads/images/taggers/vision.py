"""Asks a vision model behind an OpenAI-compatible endpoint what a picture shows.

Source: OpenAI API reference, "Create chat completion" with image inputs and structured outputs, as
Ollama, vLLM, LM Studio and OpenRouter speak it too.
"""

from __future__ import annotations

import base64
import io
import json
import random
import re
import time
from collections.abc import Callable
from typing import Any

import httpx2 as httpx
from PIL import Image

from millrace.workloads.images.analysis import Analysis
from millrace.workloads.images.settings import VisionSettings
from millrace.workloads.images.taggers import Answer, TaggerFailed
from millrace.workloads.images.taggers.spending import Spending
from millrace.workloads.images.tags import KEYWORDS_LIMIT, Tags

_RETRYABLE = {408, 409, 425, 429, 500, 502, 503, 504}
_MAX_ANSWER = 2**20
_MAX_WAIT = 30.0
_FORMS = ("json_schema", "json_object", "none")
# Tokens a picture is counted with before the server says how many it took.
_PICTURE_TOKENS = 3000


class _Refused(Exception):
    """The server does not know the form of answer that was asked for."""


class VisionTagger:
    """One endpoint and model. ``sleep`` waits between attempts."""

    def __init__(
        self,
        settings: VisionSettings,
        spending: Spending,
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._settings = settings
        self._spending = spending
        self._sleep = sleep
        self._form = settings.structured
        key = settings.api_key.get_secret_value()
        self._client = httpx.Client(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=settings.timeout,
            trust_env=False,
            follow_redirects=False,
        )

    def tag(self, picture: Analysis) -> Answer:
        """See ``Tagger.tag``."""
        image = _data_url(picture.copy, self._settings.side)
        while True:
            try:
                return self._ask(image)
            except _Refused:
                self._form = _FORMS[_FORMS.index(self._form) + 1]  # type: ignore[assignment]

    def _ask(self, image: str) -> Answer:
        problem = "no attempt was made"
        for attempt in range(self._settings.attempts):
            if attempt:
                self._sleep(min(_MAX_WAIT, self._wait * random.uniform(0.8, 1.2)))
            self._wait = 2.0**attempt
            body = self._post(image)
            if isinstance(body, str):
                problem = body
                continue
            try:
                tags = self._tags(body)
            except ValueError as error:
                problem = f"its answer cannot be used: {error}"
                continue
            return Answer(tags, self._account(body))
        raise TaggerFailed(f"{self._settings.model} at {self._settings.base_url}: {problem}")

    _wait = 1.0

    def _post(self, image: str) -> dict[str, Any] | str:
        """Send one request; return its answer, or in words why another attempt may help."""
        most = self._spending.cost(_PICTURE_TOKENS + len(self._settings.prompt), self._settings.max_tokens)
        self._spending.reserve(most)
        spent = 0.0
        try:
            url = self._settings.base_url.rstrip("/") + "/chat/completions"
            with self._client.stream("POST", url, json=self._request(image)) as response:
                raw = b""
                for chunk in response.iter_bytes():
                    raw += chunk
                    if len(raw) > _MAX_ANSWER:
                        return f"its answer is longer than {_MAX_ANSWER} bytes"
            if response.status_code in _RETRYABLE:
                self._wait = max(self._wait, _retry_after(response.headers.get("retry-after", "")))
                return f"it answered with status code {response.status_code}"
            if response.status_code in (400, 415, 422) and self._form != "none":
                raise _Refused
            if response.status_code != 200:
                text = " ".join(raw[:300].decode("utf-8", "replace").split())
                raise TaggerFailed(
                    f"{self._settings.model} at {self._settings.base_url} answered with status code "
                    f"{response.status_code}: {text}"
                )
            body = json.loads(raw)
            if not isinstance(body, dict):
                return "its answer is not a JSON object"
            spent = self._cost(body)
        except httpx.TimeoutException:
            return f"no answer came within {self._settings.timeout:g} s"
        except httpx.TransportError as error:
            return f"it cannot be reached: {error or type(error).__name__}"
        except ValueError as error:
            return f"its answer is not JSON: {error}"
        finally:
            self._spending.settle(most, spent)
        return body

    def _request(self, image: str) -> dict[str, Any]:
        settings = self._settings
        request: dict[str, Any] = {
            "model": settings.model,
            "max_tokens": settings.max_tokens,
            "temperature": 0.2,
            "messages": [
                {"role": "system", "content": self._instructions()},
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "Catalogue this picture."},
                        {"type": "image_url", "image_url": {"url": image}},
                    ],
                },
            ],
        }
        if self._form == "json_schema":
            schema = {"name": "picture", "strict": True, "schema": _schema(settings.languages)}
            request["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif self._form == "json_object":
            request["response_format"] = {"type": "json_object"}
        return request

    def _instructions(self) -> str:
        languages = self._settings.languages
        example = {language: {"title": "…", "description": "…", "keywords": ["…"]} for language in languages}
        return (
            f"{self._settings.prompt}\n\nWrite in these languages (BCP 47), each under its own key: "
            f"{', '.join(languages)}. Answer with JSON alone, in this form: "
            f"{json.dumps(example, ensure_ascii=False)}"
        )

    def _tags(self, body: dict[str, Any]) -> Tags:
        """Read the answer's message. ValueError says what is wrong with it."""
        try:
            choice = body["choices"][0]
            content = choice["message"]["content"]
        except (KeyError, IndexError, TypeError):
            raise ValueError("it holds no message") from None
        if choice.get("finish_reason") == "length":
            raise ValueError(f"it was cut off after {self._settings.max_tokens} tokens")
        if isinstance(content, list):
            content = "".join(part.get("text", "") for part in content if isinstance(part, dict))
        if not isinstance(content, str) or not content.strip():
            raise ValueError("its message is empty")
        found = _object_in(content)
        default, *others = self._settings.languages
        if default not in found and "title" in found:
            found = {default: found}
        main = _checked(found.get(default), default)
        translations = {}
        keywords = list(main[2])
        for language in others:
            title, description, words = _checked(found.get(language), language)
            translations[language] = (title, description)
            keywords += words
        return Tags(main[0], main[1], tuple(keywords[:KEYWORDS_LIMIT]), translations).limited()

    def _cost(self, body: dict[str, Any]) -> float:
        usage = body.get("usage")
        usage = usage if isinstance(usage, dict) else {}
        return self._spending.cost(_count(usage, "prompt_tokens"), _count(usage, "completion_tokens"))

    def _account(self, body: dict[str, Any]) -> dict[str, Any]:
        usage = body.get("usage")
        usage = usage if isinstance(usage, dict) else {}
        account: dict[str, Any] = {
            "model": self._settings.model,
            "tokens": {"input": _count(usage, "prompt_tokens"), "output": _count(usage, "completion_tokens")},
        }
        cost = self._cost(body)
        return {**account, "cost": round(cost, 6)} if cost else account


def _count(usage: dict[str, Any], key: str) -> int:
    value = usage.get(key)
    return value if isinstance(value, int) and value > 0 else 0


def _retry_after(text: str) -> float:
    return min(float(text), _MAX_WAIT) if re.fullmatch(r"\d{1,6}(\.\d+)?", text) else 0.0


def _object_in(text: str) -> dict[str, Any]:
    """Return the JSON object in a message, whatever fences or prose a model puts around it."""
    start, end = text.find("{"), text.rfind("}")
    if start < 0 or end < start:
        raise ValueError("it holds no JSON object")
    try:
        found = json.loads(text[start : end + 1])
    except ValueError as error:
        raise ValueError(f"its JSON is malformed: {error}") from error
    if not isinstance(found, dict):
        raise ValueError("its JSON is not an object")
    return found


def _checked(found: Any, language: str) -> tuple[str, str, list[str]]:
    if not isinstance(found, dict):
        raise ValueError(f"it says nothing in {language!r}")
    title, description = found.get("title"), found.get("description")
    keywords = found.get("keywords")
    if isinstance(keywords, str):
        keywords = re.split(r"[,;\n]", keywords)
    if not isinstance(title, str) or not title.strip():
        raise ValueError(f"its title in {language!r} is missing")
    if not isinstance(description, str) or not description.strip():
        raise ValueError(f"its description in {language!r} is missing")
    if not isinstance(keywords, list) or not all(isinstance(word, str) for word in keywords):
        raise ValueError(f"its keywords in {language!r} are not a list of words")
    return title, description, [word for word in keywords if word.strip()]


def _schema(languages: tuple[str, ...]) -> dict[str, Any]:
    one = {
        "type": "object",
        "additionalProperties": False,
        "required": ["title", "description", "keywords"],
        "properties": {
            "title": {"type": "string"},
            "description": {"type": "string"},
            "keywords": {"type": "array", "items": {"type": "string"}},
        },
    }
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(languages),
        "properties": dict.fromkeys(languages, one),
    }


def _data_url(copy: Image.Image, side: int) -> str:
    small = copy.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    small.save(out, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()
