"""Imports run one way, as docs/architecture.md says."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "millrace"

ALLOWED = {
    "engine": {"engine", "errors"},
    "media": {"media", "errors"},
    "blobs": {"blobs", "errors", "settings"},
    "addresses": {"addresses", "errors"},
    "fetch": {"fetch", "addresses", "errors"},
    "patterns": {"patterns", "errors"},
    "folders": {"folders", "patterns", "engine", "errors"},
    "notify": {"notify", "addresses", "errors"},
    "sources": {"sources", "fetch", "engine", "errors"},
    "settings": {"settings", "errors"},
    "client": {"client", "errors", "__version__"},
}
"""Package or module → what of ours it may import. What is not named here stands further out."""


def modules(package: str) -> list[Path]:
    single = SOURCE / f"{package}.py"
    return [single] if single.exists() else sorted((SOURCE / package).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Yield the second part of every ``millrace.…`` that a file imports, at its top or inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("millrace"):
            parts = node.module.split(".")
            yield from [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            for alias in node.names:
                parts = alias.name.split(".")
                if parts[0] == "millrace" and len(parts) > 1:
                    yield parts[1]


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_the_inner_rooms_do_not_know_the_outer_ones(package: str) -> None:
    files = modules(package)
    assert files, f"there is no {package}"
    wrong = {
        f"{path.relative_to(SOURCE)} imports {name}"
        for path in files
        for name in imports(path)
        if name not in ALLOWED[package]
    }
    assert wrong == set()


def test_workloads_do_not_know_each_other() -> None:
    folders = sorted(path for path in (SOURCE / "workloads").iterdir() if (path / "__init__.py").exists())
    for folder in folders:
        for path in folder.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("millrace.workloads."):
                    assert node.module.split(".")[2] == folder.name, f"{path} imports {node.module}"  # type: ignore[union-attr]


def test_the_server_knows_no_workload_by_name() -> None:
    for path in modules("server"):
        for node in ast.walk(ast.parse(path.read_text())):
            module = node.module if isinstance(node, ast.ImportFrom) else None
            assert not (module or "").startswith("millrace.workloads."), f"{path} imports {module}"
