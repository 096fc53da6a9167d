"""Finds workloads by their entry points. Knows nothing of what a workload does."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points

from millrace.errors import SettingsError
from millrace.settings import Settings
from millrace.workloads import Plugin

GROUP = "millrace.workloads"


def discover(found: Iterable[EntryPoint] | None = None) -> dict[str, Plugin]:
    """Return every installed workload's plugin by its kind, in the order of their names.

    ``found`` replaces the installed entry points. SettingsError, naming the entry point and its
    distribution, when one cannot be imported, is no ``Plugin``, or takes a name that is not free.
    """
    plugins: dict[str, Plugin] = {}
    for entry in sorted(
        entry_points(group=GROUP) if found is None else found, key=lambda e: (e.name, e.value)
    ):
        where = f"the workload {entry.name!r} ({entry.value}{_distribution(entry)})"
        try:
            plugin = entry.load()
        except Exception as error:
            raise SettingsError(
                f"{where} could not be loaded: {type(error).__name__}: {error}; "
                "mend it, or uninstall the package that brings it"
            ) from error
        _check(entry, plugin, where, plugins)
        plugins[entry.name] = plugin
    return plugins


def _check(entry: EntryPoint, plugin: object, where: str, taken: dict[str, Plugin]) -> None:
    if not isinstance(plugin, Plugin):
        raise SettingsError(f"{where} must name a millrace.workloads.Plugin, not {type(plugin).__name__}")
    if plugin.kind != entry.name:
        raise SettingsError(f"{where} calls itself {plugin.kind!r}: both names must be the same")
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,31}", plugin.kind):
        raise SettingsError(f"{where} must be named with small letters, digits and _, a letter first")
    if plugin.kind in Settings.model_fields:
        raise SettingsError(f"{where} takes the name of a setting of the server: choose another")
    if plugin.kind in taken:
        raise SettingsError(f"{where} is installed twice: uninstall one of them")


def _distribution(entry: EntryPoint) -> str:
    return f" from {entry.dist.name}" if entry.dist is not None else ""
