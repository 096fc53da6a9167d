"""Legal and proprietary context: what contracts, counsel and inventors say, as opposed to a mark."""

from __future__ import annotations

import re
from collections.abc import Iterator

from millrace.workloads.documents.detectors.passage import Hints, Passage
from millrace.workloads.documents.document import Finding

_TERMS: tuple[tuple[str, str, float], ...] = (
    ("PRIVILEGE", r"attorney[- ]client privilege[d]?|attorney[- ]work product|legal(?:ly)? privileged?|solicitor[- ]client "
     r"privilege|without prejudice|privileged communication|anwaltsgeheimnis|secret professionnel", 0.8),
    ("NON_DISCLOSURE", r"non-?disclosure agreement|confidentiality agreement|mutual nda|\bnda\b|duty of confidentiality|"
     r"disclosing party|receiving party|shall not disclose|shall keep (?:strictly )?confidential|"
     r"geheimhaltungsvereinbarung|accord de confidentialité|acuerdo de confidencialidad|保密协议|秘密保持契約", 0.6),
    ("TRADE_SECRET", r"trade secrets?|proprietary (?:information|technology|data|algorithm|process|design)|betriebsgeheimnis|"
     r"geschäftsgeheimnis|secret(?:s)? (?:de fabrication|des affaires)|secreto (?:comercial|industrial)|商业秘密|企業秘密", 0.6),
    ("CONFIDENTIAL_TERM", r"confidential information|confidential data|confidential material|in strict confidence|"
     r"treat(?:ed)? as confidential|intended (?:only|solely) for the (?:use of the )?(?:addressee|recipient|individual)|"
     r"if you are not the intended recipient|vertrauliche informationen|informations confidentielles|"
     r"información confidencial|informazioni riservate|机密信息", 0.45),
    ("INTERNAL_BUSINESS", r"unreleased (?:product|financial|results)|not yet (?:public|announced)|before (?:public )?announcement|"
     r"merger|acquisition target|due diligence|term sheet|board (?:minutes|resolution|of directors meeting)|"
     r"internal (?:memo|memorandum|audit|roadmap|strategy|pricing|report)|product roadmap|pricing strategy|"
     r"customer list|revenue forecast|profit margin|source code|design specification|bill of materials", 0.35),
    ("LITIGATION", r"settlement agreement|pending litigation|litigation hold|deposition of|under seal|protective order", 0.45),
)  # fmt: skip
_HINTS = {
    "PRIVILEGE": ("privileg", "work product", "prejudice", "anwalts", "secret prof"),
    "NON_DISCLOSURE": ("disclos", "confidential", "nda", "geheimhaltung", "confiden", "receiving party", "保密", "秘密"),
    "TRADE_SECRET": ("trade secret", "proprietary", "geheimnis", "secret", "商业", "企業"),
    "CONFIDENTIAL_TERM": ("confiden", "intended", "vertrauliche", "riservate", "机密"),
    "INTERNAL_BUSINESS": (
        "unreleased", "not yet", "announcement", "merger", "acquisition", "due diligence", "term sheet", "board ",
        "internal", "roadmap", "pricing", "customer list", "forecast", "profit margin", "source code", "specification",
        "bill of materials",
    ),
    "LITIGATION": ("settlement", "litigation", "deposition", "under seal", "protective order"),
}  # fmt: skip
_PATTERNS = tuple(
    (name, Hints(*_HINTS[name]), re.compile(f"(?<![^\\W_])(?:{pattern})(?![^\\W_])"), weight)
    for name, pattern, weight in _TERMS
)
_DENIED = re.compile(
    r"(?:\bno|\bnot|\bwithout|\bnever|\bdoes not contain(?: any)?|\bcontains no|\bfree of)\s+(?:\w+\s){0,2}$"
)


def detect(passage: Passage) -> Iterator[Finding]:
    """Yield the legal and proprietary terms of a page; a denied one has the stance ``negated``."""
    for name, hints, pattern, weight in _PATTERNS:
        for match in passage.matches(pattern, passage.windows(hints, 40, 60)):
            before = passage.lower[max(0, match.start() - 40) : match.start()]
            affirmed = (
                name == "NON_DISCLOSURE" or match[0] == "without prejudice" or not _DENIED.search(before)
            )
            yield passage.finding(
                f"legal.{name.lower()}",
                name,
                "legal",
                *match.span(),
                stance="plain" if affirmed else "negated",
                weight=weight,
            )
