"""``POST /jobs``: a job of any kind from JSON, or from a form with files. Pure; knows no HTTP.

Bodies may hold a hundred thousand items, so they are checked by hand, in a thread, rather than item
by item through a model.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import orjson

from millrace import fetch, notify, sources
from millrace.engine.model import NewItem, NewJob, Priority
from millrace.errors import BadInput, InvalidRequest, Unavailable
from millrace.fetch import FetchPolicy
from millrace.server.uploads import Form
from millrace.settings import Settings

if TYPE_CHECKING:
    from millrace.server.services import Services

_FIELDS = frozenset(
    {"kind", "items", "options", "preset", "label", "priority", "parallelism", "held", "callbacks", "notify"}
)
_MAX_NOTIFY = 10
_MAX_CALLBACKS = 10
_ITEM_FIELDS = frozenset({"name", "input", "size", "key"})
_REFERENCES = ("path", "url", "upload")
_MAX_NAME = 4096
_MAX_DEPTH = 32

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["kind"],
    "additionalProperties": False,
    "properties": {
        "kind": {"type": "string", "description": "one of those that `GET /workloads` lists"},
        "items": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    "name": {"type": "string", "description": "what people see"},
                    "input": {
                        "type": "object",
                        "description": "what the stages find their input by, as the workload wants it. "
                        "`{kind: path, path}`, `{kind: url, url}` and, in a form, `{kind: upload, index}` "
                        "name files, at any depth.",
                    },
                    "size": {"type": "number", "exclusiveMinimum": 0, "description": "weight for progress"},
                    "key": {"type": "string", "description": "a second item with the same key is dropped"},
                },
            },
        },
        "options": {"type": "object"},
        "preset": {
            "type": "string",
            "description": "options saved under this name, see `/presets`; `options` win over them",
        },
        "label": {"type": "string"},
        "priority": {"description": "low, normal, high or webhook; or 0 to 3"},
        "parallelism": {"type": "integer", "minimum": 1},
        "held": {"type": "boolean", "description": "created, but not started"},
        "callbacks": {
            "type": "array",
            "maxItems": _MAX_CALLBACKS,
            "description": "told by a webhook when the job has ended; see `/deliveries`",
            "items": {
                "type": "object",
                "required": ["url"],
                "additionalProperties": False,
                "properties": {"url": {"type": "string", "format": "uri"}},
            },
        },
        "notify": {
            "type": "array",
            "maxItems": _MAX_NOTIFY,
            "description": "people told when the job has ended: names in `notify.targets`, or Apprise URLs "
            "where `notify.per_job` allows them; see `/notifications`",
            "items": {"type": "string"},
        },
    },
}


@dataclass(frozen=True, slots=True)
class Inputs:
    """What references in a request may point at."""

    settings: Settings
    form: Form | None = None

    def resolve(self, value: Any, where: str, depth: int = 0) -> Any:
        """Return an input with every reference in it checked and made whole."""
        if depth > _MAX_DEPTH:
            raise InvalidRequest(f"{where}: nested too deeply")
        if isinstance(value, list):
            return [self.resolve(entry, f"{where}.{n}", depth + 1) for n, entry in enumerate(value)]
        if not isinstance(value, dict):
            return value
        if value.get("kind") in _REFERENCES:
            return self._reference(value, where)
        return {key: self.resolve(entry, f"{where}.{key}", depth + 1) for key, entry in value.items()}

    def _reference(self, value: Mapping[str, Any], where: str) -> dict[str, Any]:
        kind = value["kind"]
        try:
            if kind == "path":
                return sources.path_reference(_text(value, "path", where), self.settings.media_roots)
            if kind == "url":
                policy = FetchPolicy.of(self.settings.fetch.model_dump())
                name = _text(value, "name", where) if "name" in value else None
                return sources.url_reference(_text(value, "url", where), policy, name)
        except InvalidRequest as error:
            prefix = "" if error.message.startswith(where) else f"{where}.{kind}: "
            raise InvalidRequest(prefix + error.message) from error
        files = self.form.files if self.form else []
        index = value.get("index")
        if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(files):
            raise InvalidRequest(f"{where}.index: must be the number of one of the {len(files)} files sent")
        return files[index].ref()


def _text(value: Mapping[str, Any], key: str, where: str) -> str:
    found = value.get(key)
    if not isinstance(found, str):
        raise InvalidRequest(f"{where}.{key}: must be a string")
    return found


def priority_of(value: Any) -> int:
    """Return a priority given as a word or a number; InvalidRequest for anything else."""
    if isinstance(value, str) and value.upper() in Priority.__members__:
        return Priority[value.upper()]
    if isinstance(value, int) and not isinstance(value, bool) and value in list(Priority):
        return value
    words = ", ".join(f"{p.name.lower()} ({p.value})" for p in Priority)
    raise InvalidRequest(f"priority: must be one of {words}, not {value!r}")


def decode(raw: bytes | str) -> dict[str, Any]:
    """Read a JSON object; InvalidRequest where it is none."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"body: not valid JSON: {error}") from error
    if not isinstance(body, dict):
        raise InvalidRequest("body: must be a JSON object")
    return body


