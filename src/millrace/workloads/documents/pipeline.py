"""The stages of a document: read its pages; then find evidence on them, decide, and write its copies.

Reading, which is the slow part where there is OCR, publishes ``pages.json``, so that a document can be
classified again without being read again. A stage that runs twice writes the same files.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from millrace.engine.context import StageContext
from millrace.errors import StageError
from millrace.sources import localise
from millrace.workloads.documents.document import Document, Finding
from millrace.workloads.documents.extract import ocr
from millrace.workloads.documents.extract.ocr import Ocr
from millrace.workloads.documents.limits import Limits
from millrace.workloads.documents.policy import Decision, Policy
from millrace.workloads.documents.policy import load as load_policy

DETECTING, DECIDING, SAVING = "detecting", "deciding", "saving"
"""The phases of the last stage: 30, 60 and 90 % in the contract's words."""
_MAX_SUMMARY = 200


def extract(ctx: StageContext) -> Mapping[str, Any]:
    """Read the document; publishes ``pages.json``."""
    from millrace.workloads.documents import extract as reading

    document = reading.extract(
        localise(ctx, ctx.input), ctx.name, ctx.workdir, limits=Limits.of(ctx.settings), ocr=_ocr(ctx),
        progress=lambda done: ctx.progress(done, "extracting"),
    )  # fmt: skip
    ctx.artifact("pages.json").write_bytes(orjson.dumps(document.to_json()))
    return summary(document)


def _ocr(ctx: StageContext) -> Ocr | None:
    chosen = ocr.choose(str(ctx.settings.get("ocr", "auto")))
    if chosen is None:
        return None
    languages, tessdata = str(ctx.settings.get("ocr_languages", "eng")), ctx.settings.get("tessdata")
    threads = max(1, ctx.slots)
    return ocr.Lazy(
        lambda: ctx.model(
            ("documents.ocr", chosen, threads, languages, tessdata),
            lambda: ocr.load(chosen, threads, languages, tessdata),
        )
    )


def classify(ctx: StageContext) -> Mapping[str, Any]:
    """Find evidence, decide, then write ``findings.json`` and the copies that are wanted.

    The result is the classification as the contract shows it.
    """
    document = _pages(ctx)
    policy = load_policy(ctx.settings.get("policy"))
    with _opened(_original(ctx) if document.format == "pdf" else None) as pdf:
        findings = search(document, pdf, ctx.progress)
        ctx.progress(0.4, DECIDING)
        decision, opinions, hint = judge(ctx, document, findings, policy)
        ctx.progress(0.6, SAVING)
        made = classification(decision, document, findings)
        made["opinions"] = [opinion.to_json() for opinion in opinions]
        made["zero_shot"] = hint
        ctx.artifact("findings.json").write_bytes(
            orjson.dumps({"findings": [f.to_json() for f in findings]}, option=orjson.OPT_INDENT_2)
        )
        if ctx.options.get("highlight", ctx.settings.get("highlight", True)):
            _highlight(ctx, document, findings, pdf)
    if ctx.options.get("redact", ctx.settings.get("redact", False)):
        from millrace.workloads.documents import redact

        target = ctx.artifact(f"redacted{redact.suffix(document)}")
        made["redacted"] = {
            "artifact": target.name,
            "removed": redact.redact(_original(ctx), document, findings, target),
        }
    return made


@contextmanager
def _opened(path: Path | None) -> Iterator[Any]:
    """Open a PDF for as long as it is needed; None stays None."""
    if path is None:
        yield None
        return
    from millrace.workloads.documents.extract.pdf import open_pdf

    pdf = open_pdf(path, path.name)
    try:
        yield pdf
    finally:
        pdf.close()


def find(document: Document, path: Path | None) -> list[Finding]:
    """Return the findings of all pages, with their boxes where ``path`` is the PDF that the document was."""
    with _opened(path if document.format == "pdf" else None) as pdf:
        return search(document, pdf)


def search(document: Document, pdf: Any, progress: Any = lambda fraction, phase: None) -> list[Finding]:
    """Return the findings of all pages; ``pdf`` is the document opened, or None where it is no PDF."""
    from millrace.workloads.documents.detectors import detect as on_page
    from millrace.workloads.documents.extract.pdf import PageBoxes

    found: list[Finding] = []
    for done, page in enumerate(document.searched):
        progress(0.4 * done / len(document.searched), DETECTING)
        on_this = on_page(page)
        if on_this:
            own = pdf is not None and not page.part and page.index is not None
            places = PageBoxes(pdf, page if own else replace(page, index=None))
            found += [replace(f, boxes=places.find(f.start, f.end)) for f in on_this]
            places.close()
    return found


