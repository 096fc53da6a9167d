"""What a watched folder is made of, from the settings or a request; imports no web framework."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from millrace.engine.watches import WatchSpec
from millrace.errors import InvalidRequest
from millrace.patterns import check_pattern
from millrace.server.submission import check_options, prepare
from millrace.settings import WatchSettings
from millrace.sources import allowed_path

if TYPE_CHECKING:
    from millrace.server.services import Services


def spec_of(given: WatchSettings) -> WatchSpec:
    """Return what a section of the settings, or a request, says."""
    patterns = (given.pattern,) if isinstance(given.pattern, str) else given.pattern
    return WatchSpec(
        name=given.name,
        path=os.path.normpath(given.path),
        kind=given.kind,
        patterns=list(patterns),
        preset=given.preset,
        options=dict(given.options),
        settle=given.settle_seconds,
        interval=given.interval_seconds,
        existing=given.existing,
        per=given.per,
        batch_size=given.batch_size,
        priority=given.priority,
        notify=list(given.notify),
    )


def check_watch(services: Services, spec: WatchSpec, *, preset: bool = True) -> None:
    """Raise InvalidRequest where no file below the folder could become a job. Blocks.

    ``preset``: whether the preset must be there already.
    """
    try:
        allowed_path(spec.path, services.settings.media_roots)
    except InvalidRequest as error:
        raise InvalidRequest(f"path: {error.message}") from error
    for pattern in spec.patterns:
        check_pattern(pattern)
    check_options(services, spec.kind, spec.options)
    if spec.preset is None or preset:
        number = spec.batch_size if spec.per == "batch" else 1
        prepare(services, spec.request([(f"{n}.file", 1) for n in range(number)]))
