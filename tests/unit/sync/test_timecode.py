"""Frames and SMPTE timecode, drop-frame included."""

from fractions import Fraction

import pytest

from millrace.workloads.sync.timecode import FRAME_RATES, frames, timecode

RATES = {rate.name: rate for rate in FRAME_RATES}


@pytest.mark.parametrize(
    ("seconds", "rate", "number", "code"),
    [
        (0.0, "25", 0, "00:00:00:00"),
        (-15.023, "25", -376, "-00:00:15:01"),
        (3723.5, "24", 89364, "01:02:03:12"),
        (1001 / 24000, "23.976", 1, "00:00:00:01"),
        (0.5, "30", 15, "00:00:00:15"),
    ],
)
def test_offsets_are_told_in_frames(seconds, rate, number, code):
    assert frames(seconds, RATES[rate]) == number
    assert timecode(seconds, RATES[rate]) == code


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (1799, "00:00:59;29"),
        (1800, "00:01:00;02"),
        (3597, "00:01:59;29"),
        (3598, "00:02:00;02"),
        (17981, "00:09:59;29"),
        (17982, "00:10:00;00"),
        (107892, "01:00:00;00"),
    ],
)
def test_drop_frame_counting_skips_two_numbers_a_minute_but_the_tenth(number, code):
    seconds = float(Fraction(number) * Fraction(1001, 30000))
    assert timecode(seconds, RATES["29.97"]) == code