def judge(
    ctx: StageContext, document: Document, findings: Sequence[Finding], policy: Policy
) -> tuple[Decision, list[Any], dict[str, Any] | None]:
    """Return the decision, the opinions of second readers and the hint of the zero-shot model."""
    from millrace.workloads.documents import policy as policies

    decision = policies.decide(document, findings, policy)
    opinions: list[Any] = []
    endpoints = [e for e in (ctx.settings.get("llm"), ctx.settings.get("llm_second")) if e]
    if endpoints:
        from millrace.workloads.documents import opinion

        opinions = [opinion.ask(opinion.Endpoint.of(e), document, findings, policy) for e in endpoints]
        decision = opinion.weigh(decision, opinions, policy)
    directory = ctx.settings.get("zeroshot")
    if not directory:
        return decision, opinions, None
    from millrace.workloads.documents import zeroshot

    model = ctx.model(
        ("documents.zeroshot", directory), lambda: zeroshot.Embedder(Path(directory), max(1, ctx.slots))
    )
    hint = zeroshot.hint(model, document, float(ctx.settings["zeroshot_margin"]))
    if hint is None:
        return decision, opinions, None
    rank = policy.categories.index
    if rank(hint.category) > rank(decision.category):
        reason = (
            f"Page {hint.page} reads like {hint.category} to the zero-shot model (margin {hint.margin:.2f})."
        )
        decision = replace(decision, requires_review=True, review_reasons=(*decision.review_reasons, reason))
    return decision, opinions, {"category": hint.category, "page": hint.page, "margin": hint.margin}


def classification(decision: Decision, document: Document, findings: Sequence[Finding]) -> dict[str, Any]:
    """Return a decision as the contract shows it."""
    parts = {page.number: page.part for page in document.searched}
    rules = {f: fired.rule.id for fired in reversed(decision.fired) for f in fired.findings}
    return {
        "final_category": decision.category,
        "secondary_tags": list(decision.tags),
        "confidence": decision.confidence,
        "citations": [
            {
                "page": f.page or None,
                "part": parts.get(f.page) or None,
                "snippet": f.snippet,
                "type": f.type,
                "rule": f.rule,
                "policy_rule": rules.get(f),
                "start": f.start,
                "end": f.end,
                "boxes": [[round(x, 2) for x in box] for box in f.boxes],
            }
            for f in decision.citations
        ],
        "explanation": decision.explanation,
        "content_safety": {"safe": decision.safe, "categories": list(decision.unsafe_types)},
        "requires_review": decision.requires_review,
        "review_reasons": list(decision.review_reasons),
        "findings": dict(Counter(f.type for f in findings)),
        "policy_version": decision.policy_version,
    }


def summary(document: Document) -> dict[str, Any]:
    """Return what the contract shows of a document's pages."""
    return {
        "format": document.format,
        "page_count": document.page_count,
        "image_count": document.image_count,
        "legibility": document.legibility,
        "language": document.language,
        "embedded_files": list(document.embedded),
        "warnings": list(document.warnings),
        "unread_pages": document.unread,
        "pages": [
            {
                "page": p.number,
                "part": p.part or None,
                "source": p.source,
                "legibility": p.legibility,
                "language": p.language,
                "images": p.images,
            }
            for p in document.pages[:_MAX_SUMMARY]
        ],
    }


def _highlight(ctx: StageContext, document: Document, findings: Sequence[Finding], pdf: Any) -> None:
    from millrace.workloads.documents import highlight

    target = ctx.artifact("highlighted.pdf")
    if document.format == "pdf" and not findings and not document.embedded:
        shutil.copyfile(_original(ctx), target)
        return
    highlight.highlight(_original(ctx), document, findings, target, ctx.settings.get("font"), pdf)
    if document.format not in ("pdf", "png", "jpeg"):
        ctx.artifact("highlighted.html").write_text(
            highlight.highlight_html(document, findings, ctx.name), encoding="utf-8"
        )


def _original(ctx: StageContext) -> Path:
    """Return the file itself: of this job, or of the document that is classified again."""
    reference = ctx.input.get("original", ctx.input)
    return localise(ctx, reference)


def _pages(ctx: StageContext) -> Document:
    return Document.from_json(_stored(ctx, "pages.json"))


def _stored(ctx: StageContext, name: str) -> Any:
    key = ctx.input.get("stored", {}).get(name)
    try:
        path = ctx.local(str(key), name) if key else ctx.published(name)
        return orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise StageError(
            f"{name} of an earlier stage cannot be read: {error}", code="internal_error"
        ) from error
