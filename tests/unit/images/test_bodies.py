"""A JSON body is read piece by piece: long strings land in files, decoded, wherever the pieces end."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.errors import InvalidRequest, TooLarge
from millrace.workloads.images import bodies
from millrace.workloads.images.bodies import Base64File, BodyReader

DATA = hashlib.shake_256(b"seed").digest(20_000)
LONG = base64.b64encode(DATA).decode()


def read(folder, raw: bytes, cuts: list[int], **options):
    reader = BodyReader(folder, options.pop("limit", 10**6), options.pop("most", 100), **options)
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
    assert found.path.read_bytes() == DATA


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
        assert found.path.read_bytes() == DATA


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
    sink = Base64File(tmp_path / "x", 1000)
    sink.feed(text.encode())
    assert error.lower() in sink.close().error.lower()


def test_more_than_the_limit_is_counted_and_not_kept(tmp_path):
    raw = b'{"b": "%s"}' % LONG.encode()
    reader, body = read(tmp_path, raw, [3000, 9000], limit=5000)
    found = reader.long_string(body["b"])
    assert found is not None
    assert (found.oversize, found.size, found.path.stat().st_size) == (True, len(DATA), 0)


def test_a_token_cannot_be_guessed_and_names_only_what_is_there(tmp_path):
    reader, body = read(tmp_path, b'{"b": "long-string-0", "c": "%s"}' % LONG.encode(), [])
    assert reader.long_string(body["b"]) is None
    assert reader.long_string(body["c"]) is not None


def test_more_long_strings_than_images_are_refused_before_they_are_written(tmp_path):
    raw = json.dumps([LONG] * 4).encode()
    with pytest.raises(InvalidRequest, match="Maximum 3 images per batch"):
        read(tmp_path, raw, [], most=3)
    assert len(list(tmp_path.iterdir())) == 3


def test_the_rest_of_a_body_has_a_limit(tmp_path):
    reader = BodyReader(tmp_path, 1000, 100)
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
