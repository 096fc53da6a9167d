"""Examples for the OpenAPI page, one for every endpoint: keyword arguments of its decorator."""

from __future__ import annotations

from typing import Any

NULL = "\0null"
"""Stands for null in an example: FastAPI leaves nulls out of the document it makes."""

_ID = "job_5f0c2a9e7b"

_ROW: dict[str, Any] = {
    "job_id": _ID,
    "kind": "transcripts",
    "status": "running",
    "state": "running",
    "label": "interviews",
    "path": NULL,
    "progress": {"percent": 37.5},
    "priority": 1,
    "total_files": 8,
    "completed": 3,
    "failed": 0,
    "counts": {
        "total": 8,
        "queued": 4,
        "running": 1,
        "succeeded": 3,
        "skipped": 0,
        "failed": 0,
        "cancelled": 0,
    },
    "created_at": "2026-01-15T10:30:00.000Z",
    "started_at": "2026-01-15T10:30:00.042Z",
    "updated_at": "2026-01-15T10:32:30.500Z",
    "finished_at": NULL,
}

_DETAIL: dict[str, Any] = {
    **_ROW,
    "held": False,
    "cancel_requested": False,
    "parallelism": NULL,
    "stages": ["recognise", "separate"],
    "eta_seconds": 225.0,
    "expires_at": NULL,
    "last_event": 21,
    "options": {"tasks": {"asr": True, "demucs": True}},
    "error": NULL,
    "links": {
        "self": f"/jobs/{_ID}",
        "items": f"/jobs/{_ID}/items",
        "events": f"/jobs/{_ID}/events",
        "artifacts": f"/jobs/{_ID}/artifacts",
    },
}

_ARTIFACT = {
    "name": "output.srt",
    "item": 0,
    "stage": "recognise",
    "bytes": 1834,
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "media_type": "application/x-subrip",
    "created_at": "2026-01-15T10:31:12.000Z",
    "url": f"/jobs/{_ID}/items/0/artifacts/output.srt",
}

_ITEM: dict[str, Any] = {
    "idx": 0,
    "uid": NULL,
    "name": "a.mp3",
    "state": "succeeded",
    "stage": "separate",
    "attempt": 1,
    "progress": 1.0,
    "phase": "",
    "size": 1.0,
    "started_at": "2026-01-15T10:30:00.042Z",
    "updated_at": "2026-01-15T10:31:12.000Z",
    "finished_at": "2026-01-15T10:31:12.000Z",
    "results": {"recognise": {"cues": 41}},
    "error": NULL,
}

_EVENT = (
    "retry: 2000\n\n"
    "id: 1\nevent: job.created\n"
    f'data: {{"seq":1,"at":"2026-01-15T10:30:00.000Z","type":"job.created","job_id":"{_ID}",'
    '"item":null,"data":{"total":8}}\n\n'
)


