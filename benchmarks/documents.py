"""How right and how fast documents are judged. Each part prints a table; peers get their own environments.

    python benchmarks/documents.py detect            precision and recall by type
    python benchmarks/documents.py public            false alarms on the public PDFs of the corpus
    python benchmarks/documents.py unsafe            passages written apart from the rules
    python benchmarks/documents.py policy            categories on a generated labelled set, and calibration
    python benchmarks/documents.py speed --pages 2000 --peer-pages 60
    python benchmarks/documents.py --labels FILE     write the generated labelled set and stop

``speed`` sends text PDFs of about 3,000 characters a page through a real server, until every result and
marked copy is saved, and compares with Presidio + pdfminer and with markitdown on fewer of the same pages
(two processes each) and with a bare pypdfium2 loop. A peer that cannot be installed is skipped
with the reason.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from millrace.workloads.documents import evaluate
from millrace.workloads.documents.detectors import detect
from millrace.workloads.documents.detectors.identifiers import luhn
from millrace.workloads.documents.document import Document, Page
from millrace.workloads.documents.extract import extract
from millrace.workloads.documents.pipeline import find
from millrace.workloads.documents.policy import decide, load

CORPUS = Path(__file__).resolve().parent.parent.parent / "shared" / "corpus" / "documents"
FILLER = [
    "The",
    "mill",
    "stands",
    "by",
    "the",
    "river",
    "and",
    "has",
    "ground",
    "corn",
    "for",
    "three",
    "hundred",
    "years.",
    "Its",
    "wheel",
    "turns",
    "slowly",
    "in",
    "summer.",
    "Visitors",
    "come",
    "on",
    "Sundays",
    "to",
    "see",
    "the",
    "stones",
    "at",
    "work",
    "and",
    "to",
    "buy",
    "flour.",
    "In",
    "1998",
    "the",
    "roof",
    "was",
    "repaired,",
    "and",
    "in",
    "2014",
    "a",
    "new",
    "weir",
    "was",
    "built",
    "for",
    "240,000",
    "crowns.",
    "The",
    "annual",
    "report",
    "lists",
    "12,345",
    "guests",
    "and",
    "67",
    "volunteers.",
]


def check_digit(body: str, right: Callable[[str], bool], alphabet: str = "0123456789") -> str | None:
    """Return ``body`` with the one last character that makes it right, or None where there is none."""
    return next((body + char for char in alphabet if right(body + char)), None)


class Forge:
    """Makes values with right check digits, and others that only look like them."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def digits(self, count: int, first: str = "123456789") -> str:
        """Return some digits, the first of them from ``first``."""
        rest = self.random.choices("0123456789", k=count - 1)
        return self.random.choice(first) + "".join(rest)

    def value(self, kind: str) -> str:
        """Return a right value of a kind of identifier."""
        while True:
            made = self._attempt(kind)
            if made is not None:
                return made

    def _attempt(self, kind: str) -> str | None:
        from stdnum import iban
        from stdnum.br import cpf
        from stdnum.ch import ssn as ahv
        from stdnum.cn import ric
        from stdnum.de import idnr
        from stdnum.es import dni
        from stdnum.fr import nir
        from stdnum.gb import nhs
        from stdnum.it import codicefiscale
        from stdnum.nl import bsn
        from stdnum.pl import pesel

        pick = self.random.choice
        year, month, day = (
            self.random.randrange(40, 99),
            self.random.randrange(1, 13),
            self.random.randrange(1, 29),
        )
        if kind == "CREDIT_CARD":
            body = (pick(["4", "53", "55"]) + self.digits(15))[:15]
            whole = check_digit(body, luhn)
            return (
                whole
                if pick([True, False]) or whole is None
                else " ".join(whole[i : i + 4] for i in range(0, 16, 4))
            )
        if kind == "IBAN":
            body = self.digits(18)
            whole = f"DE{iban.calc_check_digits('DE00' + body)}{body}"
            return whole if pick([True, False]) else " ".join(whole[i : i + 4] for i in range(0, 22, 4))
        if kind == "US_SSN":
            area = self.random.choice([n for n in range(100, 899) if n != 666])
            return f"{area}-{self.random.randrange(1, 99):02d}-{self.random.randrange(1, 9999):04d}"
        if kind == "UK_NHS_NUMBER":
            whole = check_digit(self.digits(9, "4567"), nhs.is_valid)
            return whole and f"{whole[:3]} {whole[3:6]} {whole[6:]}"
        if kind == "DE_TAX_ID":
            return check_digit(self.digits(10), idnr.is_valid)
        if kind == "ES_DNI":
            return check_digit(self.digits(8), dni.is_valid, "TRWAGMYFPDXBNJZSQVHLCKE")
        if kind == "IT_FISCAL_CODE":
            name = "".join(self.random.choices("BCDFGLMNPRST", k=6))
            body = f"{name}{year}{pick('ABCDEHLMPRST')}{day:02d}{pick('HFL')}{self.digits(3)}"
            return check_digit(body, codicefiscale.is_valid, "ABCDEFGHIJKLMNOPQRSTUVWXYZ")
        if kind == "NL_BSN":
            return check_digit(self.digits(8), bsn.is_valid)
        if kind == "PL_PESEL":
            return check_digit(f"{year}{month:02d}{day:02d}{self.digits(4)}", pesel.is_valid)
        if kind == "BR_CPF":
            body = self.digits(9)
            whole = body + cpf._calc_check_digits(body)
            return f"{whole[:3]}.{whole[3:6]}.{whole[6:9]}-{whole[9:]}"
        if kind == "CN_RESIDENT_ID":
            return check_digit(
                f"1101051{9}{year}{month:02d}{day:02d}{self.digits(3)}", ric.is_valid, "0123456789X"
            )
        if kind == "CH_AHV":
            whole = check_digit("756" + self.digits(9), lambda v: ahv.is_valid(v))
            return whole and f"{whole[:3]}.{whole[3:7]}.{whole[7:11]}.{whole[11:]}"
        if kind == "FR_NIR":
            body = f"{pick('12')}{year}{month:02d}75{self.digits(3)}{self.digits(3)}"
            return body + nir.calc_check_digits(body)
        raise KeyError(kind)

    def decoy(self) -> str:
        """Return something that looks like an identifier and is none."""
        pick = self.random.choice
        wrong = self.value("CREDIT_CARD").replace(" ", "")
        bad = wrong[:-1] + str((int(wrong[-1]) + pick([1, 3, 7])) % 10)
        return pick(
            [
                f"Order no. {self.digits(10)}",
                f"Tracking {bad}",
                f"ISBN 978-{self.digits(1)}-{self.digits(2)}-{self.digits(6)}-0",
                f"Invoice {self.digits(4)}-{self.digits(2)}-{self.digits(4)}",
                f"Part {self.digits(3)}-{self.digits(3)}-{self.digits(3)}",
                f"Meter reading {self.digits(9)} kWh",
                f"doi:10.{self.digits(4)}/{self.digits(8)}",
                f"Version {self.digits(2)}.0.{self.digits(5)}",
                f"card number {bad}",
                f"Total {self.digits(3)},{self.digits(3)}.{self.digits(2)}",
            ]
        )

    def prose(self, words: int) -> str:
        """Return filler text."""
        return " ".join(self.random.choices(FILLER, k=words))


