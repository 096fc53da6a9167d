"""Examples for the OpenAPI page: keyword arguments of the decorators in ``contract.py``."""

from __future__ import annotations

from typing import Any

_ID = "3f0b8a52-6d0e-4a36-9d43-0c5f6c1f7f0e"
_OPTIONS = {
    "policy": "stage-first",
    "tasks": {"asr": True, "demucs": True},
    "vadMaxSingleSegmentMs": 8000,
    "vadMaxEndSilenceMs": 50,
}
_TIMES = {"createdAt": "2026-01-15T10:30:00.000Z", "startedAt": "2026-01-15T10:30:00.042Z"}
_QUEUE = {"pending": 2, "running": 1}


def _artifacts(url: str) -> dict[str, Any]:
    return {
        "srt": {"name": "output.srt", "ready": True, "bytes": 1834, "url": f"{url}/output.srt"},
        "vocals": {"name": "vocals.mp3", "ready": False, "url": f"{url}/vocals.mp3"},
    }


def _error(status: int, code: str, message: str) -> dict[int | str, Any]:
    body = {"status": "error", "error": {"code": code, "message": message, "details": {}}}
    return {status: {"description": message, "content": {"application/json": {"example": body}}}}


def _ok(data: dict[str, Any], status: int = 200) -> dict[int | str, Any]:
    body = {"status": "ok", "data": data}
    return {status: {"description": "OK", "content": {"application/json": {"example": body}}}}


_MISSING = _error(404, "not_found", f"there is no batch '{_ID}', or it has expired")
_HEADERS_AND_QUERY: list[dict[str, Any]] = [
    {
        "name": name,
        "in": "query",
        "required": False,
        "schema": {"type": "integer", "minimum": 1},
        "description": "wins over the option of the same name",
    }
    for name in ("vadMaxSingleSegmentMs", "vadMaxEndSilenceMs")
] + [
    {
        "name": "Idempotency-Key",
        "in": "header",
        "required": False,
        "schema": {"type": "string"},
        "description": "The same key and body again answer with the same job.",
    }
]


def _request(as_json: dict[str, Any], as_form: dict[str, Any]) -> dict[str, Any]:
    form_schema = {
        "type": "object",
        "properties": {
            "audio": {"type": "array", "items": {"type": "string", "format": "binary"}},
            **{name: {"type": "string"} for name in as_form},
        },
    }
    return {
        "parameters": _HEADERS_AND_QUERY,
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": form_schema,
                    "example": {"audio": ["(content of a.mp3)"], **as_form},
                },
                "application/json": {"schema": {"type": "object"}, "example": as_json},
            },
        },
    }


_BATCH = {
    "id": _ID,
    "state": "running",
    "phase": "asr",
    **_TIMES,
    "cancelRequested": False,
    "options": _OPTIONS,
    "queue": _QUEUE,
    "counts": {"total": 3, "queued": 2, "running": 1, "succeeded": 0, "failed": 0, "canceled": 0},
    "items": [
        {
            "idx": 0,
            "state": "queued",
            "phase": "queued",
            **_TIMES,
            "artifacts": _artifacts(f"/v2/batches/{_ID}/items/0/artifacts"),
        }
    ],
}
_JOB = {
    "id": _ID,
    "type": "asr",
    "state": "running",
    "phase": "asr",
    **_TIMES,
    "cancelRequested": False,
    "options": {**_OPTIONS, "tasks": {"asr": True, "demucs": False}},
    "queue": _QUEUE,
    "artifacts": {
        "srt": {"name": "output.srt", "ready": False, "url": f"/v2/jobs/{_ID}/artifacts/output.srt"}
    },
}

CREATE_BATCH: dict[str, Any] = {
    "responses": {
        **_ok({"batchId": _ID, "statusUrl": f"/v2/batches/{_ID}"}, 202),
        **_error(400, "bad_request", "items[0].fileIndex: is 2, but 1 file(s) were sent, counted from 0"),
        **_error(503, "engine_error", "transcripts has 1000 unfinished jobs already, which is its limit"),
    },
    "openapi_extra": _request(
        {
            "items": [
                {"kind": "audioPath", "audioPath": "/media/a.mp3"},
                {"kind": "audioUrl", "audioUrl": "https://example.com/b.mp3"},
            ],
            "options": _OPTIONS,
        },
        {
            "items": '[{"kind":"upload","fileIndex":0}]',
            "options": '{"policy":"stage-first","tasks":{"asr":true,"demucs":true}}',
        },
    ),
}
CREATE_JOB: dict[str, Any] = {
    "responses": {
        **_ok({"jobId": _ID, "statusUrl": f"/v2/jobs/{_ID}"}, 202),
        **_error(400, "bad_request", "type: must be asr, demucs or asr-demucs, not 'text'"),
    },
    "openapi_extra": _request(
        {"type": "asr", "audioPath": "/media/a.mp3", "options": {"vadMaxEndSilenceMs": 200}},
        {"type": "asr-demucs", "options": '{"vadMaxEndSilenceMs":200}'},
    ),
}
BATCH: dict[str, Any] = {"responses": {**_ok(_BATCH), **_MISSING}}
JOB: dict[str, Any] = {"responses": {**_ok(_JOB), **_MISSING}}
ARTIFACT: dict[str, Any] = {
    "responses": {
        200: {
            "description": "The file",
            "content": {
                "application/octet-stream": {"example": "1\n00:00:00,000 --> 00:00:02,000\nGood morning.\n"}
            },
        },
        206: {"description": "The part that Range asked for"},
        304: {"description": "Not changed since If-None-Match"},
        **_error(404, "not_found", "output.srt of item 0 is not ready, or there is no such item"),
    }
}
