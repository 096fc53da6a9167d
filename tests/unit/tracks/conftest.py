"""What the tests of single files share: a journal, and one call that makes a track the default."""

import pytest

from millrace.workloads.tracks.choice import Wish
from millrace.workloads.tracks.journal import Journal
from millrace.workloads.tracks.repair import Care, repair

CALM = Care(quiet=0)


@pytest.fixture
def journal(tmp_path):
    journal = Journal(tmp_path / "journal")
    yield journal
    journal.close()


@pytest.fixture
def fix(journal, tmp_path):
    def fix(path, language="jpn", **options):
        care = options.pop("care", CALM)
        return repair(path, [Wish(language, "test")], care, journal, lambda: tmp_path, **options)

    return fix
