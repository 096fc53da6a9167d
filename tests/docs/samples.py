"""The files that the documentation's examples speak of, made on the spot."""

from __future__ import annotations

import json
import shutil
from importlib.resources import files
from pathlib import Path

from millrace.workloads.images.demo import draw
from millrace.workloads.sync.demo import _scene, _write
from millrace.workloads.tracks.demo import write_sample
from tests.unit.documents.samples import docx, paragraph, pdf, scan, xlsx


def write_media(root: Path) -> None:
    """Fill a media root as the examples have it: a library, recordings, a master with its dubs."""
    for name in ("tv/Show/S01E01.mkv", "tv/x.mkv", "tv/Show/S01E02.mp4", "kids/Film.mkv", "movies/Film.mkv"):
        write_sample(root / name, ("jpn", "eng"))
    write_inputs(root)
    (root / "recordings").mkdir()
    for name in ("weather", "meeting"):
        shutil.copyfile(_speech(name), root / "recordings" / f"{name}.ogg")


def write_inputs(folder: Path) -> None:
    """Write the files that are uploaded, or named on the command line, into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("talk.mp3", "a.mp3", "b.mkv"):
        # What a file holds decides how it is read, not what it is called.
        shutil.copyfile(_speech("weather"), folder / name)
    interviews = folder / "interviews"
    interviews.mkdir()
    shutil.copyfile(_speech("weather"), interviews / "first.ogg")
    pictures = draw(folder)
    for name in ("photo.jpg", "harbour.jpg"):
        shutil.copyfile(pictures[0], folder / name)
    shutil.copyfile(pictures[2], folder / "quay.png")
    holiday = folder / "holiday"
    holiday.mkdir()
    shutil.copyfile(pictures[0], holiday / "beach.jpg")
    for path in pictures:
        path.unlink()
    pdf(folder / "contract.pdf", "STRICTLY CONFIDENTIAL\nThis agreement is made between the parties.")
    xlsx(folder / "payroll.xlsx", {"Salaries": [["Name", "Salary"], ["Maria Gomez", "52,000 EUR"]]})
    docx(folder / "letter.docx", paragraph("Dear Sir, the mill is open every day from ten to six."))
    scans = folder / "scans"
    scans.mkdir()
    scan(folder / "scan.pdf", "INTERNAL USE ONLY")
    shutil.copyfile(folder / "scan.pdf", scans / "one.pdf")
    labels = {"contract.pdf": "Confidential", "letter.docx": "Public"}
    rows = [json.dumps({"path": path, "label": label}) for path, label in labels.items()]
    (folder / "labels.jsonl").write_text("\n".join(rows), encoding="utf-8")
    sound = _scene(1)
    for name in ("master.mov", "film.mov", "film_fr.mov", "film_de.mov", "dub.mov", "dub.wav"):
        _write(folder / name, sound[: 30 * 24000])


def _speech(name: str) -> Path:
    return Path(str(files("millrace.workloads.transcripts") / "samples" / f"{name}.ogg"))