def with_nulls(value: Any) -> Any:
    """Return a part of the OpenAPI document with every stand-in replaced by null."""
    if isinstance(value, dict):
        return {key: with_nulls(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [with_nulls(entry) for entry in value]
    return None if value == NULL else value


def _answer(example: Any, status: int = 200, media_type: str = "application/json") -> dict[int | str, Any]:
    return {status: {"description": "Answer", "content": {media_type: {"example": example}}}}


def _problem(status: int, detail: str, code: str) -> dict[int | str, Any]:
    body = {"type": "about:blank", "title": code, "status": status, "detail": detail, "code": code}
    return {status: {"description": detail, "content": {"application/problem+json": {"example": body}}}}


_MISSING = _problem(404, f"no job '{_ID}'", "not_found")

HEALTH: dict[str, Any] = {
    "responses": _answer(
        {
            "status": "ok",
            "service": "millrace",
            "version": "1.0.0",
            "timestamp": "2026-01-15T10:30:00.000Z",
            "started_at": "2026-01-15T09:00:00.000Z",
            "uptime_seconds": 5400.0,
            "workers": 2,
            "queue": {"pending": 3, "running": 2},
            "workloads": {"transcripts": {"mode": "active", "queued": 3, "running": 2}},
        }
    )
}
LIVEZ: dict[str, Any] = {"responses": _answer({"status": "ok"})}
READYZ: dict[str, Any] = {
    "responses": _answer(
        {"status": "ok", "checks": {"database": "ok", "blobs": "ok"}, "queue_age_seconds": 0.0}
    )
}
METRICS: dict[str, Any] = {
    "responses": _answer('millrace_jobs{kind="transcripts",state="running"} 1.0\n', media_type="text/plain")
}

LIST: dict[str, Any] = {
    "responses": {
        **_answer({"jobs": [_ROW], "total": 1, "limit": 50, "offset": 0, "next_cursor": NULL}),
        **_problem(400, "status: 'asleep' is no status", "bad_request"),
    }
}
STATS: dict[str, Any] = {
    "responses": _answer(
        {
            "total_jobs": 150,
            "running": 1,
            "queued": 2,
            "completed": 140,
            "failed": 5,
            "cancelled": 2,
            "total_files_processed": 12450,
            "success_rate": 0.96,
            "average_duration_seconds": 180.0,
            "by_kind": {"tracks": {"jobs": {"succeeded": 140}, "items": {"succeeded": 12000}}},
        }
    )
}
DETAIL: dict[str, Any] = {"responses": {**_answer(_DETAIL), **_MISSING}}
ITEMS: dict[str, Any] = {"responses": {**_answer({"items": [_ITEM], "next_after": NULL}), **_MISSING}}
ITEM: dict[str, Any] = {
    "responses": {
        **_answer(
            {
                **_ITEM,
                "artifacts": [_ARTIFACT],
                "runs": [
                    {
                        "stage": "recognise",
                        "attempt": 1,
                        "outcome": "succeeded",
                        "started_at": "2026-01-15T10:30:00.042Z",
                        "finished_at": "2026-01-15T10:30:40.000Z",
                        "worker": "cpu-1",
                    }
                ],
            }
        ),
        **_MISSING,
    }
}
ARTIFACTS: dict[str, Any] = {"responses": {**_answer({"artifacts": [_ARTIFACT]}), **_MISSING}}
ARTIFACT: dict[str, Any] = {
    "responses": {
        **_answer("1\n00:00:00,000 --> 00:00:02,000\nGood morning.\n", media_type="application/x-subrip"),
        206: {"description": "The part that Range asked for"},
        304: {"description": "Not changed since If-None-Match"},
        416: {"description": "The range lies outside"},
        **_MISSING,
    }
}
EVENTS: dict[str, Any] = {"responses": {**_answer(_EVENT, media_type="text/event-stream"), **_MISSING}}
RETRY: dict[str, Any] = {
    "responses": {
        **_answer(_DETAIL, 202),
        **_MISSING,
        **_problem(409, f"job {_ID} has no failed item to try again", "conflict"),
    },
    "openapi_extra": {
        "requestBody": {"content": {"application/json": {"example": {"items": [2, 5]}}}, "required": False}
    },
}
CANCEL: dict[str, Any] = {
    "responses": {
        **_answer(
            {
                **_DETAIL,
                "status": "canceled",
                "state": "cancelled",
                "message": "Job cancelled successfully",
                "processed_before_cancel": 3,
            }
        ),
        **_MISSING,
    }
}
PATCH: dict[str, Any] = {
    "responses": {**_answer({**_DETAIL, "priority": 2}), **_MISSING},
    "openapi_extra": {"requestBody": {"content": {"application/json": {"example": {"priority": "high"}}}}},
}
SUBMIT: dict[str, Any] = {
    "responses": {
        **_answer(_DETAIL, 202),
        **_problem(400, "items.0.input.path: must be absolute", "bad_request"),
        **_problem(409, "the key 'k1' was used before with another body", "idempotency_conflict"),
        **_problem(503, "the queue is full", "queue_full"),
    },
    "openapi_extra": {
        "parameters": [
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "schema": {"type": "string"},
                "description": "The same key and body again answer with the same job.",
            }
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"$ref": "#/components/schemas/NewJob"},
                    "example": {
                        "kind": "shout",
                        "label": "greetings",
                        "priority": "normal",
                        "items": [
                            {"name": "a", "input": {"text": "hello"}},
                            {"name": "b", "input": {"kind": "path", "path": "/media/b.txt"}},
                            {"name": "c", "input": {"kind": "url", "url": "https://example.com/c.txt"}},
                        ],
                        "options": {},
                    },
                },
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "properties": {
                            "job": {
                                "type": "string",
                                "description": "the same JSON; `items` may be left out",
                            },
                            "notify": {"type": "array", "items": {"type": "string"}},
                            "file": {"type": "array", "items": {"type": "string", "format": "binary"}},
                        },
                        "required": ["job"],
                    },
                    "example": {"job": '{"kind": "shout"}', "file": ["(the content of a.txt)"]},
                },
            },
        },
    },
}
_WORKLOAD = {
    "kind": "transcripts",
    "mode": "active",
    "stages": [
        {"name": "recognise", "resource": "cpu", "paused": NULL},
        {"name": "separate", "resource": "cpu", "paused": NULL},
    ],
    "policy": "stage_first",
    "queued": 3,
    "running": 2,
}
WORKLOADS: dict[str, Any] = {"responses": _answer({"workloads": [_WORKLOAD]})}
MODE: dict[str, Any] = {
    "responses": {
        **_answer({**_WORKLOAD, "mode": "paused"}),
        **_problem(404, "there is no workload 'transcript'", "not_found"),
    }
}
_SCHEDULE: dict[str, Any] = {
    "id": "sch_5f0c2a9e7b114d20",
    "name": "nightly",
    "cron": "30 3 * * *",
    "zone": "Europe/Berlin",
    "job": {"kind": "shout", "items": [{"input": {"text": "hello"}}]},
    "missed": "once",
    "overlap": False,
    "enabled": True,
    "next_at": "2026-01-16T02:30:00.000Z",
    "last_at": NULL,
    "last_job": NULL,
    "last_error": NULL,
    "created_at": "2026-01-15T10:30:00.000Z",
}
_NO_SCHEDULE = _problem(404, "no schedule 'sch_5f0c2a9e7b114d20'", "not_found")
SCHEDULES: dict[str, Any] = {"responses": _answer({"schedules": [_SCHEDULE]})}
SCHEDULE: dict[str, Any] = {
    "responses": {**_answer({**_SCHEDULE, "upcoming": ["2026-01-16T02:30:00.000Z"]}), **_NO_SCHEDULE}
}
ADD_SCHEDULE: dict[str, Any] = {
    "responses": {
        **_answer(_SCHEDULE, 201),
        **_problem(400, "cron: '61 * * * *' is not a cron expression (Bad minute)", "bad_request"),
    },
    "openapi_extra": {
        "requestBody": {
            "content": {
                "application/json": {
                    "example": {
                        "name": "nightly",
                        "cron": "30 3 * * *",
                        "zone": "Europe/Berlin",
                        "job": {"kind": "shout", "items": [{"input": {"text": "hello"}}]},
                    }
                }
            }
        }
    },
}
SWITCH_SCHEDULE: dict[str, Any] = {
    "responses": {**_answer({**_SCHEDULE, "enabled": False, "next_at": NULL}), **_NO_SCHEDULE},
    "openapi_extra": {"requestBody": {"content": {"application/json": {"example": {"enabled": False}}}}},
}
DELETE_SCHEDULE: dict[str, Any] = {
    "responses": {**_answer({"message": "Schedule deleted", "id": _SCHEDULE["id"]}), **_NO_SCHEDULE}
}
TICKS: dict[str, Any] = {
    "responses": {
        **_answer({"ticks": [{"at": "2026-01-15T02:30:00.000Z", "job": _ID, "error": NULL}]}),
        **_NO_SCHEDULE,
    }
}
_PRESET: dict[str, Any] = {
    "kind": "transcripts",
    "name": "subtitles only",
    "options": {"tasks": {"asr": True, "demucs": False}},
    "created_at": "2026-01-15T10:30:00.000Z",
    "updated_at": "2026-01-15T10:30:00.000Z",
}
_NO_PRESET = _problem(404, "no preset 'subtitles only' of transcripts", "not_found")
PRESETS: dict[str, Any] = {"responses": _answer({"presets": [_PRESET]})}
PRESET: dict[str, Any] = {"responses": {**_answer(_PRESET), **_NO_PRESET}}
SAVE_PRESET: dict[str, Any] = {
    "responses": {
        **_answer(_PRESET),
        **_answer(_PRESET, 201),
        **_problem(400, "options.tasks: at least one must be on", "bad_request"),
    },
    "openapi_extra": {
        "requestBody": {"content": {"application/json": {"example": {"options": _PRESET["options"]}}}}
    },
}
DELETE_PRESET: dict[str, Any] = {
    "responses": {
        **_answer({"message": "Preset deleted", "kind": "transcripts", "name": "subtitles only"}),
        **_NO_PRESET,
    }
}
_DELIVERY: dict[str, Any] = {
    "id": "msg_2f1d5e0a9c",
    "job": _ID,
    "kind": "transcripts",
    "url": "https://example.com/hook",
    "event": "job.finished",
    "state": "delivered",
    "attempts": 1,
    "next_at": NULL,
    "status": 204,
    "error": NULL,
    "response": "",
    "created_at": "2026-01-15T10:35:00.000Z",
    "updated_at": "2026-01-15T10:35:00.210Z",
    "finished_at": "2026-01-15T10:35:00.210Z",
}
_NO_DELIVERY = _problem(404, "nothing was sent under the id 'msg_2f1d5e0a9c'", "not_found")
DELIVERIES: dict[str, Any] = {"responses": _answer({"deliveries": [_DELIVERY], "next_before": NULL})}
DELIVERY: dict[str, Any] = {
    "responses": {**_answer({**_DELIVERY, "body": {"type": "job.finished"}}), **_NO_DELIVERY}
}
RESEND: dict[str, Any] = {
    "responses": {
        **_answer({**_DELIVERY, "state": "pending", "attempts": 0, "finished_at": NULL}, 202),
        **_NO_DELIVERY,
        **_problem(409, "the delivery msg_2f1d5e0a9c is still being tried (attempt 2)", "conflict"),
    }
}
BULK: dict[str, Any] = {
    "responses": {
        **_answer(
            {
                "action": "cancel",
                "dry_run": True,
                "jobs": 3,
                "items": 124,
                "running": 4,
                "unaffected": 1,
                "refused": [],
            }
        ),
        **_problem(400, "give either jobs or filter", "bad_request"),
    },
    "openapi_extra": {
        "requestBody": {
            "content": {
                "application/json": {
                    "example": {
                        "action": "cancel",
                        "filter": {"kind": "transcripts", "status": "queued"},
                        "dry_run": True,
                    }
                }
            }
        }
    },
}
ARCHIVE: dict[str, Any] = {
    "responses": {
        200: {"description": "The archive", "content": {"application/zip": {"example": "PK\3\4…"}}},
        **_problem(404, f"job '{_ID}' has published nothing yet", "not_found"),
    }
}
MEDIA: dict[str, Any] = {
    "responses": {
        **_answer(
            {
                "path": "/srv/media",
                "parent": NULL,
                "entries": [
                    {
                        "name": "talks",
                        "path": "/srv/media/talks",
                        "kind": "folder",
                        "bytes": NULL,
                        "modified_at": NULL,
                    },
                    {
                        "name": "intro.mp3",
                        "path": "/srv/media/intro.mp3",
                        "kind": "file",
                        "bytes": 482113,
                        "modified_at": "2026-01-15T10:30:00.000Z",
                    },
                ],
                "truncated": False,
            }
        ),
        **_problem(400, "the path '/etc' is not below a declared media root: …", "bad_request"),
    }
}
_NOTIFICATION: dict[str, Any] = {
    "id": "ntf_7d0c44b1a2",
    "job": _ID,
    "kind": "transcripts",
    "target": "family",
    "event": "job.finished",
    "title": "transcripts failed: interviews (1 of 8 failed)",
    "state": "delivered",
    "attempts": 1,
    "next_at": NULL,
    "error": NULL,
    "created_at": "2026-01-15T10:35:00.000Z",
    "updated_at": "2026-01-15T10:35:01.300Z",
    "finished_at": "2026-01-15T10:35:01.300Z",
}
_NO_NOTIFICATION = _problem(404, "nothing was sent under the id 'ntf_7d0c44b1a2'", "not_found")
NOTIFICATIONS: dict[str, Any] = {
    "responses": _answer(
        {"notifications": [_NOTIFICATION], "next_before": NULL, "targets": ["family", "ops"]}
    )
}
NOTIFICATION: dict[str, Any] = {
    "responses": {
        **_answer(
            {
                **_NOTIFICATION,
                "body": "interviews (transcripts) failed after 4 min 12 s.\n\n"
                "8 items: 7 succeeded, 1 failed.\n\nWhat failed:\n- talk.mp3: not a recording",
            }
        ),
        **_NO_NOTIFICATION,
    }
}
TEST_NOTIFICATION: dict[str, Any] = {
    "responses": {
        **_answer(
            {
                **_NOTIFICATION,
                "job": NULL,
                "kind": NULL,
                "event": "test",
                "title": "Millrace: a test",
                "state": "pending",
                "attempts": 0,
                "finished_at": NULL,
            },
            202,
        ),
        **_problem(400, "target: there is no target 'familly'; there are: family, ops", "bad_request"),
    },
    "openapi_extra": {"requestBody": {"content": {"application/json": {"example": {"target": "family"}}}}},
}
RENOTIFY: dict[str, Any] = {
    "responses": {
        **_answer({**_NOTIFICATION, "state": "pending", "attempts": 0, "finished_at": NULL}, 202),
        **_NO_NOTIFICATION,
        **_problem(409, "the delivery ntf_7d0c44b1a2 is still being tried (attempt 2)", "conflict"),
    }
}
_WATCH: dict[str, Any] = {
    "id": "wat_6b1e0d5c9a114f20",
    "name": "inbox",
    "path": "/srv/media/inbox",
    "kind": "transcripts",
    "pattern": ["**/*.{mp3,wav}"],
    "preset": "subtitles only",
    "options": {},
    "settle_seconds": 30.0,
    "interval_seconds": 10.0,
    "existing": "ignore",
    "per": "file",
    "batch_size": 10,
    "priority": "normal",
    "notify": ["family"],
    "source": "api",
    "enabled": True,
    "looked_at": "2026-01-15T10:30:00.000Z",
    "looking_since": NULL,
    "files": 41,
    "pending": 1,
    "last_job": _ID,
    "last_error": NULL,
    "created_at": "2026-01-15T08:00:00.000Z",
}
_NO_WATCH = _problem(404, "no watched folder 'wat_6b1e0d5c9a114f20'", "not_found")
_SET_WATCH = _problem(
    409, "the watched folder set_inbox stands in the settings (watches): change it there", "conflict"
)
WATCHES: dict[str, Any] = {"responses": _answer({"watches": [_WATCH]})}
WATCH: dict[str, Any] = {
    "responses": {
        **_answer(
            {
                **_WATCH,
                "settling": [{"path": "talk.mp3", "bytes": 4194304, "since": "2026-01-15T10:29:50.000Z"}],
                "jobs": [{"job": _ID, "files": 1, "at": "2026-01-15T10:20:00.000Z"}],
            }
        ),
        **_NO_WATCH,
    }
}
ADD_WATCH: dict[str, Any] = {
    "responses": {
        **_answer(_WATCH, 201),
        **_problem(400, "path: the path '/etc' is not below a declared media root: …", "bad_request"),
    },
    "openapi_extra": {
        "requestBody": {
            "content": {
                "application/json": {
                    "example": {
                        "name": "inbox",
                        "path": "/srv/media/inbox",
                        "kind": "transcripts",
                        "pattern": "**/*.{mp3,wav}",
                        "preset": "subtitles only",
                    }
                }
            }
        }
    },
}
SWITCH_WATCH: dict[str, Any] = {
    "responses": {**_answer({**_WATCH, "enabled": False}), **_NO_WATCH, **_SET_WATCH},
    "openapi_extra": {"requestBody": {"content": {"application/json": {"example": {"enabled": False}}}}},
}
DELETE_WATCH: dict[str, Any] = {
    "responses": {**_answer({"message": "Watch deleted", "id": _WATCH["id"]}), **_NO_WATCH, **_SET_WATCH}
}
INPUT: dict[str, Any] = {
    "responses": {
        200: {"description": "The file", "content": {"application/octet-stream": {"example": "RIFF…"}}},
        **_problem(404, "item 0 has no recording 'dub'; there are: input", "not_found"),
    }
}
SOUND: dict[str, Any] = {
    "responses": {
        **_answer({"seconds": 11.65, "span": 0.01, "peaks": [0, 2, 31, 58, 44, 12]}),
        **_problem(400, "talk.mp3 is not an audio or video file that can be read", "bad_audio"),
    }
}
