"""Fixtures for all tests: a real running server, in three lifetimes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live import LiveServer
from tests.s3server import S3Account, run_s3_server

NewServer = Callable[..., LiveServer]


@pytest.fixture
def new_server(tmp_path: Path) -> Iterator[NewServer]:
    """Make servers with settings of their own, not started yet; stopped after the test.

    ``new_server(settings={...}, media_roots=[...], environ={...}, path=[...])``, then ``.start()``.
    """
    yield from _factory(tmp_path)


@pytest.fixture(scope="module")
def new_module_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NewServer]:
    """Make servers as ``new_server`` does, that live as long as the test module: for its own fixture."""
    yield from _factory(tmp_path_factory.mktemp("servers"))


@pytest.fixture
def server(new_server: NewServer, tmp_path: Path) -> LiveServer:
    """A running server of the test's own; ``tmp_path / "media"`` is its media root."""
    return new_server(media_roots=[_media(tmp_path)]).start()


@pytest.fixture(scope="module")
def module_server(new_module_server: NewServer, tmp_path_factory: pytest.TempPathFactory) -> LiveServer:
    """A running server shared by a module; ``media_roots[0]`` is a directory for its inputs."""
    return new_module_server(media_roots=[_media(tmp_path_factory.mktemp("media"))]).start()


@pytest.fixture(scope="session")
def session_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A running server shared by everybody, with the default settings: for what leaves no trace."""
    home = tmp_path_factory.mktemp("shared")
    with LiveServer(home / "server", media_roots=[_media(home)]) as running:
        yield running


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Account]:
    """A real S3 server (Ceph), started when first asked for; skips where it is not installed."""
    with run_s3_server(tmp_path_factory.mktemp("s3")) as account:
        yield account


def _media(folder: Path) -> Path:
    media = folder / "media"
    media.mkdir(exist_ok=True)
    return media


def _factory(folder: Path) -> Iterator[NewServer]:
    made: list[LiveServer] = []

    def make(**arguments: Any) -> LiveServer:
        made.append(LiveServer(folder / f"server-{len(made)}", **arguments))
        return made[-1]

    try:
        yield make
    finally:
        for each in made:
            if each.process is not None:
                each.stop()
