"""Reads the settings from ``millrace.yaml``, then the environment, then flags, and says what is wrong.

Every value keeps where it came from, so that a refusal names the setting, its value and its source.
"""

from __future__ import annotations

import difflib
import os
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, SecretStr, ValidationError

from millrace.errors import SettingsError
from millrace.settings import Settings

DEFAULT_FILE = Path("millrace.yaml")
PREFIX = "MILLRACE_"
# Read by the command line and the Python client, not settings of a server.
NOT_SETTINGS = frozenset({"MILLRACE_CONFIG", "MILLRACE_URL", "MILLRACE_TOKEN"})
SHORT_NAMES: Mapping[str, tuple[str, ...]] = {
    "REQUIRE_AUTH": ("require_auth",),
    "BEARER_TOKEN": ("bearer_token",),
    "TMP_DIR": ("tmp_dir",),
    "JOB_TTL_SECONDS": ("retention", "ttl"),
}
# The section ``jobs`` of the tracks contract's own configuration file: where each of its keys stands here.
JOBS_NAMES: Mapping[str, tuple[tuple[str, ...], Callable[[Any], Any]]] = {
    "max_queue_size": (("tracks", "max_queue_size"), lambda value: value),
    "max_concurrent": (("tracks", "max_concurrent"), lambda value: value),
    "retention_days": (("tracks", "retention_days"), lambda value: value),
    "storage_path": (("database",), lambda value: f"sqlite:///{Path(str(value)).expanduser().absolute()}"),
    "cleanup_interval_hours": (("retention", "sweep"), lambda value: float(value) * 3600.0),
}
SECRET_NAMES = ("token", "secret", "password", "key", "database", "targets", "broker")
# Sections that may be written as the one value that matters most.
SHORT_FORMS: Mapping[tuple[str, ...], str] = {("blobs",): "location", ("broker",): "url"}

Path_ = tuple[str, ...]
Sections = Mapping[str, type[BaseModel]]


class _Layers:
    """The settings read so far, a later source over an earlier one, each leaf with its source."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.sources: dict[Path_, str] = {}

    def put(self, path: Path_, value: Any, source: str) -> None:
        if path[0] == "jobs":
            if path == ("jobs",) and not value:
                return
            path, value = _of_jobs(path, value, source)
        if path in SHORT_FORMS and isinstance(value, str):
            path = (*path, SHORT_FORMS[path])
        level = self.values
        for depth, name in enumerate(path[:-1], start=1):
            child = level.get(name)
            if child is None:
                child = level[name] = {}
            if not isinstance(child, dict):
                parent = ".".join(path[:depth])
                raise SettingsError(
                    f"the setting {parent} from {self.source(path[:depth])} has no parts, "
                    f"so {'.'.join(path)} from {source} cannot be set"
                )
            level = child
        level[path[-1]] = value
        self.sources[path] = source

    def source(self, path: Path_) -> str:
        """Return where the value at ``path``, or what it stands in, or first in it, came from."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.sources:
                return self.sources[path[:length]]
        inside = [source for place, source in self.sources.items() if place[: len(path)] == path]
        return inside[-1] if inside else "the defaults"


def _of_jobs(path: Path_, value: Any, source: str) -> tuple[Path_, Any]:
    """Return where a setting of the section ``jobs`` stands here, and its value in our unit."""
    name = ".".join(path)
    if len(path) != 2 or path[1] not in JOBS_NAMES:
        raise SettingsError(
            f"unknown setting {name} = {_shown(path, value)} from {source}: "
            f"known here: {', '.join(JOBS_NAMES)}"
        )
    place, translate = JOBS_NAMES[path[1]]
    try:
        return place, translate(value)
    except (TypeError, ValueError):
        raise SettingsError(
            f"the setting {name} = {_shown(path, value)} from {source} is wrong: it must be a number"
        ) from None


def load_settings(
    config: Path | None = None,
    *,
    flags: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    sections: Sections | None = None,
) -> Settings:
    """Read the settings: the file, over it the environment, over that the flags.

    config     the file; by default ``$MILLRACE_CONFIG``, or ``millrace.yaml`` where it exists.
    flags      flag → value by setting (``{"host": "0.0.0.0", "log.level": "debug"}``); None is not given.
    environ    instead of the process's environment.
    sections   each workload's kind and the model of its section.

    SettingsError, one sentence, on the first setting that is unknown or wrong.
    """
    environ = os.environ if environ is None else environ
    sections = sections or {}
    layers = _Layers()
    _read_file(layers, config, environ)
    _read_environment(layers, environ, sections)
    for name, value in (flags or {}).items():
        if value is not None and value != ():
            flag = "--" + name.replace("_", "-").replace(".", "-")
            layers.put(
                tuple(name.split(".")), value, flag.removesuffix("s") if name == "media_roots" else flag
            )
    return _validate(layers, sections)


