"""Offsets in the units an editor works in: frames and SMPTE timecode (SMPTE ST 12-1)."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class FrameRate:
    """A frame rate by its usual name. ``drop`` says that its timecode is counted drop-frame."""

    name: str
    rate: Fraction
    drop: bool = False

    @property
    def nominal(self) -> int:
        """Frame numbers in a second of timecode."""
        return round(self.rate)


FRAME_RATES = (
    FrameRate("23.976", Fraction(24000, 1001)),
    FrameRate("24", Fraction(24)),
    FrameRate("25", Fraction(25)),
    FrameRate("29.97", Fraction(30000, 1001), drop=True),
    FrameRate("30", Fraction(30)),
)


def frames(seconds: float, rate: FrameRate) -> int:
    """Return the nearest whole number of frames, signed."""
    return round(Fraction(seconds) * rate.rate)


def timecode(seconds: float, rate: FrameRate) -> str:
    """Return ``[-]HH:MM:SS:FF``, or with ``;`` before the frames in drop-frame counting.

    Drop-frame skips the numbers 0 and 1 in each minute that is not a multiple of ten, so that the
    display keeps pace with the clock at 29.97.
    """
    number = frames(seconds, rate)
    sign, number = ("-", -number) if number < 0 else ("", number)
    if rate.drop:
        tens, rest = divmod(number, 17982)
        number += 18 * tens + (2 * ((rest - 2) // 1798) if rest >= 2 else 0)
    nominal = rate.nominal
    second, frame = divmod(number, nominal)
    minute, second = divmod(second, 60)
    hour, minute = divmod(minute, 60)
    return f"{sign}{hour:02d}:{minute:02d}:{second:02d}{';' if rate.drop else ':'}{frame:02d}"


def in_all_rates(seconds: float) -> dict[str, dict[str, int | str]]:
    """Return frames and timecode at each usual rate."""
    return {
        rate.name: {"frames": frames(seconds, rate), "timecode": timecode(seconds, rate)}
        for rate in FRAME_RATES
    }
