"""Runs the fault suite: ``python -m tests.chaos --iterations 200 --seed 1``."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from tests.chaos.suite import run

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--iterations", type=int, default=200)
parser.add_argument("--seed", type=int, default=1)
arguments = parser.parse_args()
run(
    Path(tempfile.mkdtemp(prefix="millrace-chaos-")) / "cluster",
    arguments.iterations,
    arguments.seed,
    lambda line: print(line, flush=True),
)