def _read_file(layers: _Layers, config: Path | None, environ: Mapping[str, str]) -> None:
    named = config or (Path(environ["MILLRACE_CONFIG"]) if environ.get("MILLRACE_CONFIG") else None)
    file = named or DEFAULT_FILE
    if named is None and not file.exists():
        return
    try:
        node = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise SettingsError(f"the settings file {file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"the settings file {file} is not UTF-8 (byte {error.start})") from error
    except yaml.YAMLError as error:
        raise SettingsError(
            f"the settings file {file} is not YAML: {' '.join(str(error).split())}"
        ) from error
    if node is None:
        return
    if not isinstance(node, yaml.MappingNode):
        what = "a list" if isinstance(node, yaml.SequenceNode) else "a single value"
        raise SettingsError(f"the settings file {file} must hold names and values, not {what}")
    _read_node(layers, node, (), file)


def _read_node(layers: _Layers, node: yaml.MappingNode, path: Path_, file: Path) -> None:
    seen: set[str] = set()
    for key, value in node.value:
        name = str(key.value)
        source = f"{file}, line {key.start_mark.line + 1}"
        here = (*path, name)
        if name in seen:
            raise SettingsError(f"the setting {'.'.join(here)} is given twice ({source})")
        seen.add(name)
        if isinstance(value, yaml.MappingNode) and value.value:
            _read_node(layers, value, here, file)
            layers.sources.setdefault(here, source)
        else:
            loader = yaml.SafeLoader("")
            try:
                layers.put(here, loader.construct_document(value), source)
            except yaml.YAMLError as error:
                raise SettingsError(
                    f"the setting {'.'.join(here)} ({source}) is not YAML: {error}"
                ) from error


def _read_environment(layers: _Layers, environ: Mapping[str, str], sections: Sections) -> None:
    # An empty variable counts as not set: that is what compose files and shells pass on.
    for name, path in SHORT_NAMES.items():
        if environ.get(name):
            layers.put(path, environ[name], f"the environment variable {name}")
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in NOT_SETTINGS and environ[name]:
            path = tuple(name.removeprefix(PREFIX).lower().split("__"))
            value = _from_text(environ[name], _annotation(path, sections), path, name)
            layers.put(path, value, f"the environment variable {name}")


def _annotation(path: Path_, sections: Sections) -> Any:
    """Return the type declared for the setting at ``path``; None where there is no such setting."""
    model: Any = Settings
    if path[0] in sections:
        model, path = sections[path[0]], path[1:]
    found: Any = model
    for name in path:
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return None
        field = model.model_fields.get(name)
        if field is None:
            return None
        found = _bare(field.annotation)
        model = found
    return found


def _bare(annotation: Any) -> Any:
    """Return the annotation without ``Annotated`` and ``None``."""
    if typing.get_origin(annotation) is typing.Annotated:
        return _bare(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        rest = [arg for arg in typing.get_args(annotation) if arg is not type(None)]
        return _bare(rest[0]) if len(rest) == 1 else annotation
    return annotation


def _from_text(text: str, annotation: Any, path: Path_, variable: str) -> Any:
    """Return what a variable's text stands for: lists by comma (paths by ``:``), or YAML in brackets."""
    if annotation in (None, str, SecretStr, Path):
        return text
    if text.lstrip().startswith(("[", "{")):
        try:
            return yaml.safe_load(text)
        except yaml.YAMLError as error:
            problem = " ".join(str(error).split())
            raise SettingsError(
                f"the setting {'.'.join(path)} = {_shown(path, text)} from the environment "
                f"variable {variable} is not YAML: {problem}"
            ) from error
    if typing.get_origin(annotation) in (tuple, list, set, frozenset):
        paths = path == ("media_roots",)
        return [part.strip() for part in text.split(os.pathsep if paths else ",") if part.strip()]
    return text


def _validate(layers: _Layers, sections: Sections) -> Settings:
    values = dict(layers.values)
    workloads: dict[str, BaseModel] = {}
    for kind, model in sections.items():
        section = values.pop(kind, None)
        workloads[kind] = _build(model, {} if section is None else section, (kind,), layers, ())
    if "workloads" in values:
        raise SettingsError(
            f"unknown setting workloads from {layers.source(('workloads',))}: "
            f"a workload's settings stand under its own name ({', '.join(sections) or 'none'})"
        )
    values["workloads"] = workloads
    settings: Settings = _build(Settings, values, (), layers, tuple(sections))
    return settings


def _build(
    model: Callable[..., Any], values: Any, path: Path_, layers: _Layers, others: tuple[str, ...]
) -> Any:
    try:
        return model.model_validate(values)  # type: ignore[attr-defined]
    except ValidationError as error:
        raise SettingsError(_sentence(error, model, path, layers, others)) from error


def _sentence(
    error: ValidationError, model: Any, path: Path_, layers: _Layers, others: tuple[str, ...]
) -> str:
    first = error.errors(include_url=False)[0]
    where = (*path, *(str(part) for part in first["loc"]))
    name, source = ".".join(where), layers.source(where)
    if first["type"] == "extra_forbidden":
        known = [*_siblings(model, first["loc"]), *(others if len(where) == 1 else ())]
        near = difflib.get_close_matches(where[-1], known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(sorted(known)) or 'none'}"
        return f"unknown setting {name} = {_shown(where, first['input'])} from {source}: {hint}"
    reason = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error" and isinstance(first["input"], (dict, BaseModel)):
        return f"the settings contradict each other: {reason}"
    return f"the setting {name} = {_shown(where, first['input'])} from {source} is wrong: {_lower(reason)}"


def _siblings(model: Any, loc: tuple[int | str, ...]) -> list[str]:
    for part in loc[:-1]:
        field = model.model_fields.get(part)
        model = _bare(field.annotation) if field is not None else None
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return []
    return [name for name in model.model_fields if name != "workloads"]


def _shown(path: Path_, value: Any) -> str:
    if any(word in name for name in path for word in SECRET_NAMES):
        return "(not shown)"
    text = repr(value)
    if path[0] == "notify" and "://" in text:
        return "(not shown)"  # an address that stands where none belongs still holds its password
    return text if len(text) <= 80 else text[:77] + "…"


def _lower(reason: str) -> str:
    return reason[:1].lower() + reason[1:]