LABELS = {
    "CREDIT_CARD": ("Card number", "Credit card"),
    "IBAN": ("IBAN", "Bank account (IBAN)"),
    "US_SSN": ("SSN", "Social Security No."),
    "UK_NHS_NUMBER": ("NHS number",),
    "DE_TAX_ID": ("Steuer-ID", "Steuerliche Identifikationsnummer"),
    "ES_DNI": ("DNI",),
    "IT_FISCAL_CODE": ("Codice fiscale",),
    "NL_BSN": ("BSN", "Burgerservicenummer"),
    "PL_PESEL": ("PESEL",),
    "BR_CPF": ("CPF",),
    "CN_RESIDENT_ID": ("身份证号码",),
    "CH_AHV": ("AHV-Nummer",),
    "FR_NIR": ("N° de sécurité sociale",),
}


def forms(seed: int, count: int) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yield generated forms: text, and the (type, value) pairs planted in it, among decoys and prose."""
    forge = Forge(seed)
    for _ in range(count):
        planted = [(kind, forge.value(kind)) for kind in forge.random.sample(sorted(LABELS), 3)]
        lines = [f"{forge.random.choice(LABELS[kind])}: {value}" for kind, value in planted]
        lines += [forge.decoy() for _ in range(4)] + [forge.prose(30) for _ in range(3)]
        forge.random.shuffle(lines)
        yield "\n".join(lines), planted


def score(title: str, rows: dict[str, Counter[str]]) -> None:
    """Print precision and recall by type."""
    print(f"\n{title}\n{'type':<22}{'planted':>8}{'found':>7}{'false':>7}{'recall':>8}{'precision':>11}")
    for kind, c in sorted(rows.items()):
        total, found = c["hit"] + c["miss"], c["hit"] + c["false"]
        recall = f"{c['hit'] / total:.3f}" if total else "–"
        precision = f"{c['hit'] / found:.3f}" if found else "–"
        print(f"{kind:<22}{total:>8}{c['hit']:>7}{c['false']:>7}{recall:>8}{precision:>11}")


def detecting(arguments: argparse.Namespace) -> None:
    """Measure the detectors on labelled sentences and generated forms."""
    rows: dict[str, Counter[str]] = {}
    for text, planted in forms(arguments.seed, arguments.forms):
        found = [f for f in detect(Page(1, text)) if f.type in LABELS]
        left = list(found)
        for kind, value in planted:
            at = text.index(value)
            hit = next((f for f in left if f.type == kind and f.start < at + len(value) and at < f.end), None)
            rows.setdefault(kind, Counter())["hit" if hit else "miss"] += 1
            if hit:
                left.remove(hit)
        for extra in left:
            rows.setdefault(extra.type, Counter())["false"] += 1
    score(f"{arguments.forms} generated forms (checksum-bearing types, decoys among them)", rows)
    total = sum(rows.values(), Counter[str]())
    recall = total["hit"] / (total["hit"] + total["miss"])
    precision = total["hit"] / (total["hit"] + total["false"])
    print(f"all: recall {recall:.4f}, precision {precision:.4f} (target 0.95 both)")
    labelled = CORPUS / "pii-generated-small.json"
    if not labelled.is_file():
        print("\nskipped: the corpus is not beside the project")
        return
    kinds = {
        "CREDIT_CARD",
        "US_SSN",
        "EMAIL_ADDRESS",
        "PHONE_NUMBER",
        "IP_ADDRESS",
        "US_DRIVER_LICENSE",
        "ADDRESS",
        "PERSON",
    }
    rows = {}
    for entry in json.loads(labelled.read_text()):
        found = [f for f in detect(Page(1, entry["full_text"])) if f.type in kinds]
        hit_all = set()
        for span in entry["spans"]:
            if span["entity_type"] in kinds:
                hits = [
                    f
                    for f in found
                    if f.type == span["entity_type"]
                    and f.start < span["end_position"]
                    and span["start_position"] < f.end
                ]
                rows.setdefault(span["entity_type"], Counter())["hit" if hits else "miss"] += 1
                hit_all.update(hits)
        for finding in found:
            if finding not in hit_all:
                rows.setdefault(finding.type, Counter())["false"] += 1
    score("pii-generated-small.json (overlap; people and addresses are found by label and form only)", rows)


PASSAGES = Path(__file__).parent / "data" / "unsafe_phrases.txt"


def labelled_passages() -> Iterator[tuple[str, str, str]]:
    """Yield (set, label, text) of the passages that people labelled."""
    for line in PASSAGES.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, label, text = (part.strip() for part in line.split("|", 2))
            yield name, label, text


def unsafe(_: argparse.Namespace) -> None:
    """Judge labelled passages: each alone, as a document of one sentence or two."""
    rows: dict[str, dict[str, Counter[str]]] = {}
    rules = load()
    for name, label, text in labelled_passages():
        page = Page(1, text)
        found = detect(page)
        says = decide(Document("txt", (page,), 1, 0), found, rules)
        acted = {f.type for f in found if f.group == "unsafe" and f.stance != "discussion"}
        table = rows.setdefault(name, {})
        whole = table.setdefault("any", Counter())
        if label == "SAFE":
            whole["false"] += says.category == "Unsafe"
            whole["safe"] += 1
            continue
        whole["hit" if says.category == "Unsafe" else "miss"] += 1
        whole["review"] += says.requires_review
        table.setdefault(label, Counter())["hit" if label in acted else "miss"] += 1
    for name, table in rows.items():
        whole = table["any"]
        score(f"set {name}: {whole['safe']} safe passages among them", table)
        print(f"sent to review: {whole['review']} of {whole['hit'] + whole['miss']} unsafe ones")


def public(arguments: argparse.Namespace) -> None:
    """Judge the public PDFs of the corpus: none should be above Confidential."""
    from millrace.workloads.documents.extract import ocr

    engine = ocr.load("rapidocr", 2) if arguments.ocr else None
    above = total = 0
    with tempfile.TemporaryDirectory() as folder:
        for path in sorted(
            [*CORPUS.glob("*.pdf"), *(Path(p) for d in arguments.more for p in Path(d).rglob("*.pdf"))]
        ):
            try:
                document = extract(path, path.name, Path(folder), ocr=engine)
            except Exception as error:  # noqa: BLE001 - a benchmark reports and goes on
                print(f"{path.name:<44} {error}")
                continue
            decision = decide(document, find(document, path), load())
            total += 1
            above += decision.category not in ("Public", "Confidential")
            print(
                f"{path.name:<44} {document.page_count:>4} pages  "
                f"{decision.category:<17} {decision.confidence:.2f}"
            )
    print(f"{above} of {total} above Confidential (target 0)")


def labelled_set(seed: int, count: int) -> Iterator[tuple[str, str]]:
    """Yield (category, text): plain and hard cases of each, mixed with prose."""
    forge = Forge(seed)
    pick = forge.random.choice
    people = ("Maria Gomez", "Li Wei", "John Smith", "Ana Novak")
    makers: dict[str, tuple[Callable[[], str], ...]] = {
        "Public": (
            lambda: forge.prose(20),
            lambda: f"{forge.decoy()}\n{forge.decoy()}",
            lambda: "We never ask for your password, social security number or credit card by mail.",
            lambda: pick(
                ("This report is NOT CONFIDENTIAL.", "FOR PUBLIC RELEASE", "The public part is unclassified.")
            ),
            lambda: (
                "The police report says he wrote 'I will kill you' to the victim, the court heard in May."
            ),
            lambda: "Suicide prevention: call the helpline; counsellors offer support and treatment.",
            lambda: "Security awareness training: how to detect phishing emails and protect your accounts.",
            lambda: "Standard terms: each party shall keep confidential information of the other party safe.",
            lambda: "Contact: info@oldmill.org, +1 212 736 5000",
            lambda: (
                f"Payment to the charity: IBAN {forge.value('IBAN')}"
                if pick(range(8)) == 0
                else forge.prose(9)
            ),
        ),
        "Confidential": (
            lambda: pick(
                (
                    "CONFIDENTIAL",
                    "INTERNAL USE ONLY",
                    "Classification: Confidential",
                    "VERTRAULICH",
                    "TLP:AMBER",
                    "Do not distribute",
                    "PROPRIETARY AND CONFIDENTIAL",
                )
            ),
            lambda: (
                f"Name: {pick(people)}\nAddress: 742 Evergreen Terrace\nPhone: (212) 736-{forge.digits(4)}"
            ),
            lambda: "This memorandum is protected by attorney-client privilege.",
            lambda: (
                "The receiving party shall not disclose trade secrets or confidential information "
                "of the disclosing party."
            ),
            lambda: "Our internal strategy and product roadmap are proprietary information.",
            lambda: f"Please pay to IBAN {forge.value('IBAN')}.",
            lambda: f"Employee: {pick(people)}\nGross pay $4,200.00, net pay $3,100.00, deductions $1,100.00",
            lambda: f"Dear colleague, the merger with {pick(people)} Ltd will be announced in June.",
        ),
        "Highly Sensitive": (
            lambda: f"SSN: {forge.value('US_SSN')}",
            lambda: f"Please charge my credit card {forge.value('CREDIT_CARD')}.",
            lambda: f"Steuer-ID {forge.value('DE_TAX_ID')}",
            lambda: (
                f"{forge.value('CREDIT_CARD')}; {forge.value('CREDIT_CARD')}; {forge.value('CREDIT_CARD')}"
            ),
            lambda: (
                f"Patient name: {pick(people)}\nMRN: {forge.digits(8)}\n"
                "Diagnosis: diabetes; prescribed insulin"
            ),
            lambda: f"password: Tr0ub{forge.digits(3)}!x&Q",
            lambda: pick(
                (
                    "TOP SECRET",
                    "STRICTLY CONFIDENTIAL",
                    "STRENG VERTRAULICH",
                    "Classification: Highly Sensitive",
                )
            ),
            lambda: f"Name: {pick(people)}\nPassport No: C0{forge.digits(7)}",
            lambda: f"Employee: {pick(people)}\nIBAN: {forge.value('IBAN')}\nSalary: $4,200.00",
        ),
        "Unsafe": (
            lambda: pick(
                (
                    "I will kill you and your family.",
                    "We are going to blow up the school on Monday.",
                    "I know where you live. Watch your back.",
                )
            ),
            lambda: "How to build a pipe bomb. Step 1: fill it with black powder and attach a fuse.",
            lambda: "Here is how to write ransomware and deploy it without getting caught.",
            lambda: "I want to kill myself tonight; this is my suicide note.",
            lambda: "They should all be shot. Let's exterminate them.",
            lambda: "You are worth nothing and somebody ought to teach you a lesson you will not survive.",
        ),
    }
    for number in range(count):
        category = list(makers)[number % 4]
        parts = [
            forge.prose(forge.random.randrange(5, 60)),
            pick(makers[category])(),
            forge.prose(forge.random.randrange(5, 40)),
        ]
        if category != "Public" and pick(range(4)) == 0:
            parts.append(pick(makers["Public"])())
        forge.random.shuffle(parts)
        yield category, "\n".join(parts)


def evidence_of(text: str) -> dict[str, Any]:
    """Return a text as the evidence that a labelled set carries."""
    page = Page(1, text)
    document = Document("txt", (page,), 1, 0)
    findings = [f.to_json() for f in detect(page)]
    return {"document": document.to_json(), "findings": findings}


def policy(arguments: argparse.Namespace) -> None:
    """Judge the generated labelled set with the shipped policy."""
    rules = load()
    outcomes = []
    for number, (category, text) in enumerate(labelled_set(arguments.seed + 1, arguments.documents)):
        label = evaluate.Label(f"{number}: {text[:60]!r}", category, evidence=evidence_of(text))
        outcomes.append(evaluate.outcome(label, rules, lambda path: (Document("txt", (), 0, 0), [])))
    from millrace.workloads.documents.commands import _print_report

    _print_report(evaluate.report(outcomes, rules.categories), rules.version, [])
    print("\ncalibration:", evaluate.calibrate(outcomes, max(10, len(outcomes) // 20)))


def write_labels(path: Path, seed: int, count: int) -> None:
    """Write the generated labelled set as JSON Lines, with the evidence."""
    with path.open("w", encoding="utf-8") as file:
        for number, (category, text) in enumerate(labelled_set(seed, count)):
            row = {"filename": f"generated-{number}", "label": category, "evidence": evidence_of(text)}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def write_pdf(path: Path, pages: list[str]) -> None:
    """Write a plain PDF with a text layer in Helvetica (Latin-1)."""
    objects: list[bytes] = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"",
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>",
    ]
    kids = []
    for text in pages:
        lines = "".join(f"({line.translate({40: '[', 41: ']', 92: '/'})}) '\n" for line in text.split("\n"))
        stream = f"BT /F 9 Tf 11 TL 50 760 Td\n{lines}ET".encode("latin-1", "replace")
        kids.append(f"{len(objects) + 1} 0 R")
        objects.append(
            b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Resources<</Font<</F 3 0 R>>>>"
            b"/Contents %d 0 R>>" % (len(objects) + 2)
        )
        objects.append(b"<</Length %d>>stream\n" % len(stream) + stream + b"\nendstream")
    objects[1] = f"<</Type/Pages/Kids[{' '.join(kids)}]/Count {len(kids)}>>".encode()
    body, offsets = b"%PDF-1.4\n", []
    for number, data in enumerate(objects, 1):
        offsets.append(len(body))
        body += b"%d 0 obj\n" % number + data + b"\nendobj\n"
    table = "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    size = len(objects) + 1
    trailer = f"trailer\n<</Root 1 0 R/Size {size}>>\nstartxref\n{len(body)}\n%%EOF\n"
    tail = f"xref\n0 {size}\n0000000000 65535 f \n{table}{trailer}"
    path.write_bytes(body + tail.encode())


def page_text(forge: Forge) -> str:
    """Return about 3,000 characters: prose in lines, and on one page of five some personal data."""
    words = forge.prose(540).split()
    lines = [" ".join(words[i : i + 9]) for i in range(0, len(words), 9)]
    if forge.random.random() < 0.2:
        for kind in forge.random.sample(sorted(LABELS), 2):
            lines.insert(forge.random.randrange(len(lines)), f"{LABELS[kind][0]}: {forge.value(kind)}")
    return "\n".join(lines)


PEERS = {
    "Presidio + pdfminer": (
        ("presidio-analyzer", "pdfminer.six"),
        """
