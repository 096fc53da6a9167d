"""A short slice of the fault suite; ``make chaos`` runs two hundred rounds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.suite import Chaos

SEEDS = (2, 5, 9, 13)


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.rabbitmq
@pytest.mark.timeout(900)
def test_whatever_breaks_every_accepted_item_ends_once(tmp_path: Path) -> None:
    pytest.importorskip("celery")
    try:
        chaos = Chaos(tmp_path / "cluster")
    except FileNotFoundError as error:
        pytest.skip(str(error))
    with chaos:
        for seed in SEEDS:
            chaos.round(seed)
