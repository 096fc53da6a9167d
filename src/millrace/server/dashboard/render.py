"""Renders the dashboard's pages and fragments; their headers keep a page to this server's own files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PrefixLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from millrace import __version__
from millrace.engine.model import Item, Job, Priority
from millrace.server.dashboard import views, words
from millrace.server.dashboard.advice import advice
from millrace.server.dashboard.files import Files
from millrace.server.rows import public
from millrace.server.services import Services
from millrace.server.words import Words
from millrace.workloads import Face

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
THEMES = ("light", "dark")


class Renderer:
    """Turns templates into answers. A workload's own templates are found as ``<kind>/<name>``."""

    def __init__(self, services: Services, contract_words: Words, files: Files) -> None:
        self._services = services
        self.contract_words = contract_words
        self.files = files
        loaders: dict[str, Any] = {
            kind: FileSystemLoader(face.folder)
            for kind, face in files.faces.items()
            if face.folder is not None
        }
        self._environment = Environment(
            loader=ChoiceLoader(
                [FileSystemLoader(Path(__file__).parent / "templates"), PrefixLoader(loaders)]
            ),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        filters: dict[str, Callable[..., Any]] = {
            "span": words.span,
            "size": words.size,
            "count": words.count,
            "plural": words.plural,
            "moment": words.moment,
            "clock": words.clock,
            "date": words.date,
            "base": words.base,
        }
        self._environment.filters.update(filters)
        self._environment.globals.update(
            base=files.base,
            version=__version__,
            kinds=sorted(services.engine.workloads),
            title_of=self.title_of,
            status_of=contract_words.of,
            priority_of=_priority,
            advice_of=self.advice_of,
            summary_of=self.summary_of,
            guarded=services.settings.require_auth,
            steps_of=views.steps,
            shown_name=views.shown_name,
            public=public,
            rows=views.ROWS,
        )

    def face(self, kind: str) -> Face:
        """Return a workload's face; a plain one where it has none."""
        return self.files.faces.get(kind) or Face(title=kind.replace("_", " ").capitalize())

    def title_of(self, kind: str) -> str:
        """Return a workload's name for people."""
        return self.face(kind).title

    def advice_of(self, kind: str, error: Mapping[str, Any] | None) -> str:
        """Return what to do about an error of an item of that kind."""
        return advice(error, self.face(kind).advice)

    def summary_of(self, kind: str, item: Item) -> str:
        """Return one line about what came out of an item."""
        summary = self.face(kind).summary
        return summary(item) if summary is not None else ""

    def has(self, template: str) -> bool:
        """Whether there is a template of this name."""
        kind, _, name = template.partition("/")
        folder = self.face(kind).folder
        return folder is not None and (folder / name).is_file()

    def page(self, request: Request, template: str, code: int = 200, /, **context: Any) -> HTMLResponse:
        """Answer with a page or a fragment."""
        theme = request.cookies.get("theme", "")
        text = self._environment.get_template(template).render(
            theme=theme if theme in THEMES else "auto", path=request.url.path, **context
        )
        return HTMLResponse(text, code, headers=dict(HEADERS))


def _priority(job: Job) -> str:
    return Priority(job.priority).name.lower()