import spacy, tempfile
from pdfminer.high_level import extract_pages
from pdfminer.layout import LTTextContainer
from presidio_analyzer import AnalyzerEngine
from presidio_analyzer.nlp_engine import SpacyNlpEngine
class Blank(SpacyNlpEngine):
    def __init__(self):
        super().__init__()
        self.nlp = {"en": spacy.blank("en")}
    def load(self): pass
    def is_loaded(self): return True
ENGINE = []
def work(path):
    if not ENGINE: ENGINE.append(AnalyzerEngine(nlp_engine=Blank(), supported_languages=["en"]))
    pages = 0
    for page in extract_pages(path):
        text = "".join(x.get_text() for x in page if isinstance(x, LTTextContainer))
        ENGINE[0].analyze(text, language="en")
        pages += 1
    return pages
""",
    ),
    "markitdown (text only)": (
        ("markitdown[pdf]",),
        """
from markitdown import MarkItDown
import re
ENGINE = []
def work(path):
    if not ENGINE: ENGINE.append(MarkItDown())
    ENGINE[0].convert(path)
    return len(re.findall(rb"/Type/Page/", open(path, "rb").read()))
""",
    ),
}
RUNNER = """
import multiprocessing, sys, time, warnings, logging
warnings.simplefilter("ignore"); logging.disable(logging.CRITICAL)
if __name__ == "__main__":
    paths = sys.argv[2:]
    with multiprocessing.get_context("fork").Pool(int(sys.argv[1])) as pool:
        pool.map(work, paths[:2], 1)
        began = time.perf_counter()
        pages = sum(pool.map(work, paths, 1))
        print(pages, time.perf_counter() - began)