def new_job(
    body: Mapping[str, Any],
    inputs: Inputs,
    idempotency: tuple[str, str] | None = None,
    *,
    plans: bool = False,
) -> NewJob:
    """Make a job from a request's body. InvalidRequest names the field and the reason.

    In a form without ``items`` every file becomes one. ``plans`` says that the workload finds the
    items by itself when none are given.
    """
    _only(body, _FIELDS, "")
    kind = body.get("kind")
    if not isinstance(kind, str):
        raise InvalidRequest("kind: must be the name of a workload")
    form = inputs.form
    items: Sequence[NewItem]
    if "items" not in body and form is not None and form.files:
        items = [NewItem(name=file.name, input=file.ref(), size=max(1, file.size)) for file in form.files]
    else:
        items = _items(body.get("items", []), inputs)
    if not items and not plans:
        raise InvalidRequest("items: at least one is needed")
    parallelism = body.get("parallelism")
    if parallelism is not None and (type(parallelism) is not int or parallelism < 1):
        raise InvalidRequest("parallelism: must be a whole number from 1 up")
    held = body.get("held", False)
    if not isinstance(held, bool):
        raise InvalidRequest("held: must be true or false")
    options = body.get("options", {})
    if not isinstance(options, dict):
        raise InvalidRequest("options: must be an object")
    label = body.get("label", "")
    if not isinstance(label, str) or len(label) > _MAX_NAME:
        raise InvalidRequest(f"label: must be a string of at most {_MAX_NAME} characters")
    return NewJob(
        id=f"job_{uuid.uuid4().hex}",
        kind=kind,
        items=items,
        options=inputs.resolve(options, "options"),
        label=label,
        priority=priority_of(body.get("priority", Priority.NORMAL.value)),
        parallelism=parallelism,
        plan=not items,
        held=held,
        callbacks=_callbacks(body.get("callbacks", []), inputs.settings),
        notify=check_notify(body.get("notify", []), inputs.settings),
        idempotency=idempotency,
        owns=form.owns if form is not None else (),
    )


def webhook_policy(settings: Settings) -> FetchPolicy:
    """Return where webhooks may go, and how long one attempt may take."""
    webhooks = settings.webhooks
    return FetchPolicy(
        allow_private=webhooks.allow_private, ports=webhooks.ports, deadline=webhooks.timeout, redirects=0
    )


def _callbacks(value: Any, settings: Settings) -> list[dict[str, str]]:
    if not isinstance(value, list) or len(value) > _MAX_CALLBACKS:
        raise InvalidRequest(f"callbacks: must be a list of at most {_MAX_CALLBACKS}")
    policy = webhook_policy(settings)
    found = []
    for number, entry in enumerate(value):
        where = f"callbacks.{number}"
        if not isinstance(entry, dict):
            raise InvalidRequest(f'{where}: must be an object like {{"url": …}}')
        _only(entry, frozenset({"url"}), f"{where}.")
        url = _text(entry, "url", where)
        try:
            fetch.parse(url, policy)
        except BadInput as error:
            raise InvalidRequest(f"{where}.url: {error.message}") from error
        found.append({"url": url})
    return found


def check_notify(value: Any, settings: Settings, where: str = "notify") -> list[str]:
    """Return whom to tell; InvalidRequest, repeating no secret, where that is not allowed. Blocks."""
    if (
        not isinstance(value, list)
        or len(value) > _MAX_NOTIFY
        or not all(isinstance(one, str) for one in value)
    ):
        raise InvalidRequest(f"{where}: must be a list of at most {_MAX_NOTIFY} strings")
    given = settings.notify
    if value and given.per_job == "off":
        raise InvalidRequest(f"{where}: this server lets jobs name nobody (notify.per_job is off)")
    addresses = [one for one in value if "://" in one]
    there = ", ".join(given.targets) or "none"
    if addresses and given.per_job != "any":
        raise InvalidRequest(
            f"{where}: {notify.masked(addresses[0])} is not allowed, only names of targets are "
            f"(notify.per_job); there are: {there}"
        )
    for name in value:
        if "://" not in name and name not in given.targets:
            # What was meant as an address, and written wrong, may hold a password.
            shown = repr(name) if re.fullmatch(r"[\w.-]{1,64}", name) else "of such a name"
            raise InvalidRequest(f"{where}: there is no target {shown}; there are: {there}")
    try:
        reasons = notify.check(addresses)
    except Unavailable as error:
        raise InvalidRequest(f"{where}: {error.message}") from error
    for address, reason in zip(addresses, reasons, strict=True):
        if reason is not None:
            raise InvalidRequest(f"{where}: {notify.masked(address)} cannot be used: {reason}")
    return list(dict.fromkeys(value))


