"""Tests, which read as specification: unit, engine, contract and e2e."""

from hypothesis import settings

# How long an example takes says nothing on a busy machine.
settings.register_profile("millrace", deadline=None)
settings.load_profile("millrace")
