"""Confidentiality marks: what a document says of itself, with and without "not".

A mark stands apart: in capitals, alone on its line, or after a label such as ``Classification:``. The same
word in running text is a term of law, not a mark (see ``legal.py``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from millrace.workloads.documents.detectors.passage import Hints, Passage
from millrace.workloads.documents.document import Finding

_SECRET = (
    r"top secret|strictly confidential|highly confidential|highly sensitive|highly restricted|most confidential|"
    r"secret//\w+|tlp ?: ?red|streng vertraulich|streng geheim|geheim|très secret|secret défense|"
    r"estrictamente confidencial|máximo secreto|strettamente riservato|segretissimo|совершенно секретно|"
    r"strikt vertrouwelijk|ściśle tajne|极秘|極秘|絶対秘|绝密|机密|機密|سري للغاية|סודי ביותר|극비"
)
_CONFIDENTIAL = (
    r"company[- ]confidential|commercial[- ]in[- ]confidence|business confidential|private (?:and|&) confidential|"
    r"privileged (?:and|&) confidential|confidential(?: (?:information|document|draft|material|property))?|"
    r"internal(?: use)? only|for internal use(?: only)?|internal use|"
    r"not for (?:public )?(?:distribution|release|circulation)|do not (?:distribute|copy|forward|circulate|share)|"
    r"not to be (?:distributed|disclosed|copied)|proprietary(?: (?:and|&) confidential)?|"
    r"confidential (?:and|&) proprietary|restricted|sensitive but unclassified|for official use only|fouo|controlled "
    r"unclassified information|cui|eyes only|need[- ]to[- ]know|embargoed|tlp ?: ?amber(?:\+strict)?|"
    r"vertraulich|nur für den internen gebrauch|nur für den dienstgebrauch|vs-nfd|intern|confidentiel(?:le)?|"
    r"diffusion restreinte|usage interne|confidencial|uso interno|riservato|confidenziale|uso interno|vertrouwelijk|"
    r"poufne|konfidentiellt|luottamuksellinen|конфиденциально|для служебного пользования|社外秘|秘密|内部资料|"
    r"内部使用|部外秘|סודי|سري|대외비|기밀"
)
_PUBLIC = (
    r"unclassified|non-?confidential|public(?: (?:document|information|release))?|for (?:immediate|public) "
    r"release|approved for public release|tlp ?: ?(?:clear|white|green)|öffentlich|public domain|"
    r"declassified|公开"
)
_MARK = re.compile(
    rf"(?<![^\W_])(?:(?P<secret>{_SECRET})|(?P<public>{_PUBLIC})|(?P<confidential>{_CONFIDENTIAL}))(?![^\W_])"
)
_LINE = 200
"""How many characters of its line are looked at on either side of a mark."""
_CJK_ETC = re.compile(r"[\u0590-\u06ff\u3040-\u9fff\uac00-\ud7a3]")
_LABEL = re.compile(
    r"(?:classification|security level|sensitivity|data class|confidentiality|marking|einstufung|vertraulichkeit|"
    r"klassifizierung|密级|x-classification)\s*(?:level|label)?\s*[:：]\s*$"
)
_NEGATION = re.compile(
    r"(?:\bnot|\bno longer|\bnon-?|\bnever|\bneither|\bnor|\bwithout|\bisn't|\baren't|\bwasn't|\bformerly|\bpreviously|"
    r"\bde|\bun|\bnicht|\bkeine?|\bne sont pas|\bpas|\bno es|\bno|\bnon)[ \t]*(?:be |been |considered |treated as |"
    r"marked(?: as)? |deemed |a |an |any |the |to be |contain(?:s|ing)? |classified (?:as )?)*[\"']?$"
)
_AFTER_NEGATION = re.compile(r"^\s*[:=]?\s*(?:no\b|none\b|false\b|n/a\b|☐|\[ ?\])")
_HINTS = Hints(
    "top secret", "secret", "segret", "confiden", "nonconfiden", "company confid", "máximo", "confidén", "sensitive", "restricted", "tlp", "vertrauli", "geheim", "riservat", "vertrouwelijk",
    "tajne", "poufne", "intern", "distribut", "circulat", "copy", "forward", "share", "disclosed", "proprietary", "official use",
    "fouo", "unclassified", "cui", "eyes only", "need", "copied", "embargoed", "nfd", "diffusion", "konfidentiellt", "luottamuk",
    "конфиденц", "служебн", "секрет", "public", "öffentlich", "declassified", "release", "秘", "密", "机", "機", "内部", "公开",
    "سري", "סודי", "비", "기밀",
)  # fmt: skip
_LEVEL_HINTS = Hints(
    "classification",
    "security",
    "sensitivity",
    "data class",
    "marking",
    "einstufung",
    "密级",
    "x-classification",
)
_LEVELS = re.compile(
    r"(?<![^\W_])(?:classification|security level|sensitivity|data class|marking|einstufung|密级)\s*(?:level|label)?\s*[:：]\s*"
    r"(secret|internal|private|personal|sensitive|general)(?=[ \t]*(?:[\r\n\t;,.()/\\-]|$))"
)
_EVERYDAY = {
    "secret": ("MARK_SECRET", 0.85), "internal": ("MARK_CONFIDENTIAL", 0.75), "private": ("MARK_CONFIDENTIAL", 0.75),
    "personal": ("MARK_CONFIDENTIAL", 0.7), "sensitive": ("MARK_CONFIDENTIAL", 0.75), "general": ("MARK_PUBLIC", 0.4),
}  # fmt: skip
_LEVEL = {
    "secret": ("MARK_SECRET", 0.9),
    "confidential": ("MARK_CONFIDENTIAL", 0.85),
    "public": ("MARK_PUBLIC", 0.6),
}


def detect(passage: Passage) -> Iterator[Finding]:
    """Yield the marks of a page; a denied one has the stance ``negated``."""
    yield from _labelled(passage)
    for match in passage.matches(_MARK, passage.windows(_HINTS, 40, 60)):
        start, end = match.span()
        level = match.lastgroup or "confidential"
        form = _form(passage, start, end)
        if form is None:
            continue
        kind, weight = _LEVEL[level]
        negated = level != "public" and _is_negated(passage, start, end)
        weak = match[0] in (
            "intern",
            "restricted",
            "proprietary",
            "cui",
            "public",
            "秘密",
            "geheim",
            "riservato",
            "سري",
        )
        yield passage.finding(
            f"mark.{level}", kind, "mark", start, end, context=form, stance="negated" if negated else "plain",
            weight=weight * (0.6 if weak and form != "label" else 1.0),
        )  # fmt: skip


def _labelled(passage: Passage) -> Iterator[Finding]:
    """Yield levels whose names are everyday words, which count only as the whole value of a label."""
    for match in passage.matches(_LEVELS, passage.windows(_LEVEL_HINTS, 0, 60)):
        kind, weight = _EVERYDAY[match[1]]
        yield passage.finding("mark.label", kind, "mark", *match.span(1), context="label", weight=weight)


def _form(passage: Passage, start: int, end: int) -> str | None:
    """Say why a passage counts as a mark: ``label``, ``line`` or ``capitals``; None: running text."""
    text = passage.folded
    before, after = text[max(0, start - _LINE) : start], text[end : end + _LINE]
    left = re.split(r"[\n\r\t]", before)[-1]
    right = re.split(r"[\n\r\t]", after, maxsplit=1)[0]
    if passage.is_metadata and not left and not right:
        return "label"
    if _LABEL.search(passage.lower, max(0, start - 60), start):
        return "label"
    value = text[start:end]
    line = left + value + right
    rest = len(re.sub(r"[\W\d_]+", "", left + right))
    listed = "=" in line or text[max(0, start - 1) : start] in ("'", '"', "`", ">")
    if rest <= 12 and len(line) <= 90 and not listed and not value[:1].islower():
        return "line"
    if _CJK_ETC.search(value):
        return "line" if rest <= 25 else None
    if value.isupper() and len(value) > 3:
        return "capitals"
    title = all(word[:1].isupper() for word in re.findall(r"[^\W\d_]{4,}", value))
    if title and len(value) > 14 and rest <= 60:
        return "line"
    return None


def _is_negated(passage: Passage, start: int, end: int) -> bool:
    before = passage.lower[max(0, start - 60) : start].replace("\r", " ").replace("\n", " ")
    value = passage.lower[start:end]
    if value.startswith(("not ", "do not")):
        return False
    return bool(_NEGATION.search(before)) or bool(_AFTER_NEGATION.search(passage.lower[end : end + 12]))
