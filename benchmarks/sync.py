"""Finds the offset of dubs of known offset, against other tools and against decoding alone.

    python benchmarks/sync.py [--minutes 60] [--cases late,cut,…] [--peers none] [--dir DIR] [--corpus DIR]

The pairs are made: generated beds, with speech and music of the corpus over them where it is there,
encoded as AAC. Each tool runs in a process of its own and, peers, in an environment of its own that
this script makes; a peer that cannot be installed is left out, with the reason. Said for each pair:
the error in ms, the time, the ratio to decoding both files alone, the memory.

Peers know no drift and no cuts: those pairs are theirs only for time and memory. Of their answers the
sign is not held against them. An answer that is off by more than 50 ms, or one for unrelated files, is
wrong.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.unit.sync.sounds import bed

from millrace.media.decode import read_audio

RATE = 48000
WRONG_MS = 50.0
PIECE = 60
CASES = (
    "late", "same", "early", "far", "noise10", "noise0", "telephone", "language",
    "drift0.1", "pal", "drift0.4", "cut", "unrelated",
)  # fmt: skip
DRIFTS = {"drift0.1": 1.001, "pal": 24 / 25, "drift0.4": 1.004}
OFFSETS = {"late": -15.023, "same": 0.0, "early": 0.5, "far": 37.4}

WATCH = """
import json, resource, subprocess, sys, time
began = time.perf_counter()
subprocess.run(sys.argv[1:])
seconds = time.perf_counter() - began
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print("USAGE", json.dumps([seconds, peak / 1024]), file=sys.stderr)
"""
"""Runs a command from a small process: a child's peak begins with that of who started it."""

DECODE = """
import sys
from pathlib import Path
from millrace.media.decode import AudioDecoder
for path in sys.argv[1:]:
    with AudioDecoder(Path(path), rate=16000, block=10.0) as decoder:
        for _ in decoder:
            pass
"""

PEERS = {
    "audio-offset-finder": """
import json, sys
from audio_offset_finder.audio_offset_finder import find_offset_between_files
found = find_offset_between_files(sys.argv[1], sys.argv[2], trim=float(sys.argv[3]))
print("ANSWER", json.dumps(float(found["time_offset"])))
""",
    "syncstart": """
import json, sys
one, other, seconds = sys.argv[1:]
sys.argv[1:] = []  # it reads them at import
from syncstart import file_offset
file, offset = file_offset(in1=one, in2=other, begin=0, take=int(float(seconds)), video=False, crop=False,
                           quiet=True, show=False, normalize=False, denoise=False, lowpass=0)
print("ANSWER", json.dumps(float(offset)))
""",
    "audalign": """
import json, sys
import audalign
recognizer = audalign.CorrelationRecognizer()
recognizer.config.multiprocessing = False
found = audalign.align_files(sys.argv[1], sys.argv[2], recognizer=recognizer)
shifts = [v for k, v in found.items() if k.endswith((".m4a", ".wav")) and isinstance(v, (int, float))]
print("ANSWER", json.dumps(float(max(shifts, key=abs))))
""",
}


@dataclass(frozen=True)
class Run:
    """What a process did: its answer, seconds, and the peak of its memory in MB."""

    answer: object
    seconds: float
    megabytes: float
    error: str = ""


def main() -> None:
    """Make the pairs, run everybody, print what came out."""
    options = arguments()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(options.dir or scratch)
        folder.mkdir(parents=True, exist_ok=True)
        sounds = Sounds(options.minutes * 60, options.corpus)
        peers = {name: environment(name, folder) for name in options.peers}
        peers = {name: python for name, python in peers.items() if python is not None}
        master = folder / f"master-{options.minutes:g}.m4a"
        if not master.exists():
            encode(master, sounds.master())
        errors, rows = [], []
        for case in options.cases:
            dub = folder / f"{case}-{options.minutes:g}.m4a"
            if not dub.exists():
                encode(dub, sounds.dub(case))
            row = one(case, master, dub, options.minutes, peers)
            rows.append(row)
            errors += row["errors"]
        summary(rows, errors, peers)


def one(case: str, master: Path, dub: Path, minutes: float, peers: dict[str, Path]) -> dict:
    """Run everybody on one pair and print it."""
    decode = measured([sys.executable, "-c", DECODE, master, dub])
    command = [sys.executable, "-m", "millrace.cli", "sync", "--json", master, dub]
    ours = measured(command, whole=True)
    error, verdict = judged(case, ours.answer)
    print(
        f"{case:<10} {'millrace':<20} {verdict:<34} {ours.seconds:7.1f} s  "
        f"{ours.seconds / decode.seconds:5.2f} x decoding  {ours.megabytes:6.0f} MB",
        flush=True,
    )
    row = {"case": case, "ours": ours, "decode": decode, "wrong": verdict.startswith("WRONG"), "peers": {}}
    row["errors"] = [error] if error is not None else []
    for name, python in peers.items():
        script = PEERS[name]
        run = measured([python, "-c", script, master, dub, str(minutes * 60 + 120)])
        row["peers"][name] = run
        print(
            f"{'':<10} {name:<20} {peer_verdict(case, run):<34} {run.seconds:7.1f} s  "
            f"{run.seconds / ours.seconds:5.2f} x millrace  {run.megabytes:6.0f} MB",
            flush=True,
        )
    return row


