"""A short slice of the fault suite; ``make chaos`` runs two hundred rounds."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests.chaos.suite import Chaos

SEEDS = (2, 5, 9, 13)


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.rabbitmq
@pytest.mark.timeout(900)
def test_whatever_breaks_every_accepted_item_ends_once() -> None:
    pytest.importorskip("celery")
    # Not below pytest's own folder, which it closes to other users: PostgreSQL does not run as root.
    with tempfile.TemporaryDirectory(prefix="millrace-chaos-") as home:
        try:
            chaos = Chaos(Path(home, "cluster"))
        except FileNotFoundError as error:
            pytest.skip(str(error))
        with chaos:
            for seed in SEEDS:
                chaos.round(seed)