"""


def environment(name: str, packages: tuple[str, ...], home: Path) -> Path | str:
    """Return the Python of a peer's own environment, made if need be; or why it could not be made."""
    place = home / "".join(char if char.isalnum() else "-" for char in name.lower())
    python = place / "bin" / "python"
    if not (place / "ready").is_file():
        for command in (
            [sys.executable, "-m", "venv", str(place)],
            [str(python), "-m", "pip", "install", "-q", *packages],
        ):
            made = subprocess.run(command, capture_output=True, text=True)
            if made.returncode:
                return (made.stderr.strip().splitlines() or ["no reason given"])[-1][:200]
        (place / "ready").touch()
    return python


def speed(arguments: argparse.Namespace) -> None:
    """Pages a second, end to end, against peers on the same machine in the same run."""
    forge = Forge(arguments.seed)
    with tempfile.TemporaryDirectory(prefix="millrace-bench-") as folder:
        home = Path(folder)
        files = []
        for number in range(max(2, arguments.pages // arguments.document_pages)):
            files.append(home / f"{number:05d}.pdf")
            write_pdf(files[-1], [page_text(forge) for _ in range(arguments.document_pages)])
        ours = _server_pace(files, home, arguments.document_pages)
        print(f"{'Millrace, server, end to end':<34}{ours:>9.1f} pages/s (target 250 on 2 cores)")
        bare = _bare_pace(files)
        print(f"{'bare pypdfium2 text loop, 1 process':<34}{bare:>9.1f} pages/s")
        few = files[: max(2, arguments.peer_pages // arguments.document_pages)]
        for name, (packages, code) in PEERS.items():
            python = environment(name, packages, Path(arguments.envs).absolute())
            if isinstance(python, str):
                print(f"{name:<34}  skipped: {python}")
                continue
            script = home / "peer.py"
            script.write_text(code + RUNNER)
            run = subprocess.run(
                [str(python), str(script), "2", *map(str, few)], capture_output=True, text=True
            )
            if run.returncode:
                print(f"{name:<34}  skipped: {(run.stderr.strip().splitlines() or ['?'])[-1][:200]}")
                continue
            pages, seconds = run.stdout.split()[-2:]
            assert int(pages) == len(few) * arguments.document_pages, f"{name} saw only {pages} pages"
            pace = int(pages) / float(seconds)
            print(f"{name:<34}{pace:>9.1f} pages/s  Millrace is {ours / pace:.1f} times as fast")


def _server_pace(files: list[Path], home: Path, document_pages: int) -> float:
    from tests.live import LiveServer

    with LiveServer(home / "server") as server:

        def submit(some: list[Path]) -> None:
            job = server.client.post(
                "/batch/upload", files=[("files", (p.name, p.read_bytes())) for p in some]
            ).json()["job_id"]
            while True:
                row = server.client.get(f"/jobs/{job}").json()
                if row["state"] in ("succeeded", "failed"):
                    assert row["counts"]["failed"] == 0, row
                    return
                time.sleep(0.1)  # asking costs the server time, too

        submit(files[:2] * 2)  # workers start and load once
        began = time.perf_counter()
        for first in range(0, len(files), 200):
            submit(files[first : first + 200])
        return len(files) * document_pages / (time.perf_counter() - began)


def _bare_pace(files: list[Path]) -> float:
    import pypdfium2 as pdfium

    began, pages = time.perf_counter(), 0
    for path in files:
        document = pdfium.PdfDocument(path)
        for page in document:
            page.get_textpage().get_text_range()
            pages += 1
        document.close()
    return pages / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "part", nargs="*", choices=["detect", "public", "unsafe", "policy", "speed", []], help="default: all"
    )
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--forms", type=int, default=500)
    parser.add_argument("--documents", type=int, default=1200)
    parser.add_argument("--pages", type=int, default=2000)
    parser.add_argument("--document-pages", type=int, default=10)
    parser.add_argument("--peer-pages", type=int, default=100)
    parser.add_argument("--ocr", action="store_true", help="public: read scans too")
    parser.add_argument("--more", nargs="*", default=[], help="public: further directories with public PDFs")
    parser.add_argument("--envs", default=".benchmark-envs", help="where the peers' environments are made")
    parser.add_argument("--labels", type=Path, help="write the generated labelled set there and stop")
    arguments = parser.parse_args()
    if arguments.labels:
        write_labels(arguments.labels, arguments.seed, arguments.documents)
        return
    parts = {"detect": detecting, "public": public, "unsafe": unsafe, "policy": policy, "speed": speed}
    for name in arguments.part or parts:
        print(f"\n== {name}")
        parts[name](arguments)


if __name__ == "__main__":
    main()