def judged(case: str, found: dict | None) -> tuple[float | None, str]:
    """Return the error in ms (None where there is no number to compare) and what to say of an answer."""
    if found is None:
        return None, "WRONG: no answer"
    offset, status = found["offset_seconds"], found["status"]
    if case == "unrelated":
        return None, "right: no match" if offset is None else f"WRONG: {offset:.3f} s"
    if offset is None:
        return None, "WRONG: no match"
    if case == "cut":
        wanted = [0.0, 12.0]
        got = [segment["offset_seconds"] for segment in found["segments"]]
        if status != "cuts" or len(got) != 2:
            return None, f"WRONG: {status} {got}"
        error = max(abs(a - b) for a, b in zip(got, wanted, strict=True)) * 1000
    elif case in DRIFTS:
        ppm = found["drift"]["ppm"] - (DRIFTS[case] - 1) * 1e6
        span = found["segments"][-1]["end"]
        error = max(abs(offset + 2.25), abs(offset + 2.25 - ppm * 1e-6 * span)) * 1000
    else:
        error = abs(offset - OFFSETS.get(case, -2.25)) * 1000
    return error, f"{'WRONG' if error > WRONG_MS else 'right'}: {error:.4f} ms off"


def peer_verdict(case: str, run: Run) -> str:
    """Say what a peer's answer is worth."""
    if not isinstance(run.answer, float):
        return f"failed: {run.error[-24:]}"
    if case in DRIFTS or case == "cut":
        return f"says {run.answer:.3f} s"
    if case == "unrelated":
        return f"WRONG: says {run.answer:.3f} s"
    error = abs(abs(run.answer) - abs(OFFSETS.get(case, -2.25))) * 1000
    return f"{'WRONG' if error > WRONG_MS else 'right'}: {error:.4f} ms off"


def summary(rows: list[dict], errors: list[float], peers: dict[str, Path]) -> None:
    """Print the figures that the targets are about."""
    wrong = sum(row["wrong"] for row in rows)
    ratio = [row["ours"].seconds / row["decode"].seconds for row in rows]
    print(
        f"\n{len(rows)} pairs, {wrong} wrong answers; "
        f"error at most {max(errors, default=0):.4f} ms (target 1)"
    )
    print(f"time against decoding both: median {np.median(ratio):.2f}, worst {max(ratio):.2f} (target 1.3)")
    print(f"memory at most {max(row['ours'].megabytes for row in rows):.0f} MB")
    for name in peers:
        times = [row["peers"][name].seconds / row["ours"].seconds for row in rows]
        print(f"{name}: takes {np.median(times):.1f} times as long (median)")


