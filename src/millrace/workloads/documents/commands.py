"""``millrace documents …``: classify files and measure policies on this machine, without a server."""

from __future__ import annotations

import json
import multiprocessing
import resource
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from millrace.errors import MillraceError, StageError
from millrace.workloads.documents.settings import DocumentSettings

if TYPE_CHECKING:
    from millrace.workloads.documents.document import Document, Finding

_EXIT_SOME_FAILED = 1
_POLICY = typer.Option("--policy", help="A policy file; default: the one in the settings, or that ships.")
_LABELS = "JSON Lines as GET /hitl/labels gives them, JSON, or CSV (path,label)."
_CONFIG = typer.Option("--config", help="The settings file; default: millrace.yaml where there is one.")
_WORKERS = typer.Option("--workers", min=1, help="Processes; default: one a core.")


def commands() -> typer.Typer:
    """Return the subcommands."""
    app = typer.Typer(help="Classify documents, and measure the policy that does it.", no_args_is_help=True)
    app.command("classify")(classify)
    app.command("evaluate")(evaluate)
    return app


def classify(
    paths: Annotated[list[Path], typer.Argument(help="Files, or directories with files.", exists=True)],
    policy: Annotated[Path | None, _POLICY] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line instead of a table.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Also write marked copies and findings below this directory.")
    ] = None,
    redact: Annotated[bool, typer.Option("--redact", help="With --out: redacted copies too.")] = False,
    workers: Annotated[int | None, _WORKERS] = None,
    config: Annotated[Path | None, _CONFIG] = None,
) -> None:
    """Say how sensitive files are, and on what evidence. Exits with 1 when a file could not be read."""
    settings = _settings(config, policy)
    if redact and out is None:
        raise typer.BadParameter("--redact needs --out")
    failed = False
    jobs = [(path, str(out / f"{number:04d}-{path.name}") if out else None, redact, settings)
            for number, path in enumerate(_files(paths), 1)]  # fmt: skip
    for (path, *_), result in zip(jobs, _spread(_classify_one, jobs, workers, settings), strict=True):
        failed |= "error" in result
        if as_json:
            typer.echo(json.dumps({"path": str(path), **result}, ensure_ascii=False))
        elif "error" in result:
            typer.echo(f"{path}: {result['error']}", err=True)
        else:
            review = "  [review]" if result["requires_review"] else ""
            typer.echo(f"{result['final_category']:<16} {result['confidence']:.2f}  {path}{review}")
            typer.echo(f"    {result['explanation']}")
    if failed:
        raise typer.Exit(_EXIT_SOME_FAILED)


def evaluate(
    labels: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help=_LABELS)],
    policy: Annotated[Path | None, _POLICY] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The report as JSON.")] = False,
    calibrate: Annotated[bool, typer.Option("--calibrate", help="Also print calibration points.")] = False,
    workers: Annotated[int | None, _WORKERS] = None,
    config: Annotated[Path | None, _CONFIG] = None,
) -> None:  # fmt: skip
    """Measure a policy on labelled documents: precision, recall, confusion, calibration."""
    from millrace.workloads.documents import evaluate as measuring
    from millrace.workloads.documents.policy import load

    settings = _settings(config, policy)
    rules = load(settings.get("policy"))
    entries = measuring.read_labels(labels, rules.categories)
    outcomes = []
    unread = []
    work = [(entry, settings) for entry in entries]
    for entry, result in zip(entries, _spread(_evaluate_one, work, workers, settings), strict=True):
        if isinstance(result, measuring.Outcome):
            outcomes.append(result)
        else:
            unread.append(f"{entry.name}: {result['error']}")
    report = measuring.report(outcomes, rules.categories)
    points = measuring.calibrate(outcomes) if calibrate else None
    if as_json:
        typer.echo(json.dumps({**report.to_json(), "unread": unread, "calibration_points": points}))
        return
    _print_report(report, rules.version, unread)
    if points is not None:
        typer.echo("\ncalibration:" if points else "\ntoo few labelled documents to calibrate on")
        for strength, share in points:
            typer.echo(f"  - [{strength:.4f}, {share:.4f}]")


def _print_report(report: Any, version: str, unread: list[str]) -> None:
    typer.echo(
        f"policy {version}: {report.total} documents, {report.accuracy:.1%} right, "
        f"{report.reviewed:.1%} for review\n"
    )
    typer.echo(f"{'':<18}{'documents':>10}{'precision':>11}{'recall':>9}{'F1':>8}")
    for name, row in report.per_category.items():
        typer.echo(
            f"{name:<18}{row['documents']:>10.0f}{row['precision']:>11.3f}{row['recall']:>9.3f}{row['f1']:>8.3f}"
        )
    names = list(report.confusion)
    typer.echo(f"\n{'label ↓  policy →':<18}" + "".join(f"{name[:16]:>18}" for name in names))
    for name, row in report.confusion.items():
        typer.echo(f"{name:<18}" + "".join(f"{row[other]:>18}" for other in names))
    typer.echo(
        "\nconfidence      documents  mean  right   "
        f"(expected calibration error {report.calibration_error:.3f})"
    )
    for low, high, count, mean, share in report.calibration:
        typer.echo(f"{low:.2f} – {high:.2f}     {count:>9}  {mean:.2f}  {share:.2f}")
    for outcome in report.wrong[:50]:
        typer.echo(
            f"wrong: {outcome.name}: {outcome.label}, policy says {outcome.predicted} "
            f"({outcome.confidence:.2f})"
        )
    for line in unread:
        typer.echo(f"unread: {line}", err=True)


