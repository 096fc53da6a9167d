"""How well and how fast the built-in separator works, on mixes made from real speech and real music.

Each mix is read speech in the centre of instrumental music, at the loudness ratios asked for. Prints
the voice's SI-SDR (Le Roux et al., 2019) for taking the mid channel as it is, for REPET-SIM (Rafii and
Pardo, 2012; as it is usually run, on the mid channel) and for ``dsp``, in stereo and in mono, and the
real-time factor of separating alone and of the whole stage with decoding and two MP3 encoders.

Needs recordings: ``--speech`` and ``--music``, directories of audio files.

    python benchmarks/separation.py --speech ../shared/corpus/speech --music ../shared/corpus/music
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
import wave
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from millrace.engine.context import StageContext
from millrace.media.decode import read_audio
from millrace.workloads.transcripts.separation import separate
from millrace.workloads.transcripts.separators import Survey
from millrace.workloads.transcripts.separators.dsp import DspSeparator

Samples = NDArray[np.float32]

RATE = 44100


def si_sdr(estimate: Samples, reference: Samples) -> float:
    """Return the scale-invariant signal-to-distortion ratio, in dB."""
    estimate, reference = estimate - estimate.mean(), reference - reference.mean()
    target = (estimate @ reference) / (reference @ reference) * reference
    noise = estimate - target
    return float(10 * np.log10((target @ target) / (noise @ noise)))


def mixes(
    speech: Path, music: Path, ratios: list[float], seconds: float
) -> Iterator[tuple[str, Samples, Samples]]:
    """Yield (name, voice, mix): all speech in a row over each piece of music."""
    spoken = [path for path in sorted(speech.iterdir()) if path.suffix in (".wav", ".ogg", ".flac")]
    voice = np.concatenate([read_audio(path, rate=RATE)[0] for path in spoken])[: round(seconds * RATE)]
    for path in sorted(music.iterdir()):
        if not path.stem.startswith("instrumental"):
            continue
        bed = read_audio(path, rate=RATE, channels=2)[0]
        length = min(len(voice), len(bed))
        mine, around = voice[:length], bed[:length]
        equal = np.sqrt((mine @ mine) / (around.mean(axis=1) @ around.mean(axis=1)))
        for ratio in ratios:
            gain = np.float32(equal * 10 ** (-ratio / 20))
            yield f"{path.stem} at {ratio:+g} dB", mine, mine[:, None] + around * gain


def dsp(mix: Samples) -> Samples:
    """Return the voice that the built-in separator finds, as one channel."""
    side, mid = (mix[:, 0] - mix[:, 1]) / 2, mix.mean(axis=1)
    survey = Survey(RATE, len(mix), 1.0, 0.0, 1.0, float(np.sqrt((side @ side) / (mid @ mid))))
    blocks = (mix[n : n + 4 * RATE] for n in range(0, len(mix), 4 * RATE))
    pairs = DspSeparator().vocals(blocks, survey, lambda fraction: None)
    return np.concatenate([voice for _, voice in pairs]).mean(axis=1)


def repet_sim(mix: Samples, *, size: int = 2048, similar: int = 100, apart: float = 1.0) -> Samples:
    """Return the voice that REPET-SIM finds in the mid channel.

    A frame's background is the median of the frames most similar to it (cosine), at least ``apart``
    seconds from each other; below 100 Hz all is background.
    """
    hop = size // 4
    window = np.hanning(size + 1)[:-1].astype(np.float32)
    mid = np.pad(mix.mean(axis=1), (size, size))
    frames = np.lib.stride_tricks.sliding_window_view(mid, size)[::hop] * window
    spectra = np.fft.rfft(frames, axis=1)
    level = np.abs(spectra).astype(np.float32)
    unit = level / np.maximum(np.linalg.norm(level, axis=1, keepdims=True), 1e-9)
    distance = max(1, round(apart * RATE / hop))
    voice = np.empty_like(spectra)
    low = round(100 * size / RATE)
    for n in range(len(level)):
        likeness = unit @ unit[n]
        chosen: list[int] = []
        free = likeness >= 0
        for candidate in np.argsort(-likeness):
            if len(chosen) == similar:
                break
            if free[candidate]:
                chosen.append(int(candidate))
                free[max(0, candidate - distance + 1) : candidate + distance] = False
        background = np.minimum(level[n], np.median(level[chosen], axis=0))
        mask = 1 - background / np.maximum(level[n], 1e-9)
        mask[:low] = 0
        voice[n] = spectra[n] * mask
    out = np.zeros(len(mid), np.float32)
    for n, frame in enumerate(np.fft.irfft(voice, size, axis=1)):
        out[n * hop : n * hop + size] += frame * window / 1.5
    return out[size : size + len(mix)]


METHODS: dict[str, Callable[[Samples], Samples]] = {
    "mid channel": lambda mix: mix.mean(axis=1),
    "REPET-SIM": repet_sim,
    "dsp": dsp,
}


def quality(speech: Path, music: Path, ratios: list[float], seconds: float) -> None:
    """Print the SI-SDR of each method on each mix."""
    print(f"{'SI-SDR of the voice, dB':<40}" + "".join(f"{name:>14}" for name in METHODS))
    taken: dict[str, list[float]] = {name: [] for name in METHODS}
    for channels in ("stereo", "mono"):
        scores: dict[str, list[float]] = {name: [] for name in METHODS}
        for name, voice, mix in mixes(speech, music, ratios, seconds):
            heard = mix if channels == "stereo" else np.repeat(mix.mean(axis=1, keepdims=True), 2, axis=1)
            for method, separator in METHODS.items():
                started = time.perf_counter()
                scores[method].append(si_sdr(separator(heard.astype(np.float32)), voice))
                taken[method].append((time.perf_counter() - started) / (len(mix) / RATE))
            row = "".join(f"{each[-1]:14.1f}" for each in scores.values())
            print(f"{f'{name}, {channels}':<40}{row}", flush=True)
        means = "".join(f"{statistics.mean(each):14.1f}" for each in scores.values())
        print(f"{f'mean, {channels}':<40}{means}")
    print(
        f"{'real-time factor':<40}" + "".join(f"{statistics.median(each):14.4f}" for each in taken.values())
    )


def whole_stage(speech: Path, music: Path, slots: int) -> None:
    """Print the real-time factor of the stage as the server runs it."""
    _, _, mix = next(mixes(speech, music, [0.0], 60.0))
    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "mix.wav"
        with wave.open(str(source), "wb") as out:
            out.setnchannels(2)
            out.setsampwidth(2)
            out.setframerate(RATE)
            out.writeframes((np.clip(mix, -1, 1) * 32767).astype("<i2").tobytes())
        ctx = StageContext(
            job="b",
            idx=0,
            name=source.name,
            stage="demucs",
            input={},
            workdir=Path(name) / "work",
            options={"tasks": {"asr": False}},
            slots=slots,
        )
        started = time.perf_counter()
        separate(ctx, source)
        factor = (time.perf_counter() - started) / (len(mix) / RATE)
    print(f"{f'real-time factor of the whole stage, {slots} slot(s)':<54}{factor:.4f}")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    corpus = Path(__file__).resolve().parents[2] / "shared" / "corpus"
    parser.add_argument("--speech", type=Path, default=corpus / "speech")
    parser.add_argument("--music", type=Path, default=corpus / "music")
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.0, 6.0], help="voice over music, dB")
    parser.add_argument("--seconds", type=float, default=60.0, help="how much of each mix is used")
    options = parser.parse_args()
    if not (options.speech.is_dir() and options.music.is_dir()):
        sys.exit(f"no recordings at {options.speech} and {options.music}: name others")
    quality(options.speech, options.music, options.ratios, options.seconds)
    for slots in (1, 2):
        whole_stage(options.speech, options.music, slots)


if __name__ == "__main__":
    main()