class Sounds:
    """A master's sound and its dubs, made piece by piece so that an hour fits."""

    def __init__(self, seconds: float, corpus: Path) -> None:
        self._seconds = int(seconds)
        self._music = [self._read(path) for path in sorted(corpus.glob("music/*.ogg"))]
        speech = [self._read(path) for path in sorted(corpus.glob("speech/*.ogg"))]
        self._voices = [speech[0::2], speech[1::2]]
        if not self._music:
            print(f"no corpus at {corpus}: generated sound only")

    def _read(self, path: Path) -> np.ndarray:
        sound, _ = read_audio(path, rate=RATE)
        return sound * np.float32(0.08 / max(float(sound.std()), 1e-6))

    def master(self) -> np.ndarray:
        """The bed with the first language over it."""
        return self._bed(0) + self._voice(0)

    def _bed(self, seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        parts = []
        for number in range(-(-self._seconds // PIECE)):
            part = bed(PIECE, 1000 * seed + number, RATE)
            if self._music and seed == 0:
                song = self._music[rng.integers(len(self._music))]
                length = 5 * RATE
                for at in range(0, len(part) - length, length):
                    begin = int(rng.integers(len(song) - length))
                    part[at : at + length] += song[begin : begin + length] * np.float32(rng.uniform(0.1, 0.6))
            parts.append(part)
        return np.concatenate(parts)[: self._seconds * RATE]

    def _voice(self, language: int) -> np.ndarray:
        out = np.zeros(self._seconds * RATE, np.float32)
        rng = np.random.default_rng(70 + language)
        voices = self._voices[language]
        at = 0
        while voices and at < len(out):
            at += int(rng.uniform(0.5, 4) * RATE)
            said = voices[rng.integers(len(voices))][: max(0, len(out) - at)]
            out[at : at + len(said)] += said
            at += len(said)
        return out

    def dub(self, case: str) -> np.ndarray:
        """The sound of a case."""
        if case == "unrelated":
            return self._bed(7)
        sound = self._bed(0) + self._voice(1) if case == "language" else self.master()
        if case in DRIFTS:
            at = np.arange(int(len(sound) * DRIFTS[case])) / DRIFTS[case]
            sound = np.interp(at, np.arange(len(sound)), sound).astype(np.float32)
        if case.startswith("noise"):
            level = float(sound.std()) * 10 ** (-float(case.removeprefix("noise")) / 20)
            noise = np.random.default_rng(5).standard_normal(len(sound), np.float32)
            sound = sound + noise * np.float32(level)
        if case == "telephone":
            sound = telephone(sound)
        if case == "cut":
            middle = len(sound) // 2
            return np.concatenate([sound[:middle], sound[middle + 12 * RATE :]])
        late = round(-OFFSETS.get(case, -2.25) * RATE)
        return np.concatenate([np.zeros(late, np.float32), sound]) if late > 0 else sound[-late:]


def telephone(sound: np.ndarray) -> np.ndarray:
    """Keep 300 to 3400 Hz, by a linear-phase filter."""
    n = np.arange(-512, 513)
    kernel = 2 * 3400 / RATE * np.sinc(2 * 3400 / RATE * n) - 2 * 300 / RATE * np.sinc(2 * 300 / RATE * n)
    kernel = (kernel * np.hamming(len(n))).astype(np.float32)
    step = 10 * RATE
    padded = np.pad(sound, 512)
    parts = [np.convolve(padded[at : at + step + 1024], kernel, "valid") for at in range(0, len(sound), step)]
    return np.concatenate(parts)[: len(sound)].astype(np.float32)


def encode(path: Path, sound: np.ndarray) -> None:
    """Write AAC, 48 kHz stereo, as a film's sound comes."""
    aside = path.with_suffix(".part.m4a")
    with av.open(str(aside), "w") as container:
        stream = container.add_stream("aac", rate=RATE, layout="stereo")
        stream.bit_rate = 160_000
        for at in range(0, len(sound), 1024):
            part = np.clip(sound[at : at + 1024], -1, 1)
            frame = av.AudioFrame.from_ndarray(np.stack([part, part]), format="fltp", layout="stereo")
            frame.sample_rate, frame.pts = RATE, at
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    aside.rename(path)


def environment(name: str, folder: Path) -> Path | None:
    """Return the interpreter of an environment with a peer in it, made if need be; None if that fails."""
    home = folder / "peers" / name
    python = home / "bin" / "python"
    if not (home / "ready").exists():
        print(f"installing {name} …", flush=True)
        venv.create(home, with_pip=True)
        done = subprocess.run(
            [python, "-m", "pip", "install", "-q", name], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            print(f"without {name}, which cannot be installed: {reason}")
            return None
        (home / "ready").touch()
    return python


def measured(command: list, *, whole: bool = False) -> Run:
    """Run a command; its answer is its output as JSON (``whole``), or the line that says ANSWER."""
    words = [sys.executable, "-c", WATCH, *map(str, command)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    text, said = done.stdout, done.stderr
    said, _, usage = said.rpartition("USAGE ")
    seconds, megabytes = json.loads(usage)
    if not whole:
        lines = [line for line in text.splitlines() if line.startswith("ANSWER ")]
        text = lines[-1].removeprefix("ANSWER ") if lines else ""
    try:
        answer = json.loads(text)
    except json.JSONDecodeError:
        answer = None
    return Run(answer, seconds, megabytes, " ".join(said.split()))


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60.0, help="length of the pairs")
    parser.add_argument("--cases", type=_list(CASES), default=list(CASES), help=f"of: {', '.join(CASES)}")
    parser.add_argument("--peers", type=_list(tuple(PEERS)), default=list(PEERS), help="or none")
    parser.add_argument("--dir", help="keep the pairs and environments there, and use them again")
    parser.add_argument("--corpus", type=Path, default=Path(__file__).parents[2] / "shared" / "corpus")
    return parser.parse_args()


def _list(known: tuple[str, ...]):
    def parse(text: str) -> list[str]:
        if text == "none":
            return []
        words = text.split(",")
        for word in words:
            if word not in known:
                raise argparse.ArgumentTypeError(f"{word!r} is none of {', '.join(known)}")
        return words

    return parse


if __name__ == "__main__":
    main()
