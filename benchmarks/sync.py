"""Finds the offset of dubs of known offset, against other tools and against decoding alone.

    python benchmarks/sync.py [--minutes 60] [--cases late,cut,…] [--peers none] [--dir DIR] [--corpus DIR]

The pairs are made: generated beds, with speech and music of the corpus over them where it is there; the
master as AAC, the dubs as AC-3. Each tool runs in a process of its own and, peers, in an environment of
its own that this script makes; a peer that cannot be installed is left out, with the reason. Said for
each pair: the error in ms, the time, the ratio to decoding both files alone, the memory.

"Decoding alone" is a plain PyAV loop to 16 kHz mono, both files at once in two processes, where Millrace
takes two threads; it is compared in seconds of the clock and in seconds of CPU, the latter being what a
loaded machine leaves comparable. Millrace's own decoder alone, which is quicker than that loop, is said too.

Peers run on the cases of ``--peer-cases``, each for ``--limit`` seconds at most; they know no drift and
no cuts. Of their answers the sign is not held against them. An answer that is off by more than 50 ms, or
one for unrelated files, is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
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

PEER_CASES = ("late", "noise0", "unrelated")

WATCH = """
import json, resource, subprocess, sys, time
began = time.perf_counter()
running = [subprocess.Popen(command) for command in json.loads(sys.argv[1])]
for process in running:
    process.wait()
seconds = time.perf_counter() - began
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print("USAGE", json.dumps([seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]), file=sys.stderr)
"""
"""Runs commands at once from a small process: a child's peak begins with that of who started it."""

DECODE = """
import sys
import av
with av.open(sys.argv[1]) as container:
    resampler = av.AudioResampler(format="flt", layout="mono", rate=16000, frame_size=16000)
    for frame in container.decode(audio=0):
        for block in resampler.resample(frame):
            block.to_ndarray()
"""

DECODE_OURS = """
import sys
from pathlib import Path
from millrace.media.decode import AudioDecoder
with AudioDecoder(Path(sys.argv[1]), rate=16000, block=10.0, fair=True) as decoder:
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
shifts = [v for k, v in found.items() if k.endswith((".m4a", ".mkv")) and isinstance(v, (int, float))]
print("ANSWER", json.dumps(float(max(shifts, key=abs))))
""",
}


@dataclass(frozen=True)
class Run:
    """What a process did: its answer, seconds, seconds of CPU, and the peak of its memory in MB."""

    answer: object
    seconds: float
    cpu: float
    megabytes: float
    error: str = ""


@dataclass(frozen=True)
class Row:
    """A pair: Millrace's run, decoding alone by PyAV and by Millrace, and the peers' runs."""

    case: str
    ours: Run
    plain: Run
    decoder: Run
    error: float | None
    wrong: bool
    peers: dict[str, Run]


def main() -> None:
    """Make the pairs, run everybody, print what came out."""
    options = arguments()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(options.dir or scratch)
        folder.mkdir(parents=True, exist_ok=True)
        master, *dubs = make(["master", *options.cases], folder, options.minutes, options.corpus)
        peers = {name: environment(name, folder) for name in options.peers}
        peers = {name: python for name, python in peers.items() if python is not None}
        print(f"{'pair':<10} {'tool':<20} {'answer':<34} {'clock':>9} {'CPU':>9}", flush=True)
        rows = []
        for case, dub in zip(options.cases, dubs, strict=True):
            chosen = peers if case in options.peer_cases else {}
            rows.append(one(case, master, dub, options.minutes, chosen, options.limit))
        summary(rows)


def make(names: list[str], folder: Path, minutes: float, corpus: Path) -> list[Path]:
    """Make the files that are not there yet, two at a time."""
    paths = [folder / f"{name}-{minutes:g}.{'m4a' if name == 'master' else 'mkv'}" for name in names]
    missing = [(name, path) for name, path in zip(names, paths, strict=True) if not path.exists()]
    if missing:
        print(f"making {len(missing)} files of {minutes:g} minutes …", flush=True)
        sounds = Sounds(minutes * 60, corpus, folder)
        with ProcessPoolExecutor(2) as pool:
            list(pool.map(encode, [path for _, path in missing], [(sounds, name) for name, _ in missing]))
        sounds.forget()
    return paths


def one(case: str, master: Path, dub: Path, minutes: float, peers: dict[str, Path], limit: float) -> Row:
    """Run everybody on one pair and print it."""
    plain = measured(*[[sys.executable, "-c", DECODE, path] for path in (master, dub)])
    decoder = measured(*[[sys.executable, "-c", DECODE_OURS, path] for path in (master, dub)])
    ours = measured([sys.executable, "-m", "millrace.cli", "sync", "--json", master, dub], whole=True)
    error, verdict = judged(case, ours.answer)
    show(case, "millrace", verdict, ours, f"{ours.cpu / plain.cpu:5.2f} x decoding (CPU)")
    row = Row(case, ours, plain, decoder, error, verdict.startswith("WRONG"), {})
    for name, python in peers.items():
        run = measured([python, "-c", PEERS[name], master, dub, minutes * 60 + 120], limit=limit)
        row.peers[name] = run
        show("", name, peer_verdict(case, run), run, f"{run.seconds / ours.seconds:5.2f} x millrace")
    return row


