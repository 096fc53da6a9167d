"""A JSON body is read piece by piece: long strings land in blobs, decoded, wherever the pieces end."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.blobs import DirectoryBlobs
from millrace.errors import InvalidRequest, TooLarge
from millrace.workloads.images import bodies
from millrace.workloads.images.bodies import Base64Blob, BodyReader

DATA = hashlib.shake_256(b"seed").digest(20_000)
LONG = base64.b64encode(DATA).decode()


def reader_of(folder, limit: int, most: int, **options) -> BodyReader:
    return BodyReader(DirectoryBlobs(folder).writer, "uploads/x", limit, most, **options)


def stored(folder, reader: BodyReader, found) -> bytes:
    """What a string was decoded to, once it is committed."""
    blobs = DirectoryBlobs(folder)
    reader.commit(blobs.commit_all, [found])
    return b"".join(blobs.chunks(found.key))


def files(folder) -> list:
    return [path for path in folder.rglob("*") if path.is_file()]


def read(folder, raw: bytes, cuts: list[int], **options):
    reader = reader_of(folder, options.pop("limit", 10**6), options.pop("most", 100), **options)
    edges = [0, *sorted(cut % (len(raw) + 1) for cut in cuts), len(raw)]
    for start, end in itertools.pairwise(edges):
        reader.feed(raw[start:end])
    return reader, reader.finish()


def escaped(text: str, style: str) -> str:
    if style == "slashes":
        return text.replace("/", "\\/")
    if style == "unicode":
        return "".join(f"\\u{ord(c):04x}" if c in "+/=A" else c for c in text)
    if style == "lines":
        return "\\r\\n".join(text[i : i + 76] for i in range(0, len(text), 76))
    return text


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 10**6), max_size=30), st.sampled_from(["plain", "slashes", "unicode", "lines"])
)
def test_a_long_string_is_decoded_wherever_the_blocks_end(tmp_path_factory, cuts, style):
    folder = tmp_path_factory.mktemp("body")
    form = '{"a": "x\\"y\\\\", "images": [{"base64": "HERE", "name": "ü"}]}'
    raw = form.replace("HERE", escaped(LONG, style)).encode()
    reader, body = read(folder, raw, cuts)
    assert body["a"] == 'x"y\\'
    assert body["images"][0]["name"] == "ü"
    found = reader.long_string(body["images"][0]["base64"])
    assert found is not None
    assert (found.error, found.size, found.oversize) == ("", len(DATA), False)
    assert found.head == DATA[:16]
    assert stored(folder, reader, found) == DATA


@settings(max_examples=100, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=40),
        lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=10), inner, max_size=5),
        max_leaves=20,
    ),
    st.lists(st.integers(0, 10**6), max_size=10),
    st.booleans(),
)
def test_everything_else_is_what_a_json_parser_makes_of_it(tmp_path_factory, value, cuts, ascii_only):
    folder = tmp_path_factory.mktemp("body")
    value = json.loads(re.sub(r"\\ud[89a-f]..", "", json.dumps(value)))
    raw = json.dumps(value, ensure_ascii=ascii_only).encode()
    _, body = read(folder, raw, cuts)
    assert body == value


def test_data_urls_lose_their_prefix_even_cut_in_the_middle_of_it(tmp_path):
    raw = b'{"b": "data:image/jpeg;name=a%%20b;base64,%s"}' % LONG.encode()
    for cut in range(6, 60):
        reader, body = read(tmp_path, raw, [cut])
        found = reader.long_string(body["b"])
        assert found is not None
        assert stored(tmp_path, reader, found) == DATA


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("data:image/svg+xml,<svg/>", "the data URL is not base64"),
        ("data:image/jpeg;base64", "only base64 data is allowed"),
        ("A", "invalid"),
        ("AAAA=AAA", "padding"),
        ("AA==AAAA", "padding"),
        ("ÄÖÜ€", "only base64"),
        ("    ", "empty"),
    ],
)
def test_what_is_no_base64_is_named(tmp_path, text, error):
    sink = Base64Blob("x", DirectoryBlobs(tmp_path).writer("x", 1000), 1000)
    sink.feed(text.encode())
    assert error.lower() in sink.close().error.lower()
    assert files(tmp_path) == []


def test_more_than_the_limit_is_counted_and_not_kept(tmp_path):
    raw = b'{"b": "%s"}' % LONG.encode()
    reader, body = read(tmp_path, raw, [3000, 9000], limit=5000)
    found = reader.long_string(body["b"])
    assert found is not None
    assert (found.oversize, found.size) == (True, len(DATA))
    assert files(tmp_path) == []


def test_a_token_cannot_be_guessed_and_names_only_what_is_there(tmp_path):
    reader, body = read(tmp_path, b'{"b": "long-string-0", "c": "%s"}' % LONG.encode(), [])
    assert reader.long_string(body["b"]) is None
    assert reader.long_string(body["c"]) is not None


def test_more_long_strings_than_images_are_refused_before_they_are_written(tmp_path):
    raw = json.dumps([LONG] * 4).encode()
    with pytest.raises(InvalidRequest, match="Maximum 3 images per batch"):
        read(tmp_path, raw, [], most=3)
    assert len(files(tmp_path)) == 3


def test_the_rest_of_a_body_has_a_limit(tmp_path):
    reader = reader_of(tmp_path, 1000, 100)
    block = b'"%s",' % (b"a" * 4000) * 10

    def feed() -> None:
        for _ in range(200):
            reader.feed(block)

    with pytest.raises(TooLarge):
        feed()
    assert len(reader._skeleton) < bodies.MAX_SKELETON + 50_000


def test_the_digest_is_that_of_the_body(tmp_path):
    raw = b'{"b": "%s"}' % LONG.encode()
    reader, _ = read(tmp_path, raw, [7, 700], digest=True)
    assert reader.digest() == hashlib.sha256(raw).hexdigest()


def test_what_is_given_up_leaves_nothing_and_is_fed_in_vain(tmp_path):
    raw = b'{"b": "%s", "c": "%s"}' % (LONG.encode(), LONG.encode())
    reader = reader_of(tmp_path, 10**6, 100)
    reader.feed(raw[: len(LONG) + 9000])
    reader.short_string("QUJD", 0)
    assert len(files(tmp_path)) == 3
    reader.abort()
    reader.feed(raw[len(LONG) + 9000 :])
    assert files(tmp_path) == []


def test_giving_up_spares_what_was_committed(tmp_path):
    reader, body = read(tmp_path, b'{"b": "%s", "unused": "%s"}' % (LONG.encode(), LONG.encode()), [])
    found = reader.long_string(body["b"])
    assert stored(tmp_path, reader, found) == DATA
    reader.abort()
    assert [path.read_bytes() for path in files(tmp_path)] == [DATA]
