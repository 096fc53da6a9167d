"""The server can take work within two seconds, so what it imports on its way there is kept small."""

from __future__ import annotations

import subprocess
import sys

HEAVY = {
    *("numpy", "scipy", "av", "PIL", "cv2", "onnxruntime", "torch", "transformers", "ctranslate2"),
    *("pocketsphinx", "sherpa_onnx", "pypdfium2", "lxml", "rapidocr", "celery", "obstore", "matplotlib"),
}


def imported_by(program: str) -> set[str]:
    """Return the packages that a fresh interpreter has loaded after running the program."""
    shown = f"{program}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    run = subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_finding_all_workloads_loads_nothing_heavy() -> None:
    program = "import millrace.plugins\nassert millrace.plugins.discover()"
    loaded = imported_by(program)
    assert loaded & HEAVY == set()
    assert "fastapi" not in loaded


def test_the_server_loads_nothing_heavy() -> None:
    program = (
        "import importlib\n"
        "import millrace.server.assembly, millrace.server.run\n"
        "for kind in ('documents', 'images', 'sync', 'tracks', 'transcripts'):\n"
        "    importlib.import_module(f'millrace.workloads.{kind}.contract')"
    )
    assert imported_by(program) & (HEAVY - {"lxml"}) == set()


def test_help_does_not_load_the_server() -> None:
    assert imported_by("import millrace.cli") & {"fastapi", "sqlalchemy", "pydantic", "uvicorn"} == set()