def show(case: str, tool: str, verdict: str, run: Run, ratio: str) -> None:
    """Print a line of the table."""
    print(
        f"{case:<10} {tool:<20} {verdict:<34} {run.seconds:7.1f} s {run.cpu:7.1f} s  {ratio}  "
        f"{run.megabytes:6.0f} MB",
        flush=True,
    )


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


def summary(rows: list[Row]) -> None:
    """Print the figures that the targets are about."""
    errors = [row.error for row in rows if row.error is not None]
    wrong = [row.case for row in rows if row.wrong]
    print(f"\n{len(rows)} pairs, {len(wrong)} wrong answers {' '.join(wrong)}")
    print(f"error at most {max(errors, default=0):.4f} ms (target 1, hoped for 0.1)")
    compared("decoding both alone (target 1.3, hoped for 1.15)", rows, lambda row: row.plain)
    compared("Millrace's own decoder alone", rows, lambda row: row.decoder)
    print(f"memory at most {max(row.ours.megabytes for row in rows):.0f} MB")
    for name in sorted({name for row in rows for name in row.peers}):
        both = [(row.peers[name], row.ours) for row in rows if name in row.peers]
        clock = float(np.median([peer.seconds / ours.seconds for peer, ours in both]))
        cpu = float(np.median([peer.cpu / ours.cpu for peer, ours in both]))
        memory = max(peer.megabytes for peer, _ in both)
        print(f"{name}: {clock:.1f} times as long by the clock, {cpu:.1f} by CPU (median); {memory:.0f} MB")


def compared(what: str, rows: list[Row], other) -> None:
    """Print the ratios of Millrace's times to others'."""
    clock = [row.ours.seconds / other(row).seconds for row in rows]
    cpu = [row.ours.cpu / other(row).cpu for row in rows]
    print(
        f"against {what}: by CPU median {np.median(cpu):.2f}, worst {max(cpu):.2f}; "
        f"by the clock median {np.median(clock):.2f}, worst {max(clock):.2f}"
    )


