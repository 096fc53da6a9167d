"""Frames between the server and its workers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.engine import wire

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.lists(values, max_size=5), st.integers(1, 50))
def test_messages_come_out_as_they_went_in_however_the_stream_is_cut(
    messages: list[object], step: int
) -> None:
    stream = b"".join(wire.encode(message) for message in messages)
    reader = wire.FrameReader()
    received = [
        message
        for start in range(0, len(stream), step)
        for message in reader.feed(stream[start : start + step])
    ]
    assert received == messages


def test_a_frame_that_claims_too_much_is_refused_before_it_is_read() -> None:
    with pytest.raises(ValueError, match="over the limit"):
        wire.FrameReader().feed(wire.HEADER.pack(wire.MAX_FRAME + 1))


def test_what_is_not_json_is_refused() -> None:
    with pytest.raises(ValueError, match=r"."):
        wire.FrameReader().feed(wire.HEADER.pack(3) + b"abc")
