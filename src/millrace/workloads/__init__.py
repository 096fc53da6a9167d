"""The workloads that ship with Millrace, and the port through which others plug in.

A workload is found by its entry point in the group ``millrace.workloads``, which names a
``Plugin``. The server builds it from its section of the settings, gives it its HTTP face and hands
its ``Workload`` to the engine.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict

from millrace.engine.model import Artifact, Item, Job, NewJob
from millrace.engine.workload import Workload

if TYPE_CHECKING:
    from pathlib import Path

    import httpx2
    import typer
    from fastapi import APIRouter

    from millrace.server.services import Services
    from millrace.settings import Settings


class NoSettings(BaseModel):
    """The settings of a workload that has none: any key in its section is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True)
class DemoStand:
    """What a workload's demonstration finds.

    client   of a running server, its address being the base URL.
    media    an empty directory below that server's media root, for samples.
    """

    client: httpx2.Client
    media: Path


@dataclass(frozen=True, slots=True)
class DemoJob:
    """A demonstration that was submitted.

    job       the job's id.
    title     one line for people: what is done, and by which endpoint.
    seconds   how long its media play, where that is what its pace is measured by.
    tell      called when the job has ended: lines that show what came out.
    """

    job: str
    title: str
    seconds: float | None = None
    tell: Callable[[], Sequence[str]] | None = None


@dataclass(frozen=True, slots=True)
class FormField:
    """One option in the dashboard's form for new jobs.

    name      where its value goes in the job's options: dots lead into objects (``tasks.asr``).
    kind      ``flag``, ``choice`` (one of ``choices``), ``several`` (any of them), ``number`` or ``text``;
              ``words`` is text that becomes a list, split at commas.
    choices   value and label.
    default   what is chosen at first. What is left at None or empty is not sent.
    """

    name: str
    label: str
    kind: Literal["flag", "choice", "several", "number", "text", "words"] = "text"
    choices: tuple[tuple[str, str], ...] = ()
    default: Any = None
    help: str = ""


@dataclass(frozen=True, slots=True)
class Face:
    """How the dashboard shows a workload. All of it may be left out: what is general is shown then.

    title      its name for people; ``about`` says in a sentence what it does.
    inputs     what a job takes: ``files``; ``pairs`` (a master and a dub each); or ``folder``, one
               folder below a media root, given as the option ``path``, or files there.
    accept     file types, as the attribute ``accept`` of a file input has them.
    fields     the options in its form.
    folder     a directory with its own templates and files. ``item.html`` is shown for an item, with what
               ``item`` returns; ``system.html`` on the page System. Scripts and styles there (``*.js``,
               ``*.css``) are served below the dashboard's own; ``item.js`` and ``item.css``
               are loaded with ``item.html``.
    item       gathers what ``item.html`` shows, from the services, the job, the item and its artifacts.
    summary    one line about what came out of an item, for lists; empty: nothing to say yet.
    advice     what to do, by an error's code; see ``server/dashboard/advice.py`` for the general ones.
    """

    title: str
    about: str = ""
    inputs: Literal["files", "pairs", "folder"] = "files"
    accept: str = ""
    fields: tuple[FormField, ...] = ()
    folder: Path | None = None
    item: Callable[[Services, Job, Item, Sequence[Artifact]], Awaitable[Mapping[str, Any]]] | None = None
    summary: Callable[[Item], str] | None = None
    advice: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plugin:
    """What an entry point offers.

    kind       name of the workload, of its section in the settings and of its entry point.
    build      makes the engine's view of the workload from its settings.
    settings   the model of its section; unknown keys in it stop the start.
    router     its HTTP contract, mounted at the root; None: only ``POST /jobs`` reaches it.
    errors     path prefixes whose errors are rendered by ``render_error`` (see server/errors.py).
    health     paths of its own health endpoints, which need no token.
    streams    paths whose bodies its contract reads piece by piece within limits of its own: the server's
               limit on bodies that are read into memory is not theirs.
    words      its word for a job's state (``queued running succeeded failed cancelled``, and ``held``
               for a job that was created but not released) where the canonical one is not used.
    prepare    checks a job that came by ``POST /jobs`` and fills in what its own contract would have
               (id, meta, defaults), given the server's settings; raises InvalidRequest. Without it such
               jobs are taken as they are, unless the workload has a router: then they are only taken
               there.
    check_options  checks options alone, for presets; raises InvalidRequest. Without it ``prepare`` is asked
               about a job with these options and one path as its item.
    examples   a YAML file with an example for each endpoint of its router, for the page at ``/docs``;
               see ``server/description.py``.
    commands   its subcommands for the command line, mounted as ``millrace KIND …``.
    doctor     lines for ``millrace doctor``, from its settings and the models directory: what is missing
               and what it would add.
    demo       its part of ``millrace demo``: makes samples and submits them; see ``DemoStand``.
    face       makes the description of how the dashboard shows it; imports quickly, too.
    """

    kind: str
    build: Callable[[Any], Workload]
    settings: type[BaseModel] = NoSettings
    router: Callable[[Services, Any], APIRouter] | None = None
    errors: tuple[str, ...] = ()
    render_error: Callable[[int, str, str, dict[str, Any]], dict[str, Any]] | None = None
    health: tuple[str, ...] = ()
    streams: tuple[str, ...] = ()
    words: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[NewJob, Settings], NewJob] | None = None
    check_options: Callable[[Mapping[str, Any]], None] | None = None
    examples: Path | None = None
    commands: Callable[[], typer.Typer] | None = None
    doctor: Callable[[Any, Path], list[tuple[str, bool, str]]] | None = None
    demo: Callable[[DemoStand], DemoJob] | None = None
    face: Callable[[], Face] | None = None