def _settings(config: Path | None, policy: Path | None) -> dict[str, Any]:
    from millrace.cli import read_settings
    from millrace.workloads.documents import KIND

    _, settings = read_settings(config, {})
    section = settings.workload(KIND, DocumentSettings)
    if policy is not None:
        section = DocumentSettings.model_validate({**section.model_dump(), "policy": policy})
    return section.model_dump(mode="json")


def _files(paths: list[Path]) -> Iterator[Path]:
    from millrace.workloads.documents.extract import format_of_name

    for path in paths:
        if path.is_dir():
            yield from sorted(p for p in path.rglob("*") if p.is_file() and format_of_name(p.name))
        else:
            yield path


def _spread(call: Any, work: list[Any], workers: int | None, settings: Mapping[str, Any]) -> Iterator[Any]:
    """Run calls in worker processes with the memory limit; a call that kills its process yields an error."""
    from millrace.settings import available_cores

    context = multiprocessing.get_context("spawn")
    count = max(1, min(workers or available_cores(), len(work)))

    def pool() -> ProcessPoolExecutor:
        return ProcessPoolExecutor(count, context, initializer=_limit, initargs=(int(settings["memory"]),))

    running = pool()
    try:
        futures: list[Future[Any]] = [running.submit(call, entry) for entry in work]
        for number, future in enumerate(futures):
            try:
                yield future.result(timeout=float(settings["timeout"]))
            except BrokenProcessPool:
                running.shutdown(wait=False)
                running = pool()
                yield {"error": "worker_lost: reading it ended its process"}
                futures[number + 1 :] = [running.submit(call, entry) for entry in work[number + 1 :]]
            except TimeoutError:
                yield {"error": f"timeout: it took longer than {settings['timeout']:g} s"}
    finally:
        running.shutdown(wait=False, cancel_futures=True)


def _limit(memory: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (memory, hard))


def _context(path: Path, settings: Mapping[str, Any], workdir: Path) -> Any:
    from millrace.engine.context import StageContext, WarmModels

    return StageContext(
        job="", idx=0, name=path.name, stage="", input={"kind": "path", "path": str(path.absolute())},
        settings=settings, site={"media_roots": [str(path.absolute().parent)]}, workdir=workdir,
        models=_MODELS.setdefault("warm", WarmModels()),
    )  # fmt: skip


_MODELS: dict[str, Any] = {}


def _read(path: Path, settings: Mapping[str, Any], workdir: Path) -> tuple[Document, list[Finding]]:
    from millrace.workloads.documents.document import Document
    from millrace.workloads.documents.pipeline import extract, find

    ctx = _context(path, settings, workdir)
    extract(ctx)
    document = Document.from_json(json.loads((workdir / "artifacts" / "pages.json").read_bytes()))
    return document, find(document, path)


def _classify_one(work: tuple[Path, str | None, bool, Mapping[str, Any]]) -> dict[str, Any]:
    from millrace.workloads.documents import highlight, pipeline, redact
    from millrace.workloads.documents.policy import load

    path, out, wants_redacted, settings = work
    try:
        with tempfile.TemporaryDirectory(prefix="millrace-") as folder:
            document, findings = _read(path, settings, Path(folder))
            ctx = _context(path, settings, Path(folder))
            decision, opinions, hint = pipeline.judge(ctx, document, findings, load(settings.get("policy")))
            result = {**pipeline.classification(decision, document, findings), **pipeline.summary(document),
                      "opinions": [o.to_json() for o in opinions], "zero_shot": hint}  # fmt: skip
            if out is not None:
                target = Path(out)
                target.mkdir(parents=True, exist_ok=True)
                highlight.highlight(
                    path, document, findings, target / "highlighted.pdf", settings.get("font")
                )
                data = json.dumps(
                    {**result, "findings": [f.to_json() for f in findings]}, indent=2, ensure_ascii=False
                )
                (target / "findings.json").write_text(data, encoding="utf-8")
                if wants_redacted:
                    redact.redact(path, document, findings, target / f"redacted{redact.suffix(document)}")
            return result
    except StageError as error:
        return {"error": f"{error.code}: {error.message}"}
    except MillraceError as error:
        return {"error": error.message}
    except MemoryError:
        return {"error": f"too_large: it needs more memory than {settings['memory']} bytes"}


def _evaluate_one(work: tuple[Any, Mapping[str, Any]]) -> Any:
    from millrace.workloads.documents import evaluate as measuring
    from millrace.workloads.documents.policy import load

    entry, settings = work
    try:
        with tempfile.TemporaryDirectory(prefix="millrace-") as folder:
            return measuring.outcome(
                entry, load(settings.get("policy")), lambda path: _read(path, settings, Path(folder))
            )
    except StageError as error:
        return {"error": f"{error.code}: {error.message}"}


def doctor(settings: DocumentSettings) -> list[tuple[str, bool, str]]:
    """Say what is installed and configured, and what the missing would add."""
    from millrace.workloads.documents.extract import ocr

    lines = [
        (
            "OCR: RapidOCR",
            ocr.available("rapidocr"),
            "reads scanned pages and pictures; models come in its wheel",
        ),
        (
            "OCR: Tesseract",
            ocr.available("tesseract"),
            "faster OCR: pip install 'millrace[ocr-tesseract]' and its language data",
        ),
    ]
    for name, endpoint in (("language model", settings.llm), ("second language model", settings.llm_second)):
        told = f"{endpoint.model} at {endpoint.url}" if endpoint else "a second opinion: set documents.llm"
        lines.append((name, endpoint is not None, told))
    model = settings.zeroshot
    there = model is not None and (model / "model.onnx").is_file() and (model / "tokenizer.json").is_file()
    lines.append(
        (
            "zero-shot model",
            there,
            "asks for reviews: set documents.zeroshot to a directory with model.onnx and tokenizer.json",
        )
    )
    return lines