class Sounds:
    """A master's sound and its dubs. The ingredients lie in files, so that an hour fits into memory."""

    STEP = 10 * RATE

    def __init__(self, seconds: float, corpus: Path, folder: Path) -> None:
        self._count = int(seconds) * RATE
        self._folder = folder
        music = [self._read(path) for path in sorted(corpus.glob("music/*.ogg"))]
        speech = [self._read(path) for path in sorted(corpus.glob("speech/*.ogg"))]
        if not music:
            print(f"no corpus at {corpus}: generated sound only")
        self._keep("bed", self._bed(0, music))
        self._keep("other", self._bed(7, []))
        self._keep("voice0", self._voice(0, speech[0::2]))
        self._keep("voice1", self._voice(1, speech[1::2]))
        sample = self._master(0, min(self._count, 60 * RATE))
        self._level = float(sample.std())

    def forget(self) -> None:
        """Remove the ingredients."""
        for name in ("bed", "other", "voice0", "voice1"):
            self._path(name).unlink(missing_ok=True)

    def _read(self, path: Path) -> np.ndarray:
        sound, _ = read_audio(path, rate=RATE)
        return sound * np.float32(0.08 / max(float(sound.std()), 1e-6))

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.part.f32"

    def _keep(self, name: str, parts: Iterator[np.ndarray]) -> None:
        left = self._count
        with self._path(name).open("wb") as out:
            for part in parts:
                out.write(part[:left].tobytes())
                left -= min(left, len(part))
                if left == 0:
                    break

    def _bed(self, seed: int, music: list[np.ndarray]) -> Iterator[np.ndarray]:
        rng = np.random.default_rng(seed)
        length = 5 * RATE
        for number in range(-(-self._count // (PIECE * RATE))):
            part = bed(PIECE, 1000 * seed + number, RATE)
            for at in range(0, len(part) - length, length) if music else ():
                song = music[rng.integers(len(music))]
                begin = int(rng.integers(len(song) - length))
                part[at : at + length] += song[begin : begin + length] * np.float32(rng.uniform(0.1, 0.6))
            yield part

    def _voice(self, language: int, voices: list[np.ndarray]) -> Iterator[np.ndarray]:
        rng = np.random.default_rng(70 + language)
        while voices:
            yield np.zeros(int(rng.uniform(0.5, 4) * RATE), np.float32)
            yield voices[rng.integers(len(voices))]
        yield np.zeros(self._count, np.float32)

    def _part(self, name: str, start: int, count: int) -> np.ndarray:
        """Return samples of an ingredient, zero outside it."""
        out = np.zeros(count, np.float32)
        low, high = max(0, start), min(self._count, start + count)
        if high > low:
            out[low - start : high - start] = np.fromfile(
                self._path(name), np.float32, high - low, offset=4 * low
            )
        return out

    def _master(self, start: int, count: int) -> np.ndarray:
        return self._part("bed", start, count) + self._part("voice0", start, count)

    def blocks(self, case: str) -> Iterator[np.ndarray]:
        """Yield the sound of a case, the master's among them."""
        late = round(-OFFSETS.get(case, 0.0 if case in ("master", "cut") else -2.25) * RATE)
        ratio = DRIFTS.get(case, 1.0)
        middle, gap = self._count // 2, 12 * RATE if case == "cut" else 0
        total = late + int(self._count * ratio) - gap
        noise = np.random.default_rng(5)
        for at in range(0, total, self.STEP):
            count = min(self.STEP, total - at)
            if ratio != 1.0:
                positions = (np.arange(at, at + count) - late) / ratio
                first = int(np.floor(positions[0]))
                nearby = self._master(first, int(positions[-1]) - first + 2)
                yield np.interp(positions - first, np.arange(len(nearby)), nearby).astype(np.float32)
                continue
            start = at - late
            if gap and start + count > middle:
                before = max(0, middle - start)
                after = self._master(start + before + gap, count - before)
                yield np.concatenate([self._master(start, before), after])
                continue
            yield self._changed(case, start, count, noise)

    def _changed(self, case: str, start: int, count: int, noise: np.random.Generator) -> np.ndarray:
        if case == "unrelated":
            return self._part("other", start, count)
        if case == "language":
            return self._part("bed", start, count) + self._part("voice1", start, count)
        if case == "telephone":
            return telephone(self._master(start - 512, count + 1024))
        sound = self._master(start, count)
        if case.startswith("noise"):
            level = self._level * 10 ** (-float(case.removeprefix("noise")) / 20)
            sound += noise.standard_normal(count, np.float32) * np.float32(level)
        return sound


def telephone(sound: np.ndarray) -> np.ndarray:
    """Keep 300 to 3400 Hz, by a linear-phase filter; 512 samples are lost on either side."""
    n = np.arange(-512, 513)
    kernel = 2 * 3400 / RATE * np.sinc(2 * 3400 / RATE * n) - 2 * 300 / RATE * np.sinc(2 * 300 / RATE * n)
    size = 1 << (len(sound) + 1024).bit_length()
    filtered = np.fft.irfft(np.fft.rfft(sound, size) * np.fft.rfft(kernel * np.hamming(len(n)), size), size)
    return filtered[1024 : len(sound)].astype(np.float32)


def encode(path: Path, what: tuple[Sounds, str]) -> None:
    """Write a case as 48 kHz stereo, as a film's sound comes: AAC in MP4, or AC-3 in Matroska."""
    sounds, case = what
    codec, size, options = (
        ("aac", 1024, {"aac_coder": "fast"}) if path.suffix == ".m4a" else ("ac3", 1536, {})
    )
    aside = path.with_suffix(f".part{path.suffix}")
    at, rest = 0, np.zeros(0, np.float32)
    with av.open(str(aside), "w") as container:
        stream = container.add_stream(codec, rate=RATE, layout="stereo", options=options)
        stream.bit_rate = 192_000
        for block in (*sounds.blocks(case), None):
            pending = rest if block is None else np.concatenate([rest, np.clip(block, -1, 1)])
            whole = len(pending) if block is None else len(pending) // size * size
            for begin in range(0, whole, size):
                part = pending[begin : begin + size]
                frame = av.AudioFrame.from_ndarray(np.stack([part, part]), format="fltp", layout="stereo")
                frame.sample_rate, frame.pts = RATE, at
                at += len(part)
                container.mux(stream.encode(frame))
            rest = pending[whole:]
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


def measured(*commands: list, whole: bool = False, limit: float | None = None) -> Run:
    """Run commands at once; the answer is the output as JSON (``whole``), or the line that says ANSWER.

    What takes longer than ``limit`` seconds is ended, with all its processes.
    """
    words = [sys.executable, "-c", WATCH, json.dumps([[str(word) for word in c] for c in commands])]
    environ = {**os.environ, "PYTHONWARNINGS": "ignore"}
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ, start_new_session=True
    ) as process:
        try:
            text, said = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return Run(None, limit or 0.0, limit or 0.0, 0.0, f"more than {limit:g} s")
    said, _, usage = said.rpartition("USAGE ")
    seconds, cpu, megabytes = json.loads(usage)
    if not whole:
        lines = [line for line in text.splitlines() if line.startswith("ANSWER ")]
        text = lines[-1].removeprefix("ANSWER ") if lines else ""
    try:
        answer = json.loads(text)
    except json.JSONDecodeError:
        answer = None
    return Run(answer, seconds, cpu, megabytes, " ".join(said.split()))


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60.0, help="length of the pairs")
    parser.add_argument("--cases", type=_list(CASES), default=list(CASES), help=f"of: {', '.join(CASES)}")
    parser.add_argument("--peers", type=_list(tuple(PEERS)), default=list(PEERS), help="or none")
    parser.add_argument(
        "--peer-cases",
        type=_list(CASES),
        default=list(PEER_CASES),
        help=f"the cases on which peers run too; default: {','.join(PEER_CASES)}",
    )
    parser.add_argument("--limit", type=float, default=240.0, help="seconds that a peer may take for a pair")
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
