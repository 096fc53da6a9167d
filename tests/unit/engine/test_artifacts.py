"""What a call has staged is known by its lease, and dropped by it."""

from __future__ import annotations

import pytest

from millrace.blobs import DirectoryBlobs
from millrace.engine.artifacts import drop_staged, lease_of_staged, staged_key, staged_leases


@pytest.mark.parametrize("lease", [1, 12, 2**40 + 7])
def test_a_staged_key_names_its_lease(lease):
    assert lease_of_staged(staged_key(lease, 3, 0)) == lease


@pytest.mark.parametrize(
    "key", ["staging/aside/0123456789abcdef", "staging/12/0.0", "staging/.0.0", "jobs/12.0.0"]
)
def test_other_keys_name_none(key):
    assert lease_of_staged(key) is None


def test_only_what_those_calls_have_staged_is_dropped(tmp_path):
    blobs = DirectoryBlobs(tmp_path / "blobs")
    keys = [staged_key(lease, idx, 0) for lease in (1, 12, 123) for idx in (0, 1, 12)]
    for key in keys:
        (tmp_path / "file").write_text(key)
        blobs.stage(tmp_path / "file", key)
    assert staged_leases(blobs) == {1, 12, 123}
    drop_staged(blobs, {12})
    assert sorted(blob.key for blob in blobs.list("staging")) == sorted(
        key for key in keys if not key.startswith("staging/12.")
    )
    drop_staged(blobs, {1, 123, 9})
    assert staged_leases(blobs) == set()