def prepare(
    services: Services,
    body: Mapping[str, Any],
    idempotency: tuple[str, str] | None = None,
    form: Form | None = None,
) -> NewJob:
    """Make a job from a request's body as its workload wants it. Blocks: it may be large."""
    kind = body.get("kind")
    workload = services.engine.workload(kind) if isinstance(kind, str) else None
    if workload is not None:
        body = _with_preset(services, workload.kind, body)
    plans = workload is not None and workload.plan is not None
    new = new_job(body, Inputs(services.settings, form), idempotency, plans=plans)
    plugin = services.plugins.get(new.kind)
    if plugin is None or (plugin.prepare is None and plugin.router is None):
        return new
    if plugin.prepare is None:
        raise InvalidRequest(f"kind: {new.kind} jobs are created through their own endpoints; see /docs")
    prepared = plugin.prepare(new, services.settings)
    return replace(prepared, idempotency=new.idempotency, owns=new.owns, notify=new.notify)


def _with_preset(services: Services, kind: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the body with the options of the preset that it names, its own over them."""
    name, given = body.get("preset"), body.get("options", {})
    if name is None or not isinstance(given, dict):
        return body
    if not isinstance(name, str):
        raise InvalidRequest("preset: must be the name of a preset")
    return {**body, "options": services.presets.apply(kind, name, given)}


def check_options(services: Services, kind: str, options: Mapping[str, Any]) -> None:
    """Raise InvalidRequest where these cannot be options of any job of the kind. Blocks."""
    workload = services.engine.workload(kind)
    resolved: dict[str, Any] = Inputs(services.settings).resolve(dict(options), "options")
    plugin = services.plugins.get(kind)
    if plugin is not None and plugin.check_options is not None:
        plugin.check_options(resolved)
    elif plugin is not None and plugin.prepare is not None:
        item = NewItem("input", {"kind": "path", "path": "/input"})
        try:
            stand_in = NewJob("job", kind, [item], resolved)
            resolved = dict(plugin.prepare(stand_in, services.settings).options)
        except InvalidRequest as error:
            # What is said about the stand-in for an item says nothing about the options.
            if error.message.startswith("items"):
                return
            raise
    if not workload.stage_names(resolved):
        raise InvalidRequest("options: they leave no stage to run")


def _items(value: Any, inputs: Inputs) -> list[NewItem]:
    if not isinstance(value, list):
        raise InvalidRequest("items: must be a list")
    return [_item(entry, n, inputs) for n, entry in enumerate(value)]


def _item(value: Any, number: int, inputs: Inputs) -> NewItem:
    where = f"items.{number}"
    if not isinstance(value, dict):
        raise InvalidRequest(f"{where}: must be an object")
    if not value.keys() <= _ITEM_FIELDS:
        _only(value, _ITEM_FIELDS, f"{where}.")
    given = value.get("input", {})
    if not isinstance(given, dict):
        raise InvalidRequest(f"{where}.input: must be an object")
    size = value.get("size", 1.0)
    if type(size) not in (int, float) or not 0 < size < 1e18:
        raise InvalidRequest(f"{where}.size: must be a positive number")
    resolved = inputs.resolve(given, f"{where}.input") if given else given
    name = value.get("name", "")
    key = value.get("key")
    for field, text in (("name", name), ("key", key or "")):
        if not isinstance(text, str) or len(text) > _MAX_NAME:
            raise InvalidRequest(f"{where}.{field}: must be a string of at most {_MAX_NAME} characters")
    return NewItem(name=name or _name_of(resolved, number), input=resolved, size=size, key=key)


def _name_of(resolved: Mapping[str, Any], number: int) -> str:
    named = resolved.get("name") or resolved.get("path") or resolved.get("url")
    return named if isinstance(named, str) else str(number)


def _only(value: Mapping[str, Any], allowed: frozenset[str], where: str) -> None:
    for key in value:
        if key not in allowed:
            raise InvalidRequest(f"{where}{key}: not a known field; there are: {', '.join(sorted(allowed))}")
