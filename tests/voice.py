"""A voice made by rule: a pulse train through moving formants, enough for a speech detector to hear it.

It says nothing: what a recogniser makes of it is never asserted.
"""

import numpy as np

VOWELS = {
    "a": (730, 1090, 2440),
    "e": (530, 1840, 2480),
    "i": (270, 2290, 3010),
    "o": (570, 840, 2410),
    "u": (300, 870, 2240),
}


def syllable(vowel: str, seconds: float, pitch: float, rate: int = 16000) -> np.ndarray:
    """One vowel with a falling pitch and soft edges, float32."""
    n = round(seconds * rate)
    f0 = pitch * np.linspace(1.08, 0.88, n) * (1 + 0.01 * np.sin(2 * np.pi * 5 * np.arange(n) / rate))
    phase = np.cumsum(f0 / rate)
    pulses = np.diff(np.floor(phase), prepend=0.0)
    breath = 0.05 * np.random.default_rng(n).normal(size=n)
    source = np.fft.rfft(pulses + breath, 2 * n)
    z = np.exp(-2j * np.pi * np.fft.rfftfreq(2 * n))
    source /= 1 - 0.96 * z
    for formant, width in zip(VOWELS[vowel], (60, 90, 120), strict=True):
        r = np.exp(-np.pi * width / rate)
        source /= 1 - 2 * r * np.cos(2 * np.pi * formant / rate) * z + r * r * z * z
    edge = np.minimum(1, np.minimum(np.arange(n), np.arange(n)[::-1]) / (0.03 * rate))
    voiced = np.fft.irfft(source)[:n] * edge
    return (0.4 * voiced / np.abs(voiced).max()).astype(np.float32)


def speak(vowels: str, *, pitch: float = 120.0, rate: int = 16000, pause: float = 0.5) -> np.ndarray:
    """Say vowels; a space is a pause of ``pause`` seconds. A little noise lies under all of it."""
    rng = np.random.default_rng(len(vowels))
    parts = []
    for n, letter in enumerate(vowels):
        if letter == " ":
            parts.append(np.zeros(round(pause * rate), np.float32))
        else:
            burst = rng.normal(0, 0.03, round(0.03 * rate)).astype(np.float32)
            parts += [
                burst,
                syllable(letter, 0.16 + 0.05 * (n % 3), pitch * (1 + 0.1 * ((n * 7) % 5 - 2) / 2), rate),
            ]
    x = np.concatenate(parts)
    return x + rng.normal(0, 0.0005, len(x)).astype(np.float32)
