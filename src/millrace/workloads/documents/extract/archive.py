"""Open the zip containers of Office files without trusting what they say about their own size."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from lxml import etree

from millrace.errors import BadInput
from millrace.workloads.documents.limits import Limits

_CHUNK = 1 << 20
_FREE = 1 << 20
_MAX_XML = 128 << 20


class Container:
    """A zip container whose parts are read with a common budget of unpacked bytes."""

    def __init__(self, archive: zipfile.ZipFile, name: str, limits: Limits) -> None:
        self._archive = archive
        self._name = name
        self._limits = limits
        self._spent = 0
        self.names = frozenset(archive.namelist())

    def read(self, part: str) -> bytes:
        """Return one part; BadInput ``too_large`` where it grows beyond the limits."""
        return b"".join(self._chunks(part))

    def xml(self, part: str) -> Any:
        """Return the root element of one part, parsed with no entities and no network."""
        data = self.read(part)
        if len(data) > _MAX_XML:
            raise self._bomb(f"{part} holds {len(data)} bytes of XML")
        parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=False, load_dtd=False)
        try:
            root = etree.fromstring(data, parser)
        except etree.XMLSyntaxError as error:
            raise BadInput(f"{self._name} is broken: {part}: {error}", code="broken_file") from error
        if root is None:
            raise BadInput(f"{self._name} is broken: {part} is empty", code="broken_file")
        return root

    def relations(self, part: str) -> dict[str, tuple[str, str]]:
        """Return relation id → (last word of the type, target part) of a part (OPC, ECMA-376-2 §9.3)."""
        place = PurePosixPath(part)
        rels = f"{place.parent}/_rels/{place.name}.rels"
        if rels not in self.names:
            return {}
        found: dict[str, tuple[str, str]] = {}
        for relation in self.xml(rels):
            if not isinstance(relation.tag, str) or relation.get("TargetMode") == "External":
                continue
            target = relation.get("Target", "")
            whole = target[1:] if target.startswith("/") else _join(str(place.parent), target)
            found[relation.get("Id", "")] = (relation.get("Type", "").rsplit("/", 1)[-1], whole)
        return found

    def check_all(self) -> None:
        """Unpack every part once and drop it, for readers that open the container on their own."""
        for part in self.names:
            for _ in self._chunks(part):
                pass

    def _chunks(self, part: str) -> Iterator[bytes]:
        info = self._archive.getinfo(part)
        got = 0
        try:
            with self._archive.open(info) as file:
                while chunk := file.read(_CHUNK):
                    got += len(chunk)
                    self._spent += len(chunk)
                    if self._spent > self._limits.max_unpacked:
                        raise self._bomb(f"it unpacks to more than {self._limits.max_unpacked} bytes")
                    if got > _FREE and got > self._limits.max_ratio * max(1, info.compress_size):
                        raise self._bomb(
                            f"{part} unpacks to more than {self._limits.max_ratio:g} times its size"
                        )
                    yield chunk
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            if "password" in str(error):
                raise BadInput(
                    f"{self._name} is protected by a password", code="password_protected"
                ) from error
            raise BadInput(f"{self._name} is broken: {part}: {error}", code="broken_file") from error

    def _bomb(self, why: str) -> BadInput:
        return BadInput(f"{self._name} is refused as a zip bomb: {why}", code="too_large")


@contextmanager
def container(path: Path, name: str, limits: Limits) -> Iterator[Container]:
    """Open a zip container; BadInput ``broken_file`` or ``too_large``."""
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise BadInput(f"{name} is a broken zip container: {error}", code="broken_file") from error
    with archive:
        infos = archive.infolist()
        if len(infos) > limits.max_entries:
            raise BadInput(
                f"{name} holds {len(infos)} parts, more than {limits.max_entries}", code="too_large"
            )
        declared = sum(info.file_size for info in infos)
        if declared > limits.max_unpacked:
            raise BadInput(
                f"{name} is refused as a zip bomb: it unpacks to {declared} bytes, "
                f"more than {limits.max_unpacked}",
                code="too_large",
            )
        yield Container(archive, name, limits)


def _join(base: str, target: str) -> str:
    parts: list[str] = []
    for piece in f"{base}/{target}".split("/"):
        if piece == "..":
            del parts[-1:]
        elif piece not in ("", "."):
            parts.append(piece)
    return "/".join(parts)


def local_name(element: Any) -> str:
    """Return an element's tag without its namespace; empty for comments and instructions."""
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def attribute(element: Any, name: str) -> str | None:
    """Return an attribute by its name without namespace."""
    for key, value in element.attrib.items():
        if key.rpartition("}")[2] == name:
            return str(value)
    return None
