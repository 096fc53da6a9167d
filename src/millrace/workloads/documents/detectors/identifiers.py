"""Identifiers that carry a checksum or a strict structure: cards, accounts, national and travel documents.

Every candidate goes through its validator (python-stdnum, ISO 7812, ISO 13616, ICAO 9303); what
fails a checksum is dropped. Numbers that many others look like also need a word of context nearby.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import Any

from millrace.workloads.documents.detectors.passage import Hints, Passage
from millrace.workloads.documents.document import Finding, Verdict


def words(*choices: str) -> re.Pattern[str]:
    """Compile context words, given in lower case; each begins at a word border."""
    return re.compile(r"(?<![^\W_])(?:" + "|".join(choices) + ")")


def _literal_leads(pattern: re.Pattern[str]) -> Hints:
    """Return what the choices of a ``words`` pattern begin with, up to the first part that is no literal."""
    leads = []
    for choice in pattern.pattern.partition("(?:")[2][:-1].split("|"):
        lead = re.match(r"(?:[^\\.()?*+\[{|](?![?*{]))*", choice)
        leads.append(lead[0].strip() if lead else "")
    return Hints(*leads)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of identifier. ``check`` names the validator; None: structure only (``valid`` is None).

    ``alone`` says whether the checksum (or the form) is enough without a word of context, and
    ``base`` the weight then; with context the weight is ``sure``.
    """

    type: str
    pattern: re.Pattern[str]
    check: str | None
    context: re.Pattern[str]
    alone: bool = False
    base: float = 0.5
    sure: float = 0.95
    before: int = 80
    accept: Callable[[str], bool] = field(default=lambda value: True)
    hints: Hints = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "hints", _literal_leads(self.context))


def _rx(pattern: str) -> re.Pattern[str]:
    return re.compile(r"(?<![\w.,$€£/-])" + pattern + r"(?![\w-]|[.,/]\d)")


_CARD_TEST = frozenset((
    "4111111111111111", "4242424242424242", "4012888888881881", "4000056655665556", "5555555555554444",
    "5105105105105100", "2223003122003222", "378282246310005", "371449635398431", "6011111111111117",
    "6011000990139424", "30569309025904", "38520000023237", "3530111333300000", "3566002020360505",
))  # fmt: skip
_CARD_LENGTHS = (
    (re.compile(r"4"), (13, 16, 19)),
    (re.compile(r"5[1-5]|2(?:22[1-9]|2[3-9]|[3-6]|7[01]|720)"), (16,)),
    (re.compile(r"3[47]"), (15,)),
    (re.compile(r"3(?:0[0-5]|[689])"), (14, 16, 17, 18, 19)),
    (re.compile(r"6(?:011|4[4-9]|5)"), (16, 17, 18, 19)),
    (re.compile(r"35(?:2[89]|[3-8])"), (16, 17, 18, 19)),
    (re.compile(r"62"), (16, 17, 18, 19)),
    (re.compile(r"(?:5018|5020|5038|5893|6304|6759|676[1-3])"), (12, 13, 14, 15, 16, 17, 18, 19)),
)
_SSN_SAMPLES = frozenset(("078051120", "219099999", "123456789", "111111111", "123121234", "000000000"))


def card(value: str) -> bool:
    """Check a payment card number: issuer range and length (ISO/IEC 7812), Luhn digit, not all alike."""
    digits = re.sub(r"\D", "", value)
    if len(set(digits)) < 3 or not any(
        lead.match(digits) and len(digits) in lengths for lead, lengths in _CARD_LENGTHS
    ):
        return False
    return luhn(digits)


def luhn(digits: str) -> bool:
    """Check the Luhn digit of a string of digits (ISO/IEC 7812-1, annex B)."""
    total = 0
    for place, char in enumerate(reversed(digits)):
        number = int(char)
        if place % 2:
            number = number * 2 - 9 if number > 4 else number * 2
        total += number
    return total % 10 == 0


def _not_repeated(value: str) -> bool:
    digits = re.sub(r"\D", "", value)
    return len(set(digits)) > 2 and digits not in ("1234567890", "0123456789", "123456789")


def _ssn(value: str) -> bool:
    digits = re.sub(r"\D", "", value)
    return digits not in _SSN_SAMPLES and digits[:3] not in ("000", "666") and digits[0] != "9" \
        and digits[3:5] != "00" and digits[5:] != "0000"  # fmt: skip


_ID = r"id|identification|identity|national|no\.?|nr\.?|number"
KINDS: tuple[Kind, ...] = (
    Kind("CREDIT_CARD", _rx(r"\d(?:[ -]?\d){11,18}"), "card",
         words("credit", "debit", "card", "visa", "master ?card", "amex", "american express", "discover", "cvv", "cvc",
               "pan\\b", "kreditkarte", "kartennummer", "carte", "tarjeta", "carta di", "cartão", "カード", "卡号",
               "信用卡", "карт", "بطاقة"), alone=True, base=0.55),
    Kind("IBAN", _rx(r"[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?"), "stdnum.iban",
         words("iban", "account", "bank", "konto", "compte", "cuenta", "conto", "rekening"), alone=True, base=0.9),
    Kind("US_SSN", _rx(r"\d{3}-\d{2}-\d{4}"), None,
         words("ssn", "social sec", "soc\\.? ?sec", "social-sec", "s\\.s\\.n", "ss ?#", "tax(?:payer)? id"), alone=True,
         base=0.6, accept=_ssn),
    Kind("US_SSN", _rx(r"\d{3} ?\d{2} ?\d{4}"), None,
         words("ssn", "social security", "social-security"), before=40, sure=0.9, accept=_ssn),
    Kind("US_ITIN", _rx(r"9\d{2}-(?:5\d|6[0-5]|7\d|8[0-8]|9[0-24-9])-\d{4}"), None, words("itin", "taxpayer"),
         sure=0.9),
    Kind("UK_NHS_NUMBER", _rx(r"\d{3}[ -]?\d{3}[ -]?\d{4}"), "stdnum.gb.nhs", words("nhs"), accept=_not_repeated),
    Kind("UK_NINO", _rx(r"(?!BG|GB|NK|KN|TN|NT|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D]"),
         None, words("national insurance", "nino", "ni number", "ni no", "insurance n"), alone=True, base=0.6),
    Kind("CA_SIN", _rx(r"\d{3}[ -]?\d{3}[ -]?\d{3}"), "stdnum.ca.sin", words("sin\\b", "social insurance"),
         accept=_not_repeated),
    Kind("AU_TFN", _rx(r"\d{3} ?\d{3} ?\d{2,3}"), "stdnum.au.tfn", words("tfn", "tax file")),
    Kind("DE_TAX_ID", _rx(r"\d{2} ?\d{3} ?\d{3} ?\d{3}"), "stdnum.de.idnr",
         words("steuer-?id", "steuerliche ident", "idnr", "steueridentifikation", "tin\\b", "tax id")),
    Kind("FR_NIR", _rx(r"[12] ?\d{2} ?\d{2} ?\d[\dAB] ?\d{3} ?\d{3} ?\d{2}"), "stdnum.fr.nir",
         words("sécurité sociale", "securite sociale", "nir\\b", "insee", "n° ss"), alone=True, base=0.75),
    Kind("ES_DNI", _rx(r"\d{8}[ -]?[A-HJ-NP-TV-Z]"), "stdnum.es.dni",
         words("dni", "nif", "documento nacional", _ID), alone=True, base=0.7),
    Kind("ES_NIE", _rx(r"[XYZ][ -]?\d{7}[ -]?[A-HJ-NP-TV-Z]"), "stdnum.es.nie", words("nie", "extranjero", _ID),
         alone=True, base=0.75),
    Kind("IT_FISCAL_CODE", _rx(r"[A-Z]{6}[0-9LMNP-V]{2}[A-EHLMPRST][0-9LMNP-V]{2}[A-Z][0-9LMNP-V]{3}[A-Z]"),
         "stdnum.it.codicefiscale", words("codice fiscale", "c\\.?f\\.?\\b", "fiscal"), alone=True, base=0.9),
    Kind("NL_BSN", _rx(r"\d{4}[. ]?\d{2}[. ]?\d{3}"), "stdnum.nl.bsn", words("bsn", "burgerservice", "sofi")),
    Kind("BE_NATIONAL_ID", _rx(r"\d{2}\.?\d{2}\.?\d{2}-?\d{3}\.?\d{2}"), "stdnum.be.nn",
         words("rijksregister", "registre national", "national n", "niss", "insz")),
    Kind("PL_PESEL", _rx(r"\d{11}"), "stdnum.pl.pesel", words("pesel")),
    Kind("SE_PERSONNUMMER", _rx(r"(?:19|20)?\d{6}[-+]\d{4}"), "stdnum.se.personnummer",
         words("personnummer", "person ?nr", "social security", _ID)),
    Kind("NO_FODSELSNUMMER", _rx(r"\d{6} ?\d{5}"), "stdnum.no.fodselsnummer",
         words("fødselsnummer", "fodselsnummer", "personnummer", "national id")),
    Kind("DK_CPR", _rx(r"\d{6}-?\d{4}"), "stdnum.dk.cpr", words("cpr", "personnummer")),
    Kind("FI_HETU", _rx(r"\d{6}[-+A]\d{3}[0-9A-FHJ-NPR-Y]"), "stdnum.fi.hetu",
         words("henkilötunnus", "hetu", "personbeteckning", _ID), alone=True, base=0.75),
    Kind("PT_NIF", _rx(r"\d{3} ?\d{3} ?\d{3}"), "stdnum.pt.nif", words("nif", "contribuinte")),
    Kind("BR_CPF", _rx(r"\d{3}\.\d{3}\.\d{3}-\d{2}"), "stdnum.br.cpf", words("cpf"), alone=True, base=0.85),
    Kind("BR_CPF", _rx(r"\d{11}"), "stdnum.br.cpf", words("cpf")),
    Kind("IN_AADHAAR", _rx(r"[2-9]\d{3} ?\d{4} ?\d{4}"), "stdnum.in_.aadhaar", words("aadhaar", "aadhar", "uidai")),
    Kind("IN_PAN", _rx(r"[A-Z]{3}[ABCFGHJLPT][A-Z]\d{4}[A-Z]"), "stdnum.in_.pan",
         words("pan\\b", "permanent account", "income tax")),
    Kind("CN_RESIDENT_ID", _rx(r"[1-9]\d{16}[\dXx]"), "stdnum.cn.ric", words("身份证", "resident", "id\\b"), alone=True,
         base=0.9),
    Kind("KR_RRN", _rx(r"\d{6}-[1-8]\d{6}"), "stdnum.kr.rrn", words("주민", "resident", "rrn"), alone=True, base=0.75),
    Kind("JP_MY_NUMBER", _rx(r"\d{4}[ -]?\d{4}[ -]?\d{4}"), "stdnum.jp.in_", words("マイナンバー", "個人番号", "my number")),
    Kind("ZA_ID", _rx(r"\d{13}"), "stdnum.za.idnr", words("south africa", "rsa id", "identity n", "id number")),
    Kind("MX_CURP", _rx(r"[A-Z]{4}\d{6}[HM][A-Z]{5}[0-9A-Z]\d"), "stdnum.mx.curp", words("curp"), alone=True, base=0.9),
    Kind("CH_AHV", _rx(r"756\.\d{4}\.\d{4}\.\d{2}"), "stdnum.ch.ssn", words("ahv", "avs", "sozialversicherung"),
         alone=True, base=0.9),
    Kind("AT_SVNR", _rx(r"\d{4} ?\d{6}"), "stdnum.at.vnr", words("svnr", "sozialversicherung", "versicherungsnummer")),
    Kind("TR_TCKN", _rx(r"[1-9]\d{10}"), "stdnum.tr.tckimlik", words("kimlik", "tckn", "t\\.?c\\.? no")),
    Kind("RO_CNP", _rx(r"[1-8]\d{12}"), "stdnum.ro.cnp", words("cnp", "cod numeric")),
    Kind("CZ_BIRTH_NUMBER", _rx(r"\d{6}/\d{3,4}"), "stdnum.cz.rc", words("rodné číslo", "rodne cislo", "r\\. ?č")),
    Kind("HR_OIB", _rx(r"\d{11}"), "stdnum.hr.oib", words("oib")),
    Kind("IL_ID", _rx(r"\d{9}"), "stdnum.il.idnr", words("תעודת זהות", "teudat zehut", 'ת"ז')),
    Kind("US_ROUTING_NUMBER", _rx(r"\d{9}"), "stdnum.us.rtn", words("routing", "aba\\b", "rtn\\b"), sure=0.8,
         accept=_not_repeated),
    Kind("IMEI", _rx(r"\d{2}-?\d{6}-?\d{6}-?\d"), "stdnum.imei", words("imei"), accept=_not_repeated),
    Kind("BITCOIN_ADDRESS", _rx(r"(?:bc1[02-9ac-hj-np-z]{11,71}|[13][1-9A-HJ-NP-Za-km-z]{25,34})"), "stdnum.bitcoin",
         words("bitcoin", "btc", "wallet"), alone=True, base=0.8, sure=0.9),
    Kind("BANK_ACCOUNT", _rx(r"\d{6,17}"), None,
         words("(?:bank |checking |savings )account (?:no\\.?|number|nr\\.?|#)", "account (?:no\\.?|number|#)",
               "acct\\.? ?(?:no\\.?|#)", "kontonummer", "numéro de compte", "número de cuenta"),
         before=30, sure=0.7, accept=_not_repeated),
    Kind("US_DRIVER_LICENSE", _rx(r"(?=[A-Z]*\d)[A-Z]{0,3}\d[A-Z0-9-]{4,14}"), None,
         words("driver'?s? licen[cs]e", "driving licen[cs]e", "dl ?(?:no|#|number)", "führerschein", "permis de conduire"),
         before=45, sure=0.7),
    Kind("PASSPORT", _rx(r"(?=[A-Z]*\d)[A-Z0-9]{6,9}"), None,
         words("passport (?:no\\.?|number|nr\\.?|#|id|is\\b)", "passport\\s*:", "passport", "reisepass", "passeport",
               "pasaporte", "passaporto", "护照", "パスポート"),
         before=40, sure=0.8, accept=lambda value: sum(map(str.isdigit, value)) >= 5),
)  # fmt: skip
_CANDIDATE = re.compile(r"\d(?:[ .\-/]{0,2}[0-9A-Z]){5,}")
_LONG_CODE = re.compile(r"(?<!\w)(?:bc1|[13])[0-9A-Za-z]{25,}")
_LONG_LEAST = 26
_MRZ = re.compile(
    r"(?<![A-Z0-9<])P[A-Z<][A-Z]{3}[A-Z<]{39}\s+([A-Z0-9<]{9}\d[A-Z]{3}\d{7}[MFX<]\d{7}[A-Z0-9<]{14}[\d<]\d)"
)


def detect(passage: Passage) -> Iterator[Finding]:
    """Yield the identifiers of a page."""
    if not passage.has_digits:
        return
    yield from _passports(passage)
    regions = _regions(passage)
    if not regions:
        return
    for kind in KINDS:
        if not kind.alone and not passage.has(kind.hints):
            continue
        named: bool | None = True if kind.alone else None
        for low, high in regions:
            for match in kind.pattern.finditer(passage.folded, low, high):
                if named is None:
                    named = kind.context.search(passage.lower) is not None
                finding = _judge(kind, match[0], match.start(), match.end(), passage) if named else None
                if finding is not None:
                    yield finding


def _regions(passage: Passage) -> list[tuple[int, int]]:
    """Return the stretches that look like a number or code of six characters or more, joined where they touch."""
    text = passage.folded
    found = [match.span() for match in _CANDIDATE.finditer(text)]
    if passage.longest >= _LONG_LEAST:
        found = sorted([*found, *(match.span() for match in _LONG_CODE.finditer(text))])
    regions: list[tuple[int, int]] = []
    for start, end in found:
        low, high = max(0, start - 9), min(len(text), end + 4)
        if regions and low <= regions[-1][1]:
            regions[-1] = (regions[-1][0], max(high, regions[-1][1]))
        else:
            regions.append((low, high))
    return regions


def _judge(kind: Kind, value: str, start: int, end: int, passage: Passage) -> Finding | None:
    if not kind.accept(value):
        return None
    verdict = Verdict("structure", None)
    if kind.check is not None:
        trimmed = _valid_lead(kind, value)
        if trimmed is None:
            return None
        end = start + len(trimmed)
        value = trimmed
        verdict = Verdict(_name(kind.check), True)
    context = passage.near(
        kind.context, start, end, before=kind.before, unbroken=kind.check is None and not kind.alone
    )
    if context is None and not kind.alone:
        return None
    weight = kind.sure if context else kind.base
    if kind.type == "CREDIT_CARD":
        if re.sub(r"\D", "", value) in _CARD_TEST:
            return passage.finding(
                "personal.test_card",
                "TEST_CARD",
                "personal",
                start,
                end,
                verdict=verdict,
                context=context,
                weight=0.1,
            )
        if context is None and " " not in value and "-" not in value:
            weight = 0.4
    return passage.finding(
        f"personal.{kind.type.lower()}", kind.type, "personal", start, end,
        verdict=verdict, context=context, weight=weight,
    )  # fmt: skip


def _valid_lead(kind: Kind, value: str) -> str | None:
    """Return the value, or for an IBAN the part of it that is one (a blank and more text may follow)."""
    check = _checker(kind.check or "")
    if check(value):
        return value
    if kind.type == "IBAN":
        while " " in value:
            value = value.rpartition(" ")[0]
            if check(value):
                return value
    return None


def _name(check: str) -> str:
    return {"card": "luhn+issuer", "stdnum.iban": "mod97+country"}.get(check, check)


@cache
def _checker(check: str) -> Callable[[str], bool]:
    if check == "card":
        return card
    module: Any = import_module(check)
    if check == "stdnum.iban":
        return lambda value: bool(module.is_valid(value, check_country=False))
    valid: Callable[[str], bool] = module.is_valid
    return valid


def _passports(passage: Passage) -> Iterator[Finding]:
    """Find machine-readable zones of passports (ICAO 9303-4, two lines of 44 characters)."""
    if "<<" not in passage.folded:
        return
    for match in _MRZ.finditer(passage.folded):
        line = match[1]
        fields = ((line[0:9], line[9]), (line[13:19], line[19]), (line[21:27], line[27]))
        if all(mrz_digit(value) == digit for value, digit in fields):
            yield passage.finding(
                "personal.passport_mrz", "PASSPORT", "personal", match.start(), match.end(),
                verdict=Verdict("icao9303", True), context="machine-readable zone", weight=0.97,
            )  # fmt: skip


def mrz_digit(value: str) -> str:
    """Return the check digit of a field of a machine-readable zone: weights 7, 3, 1, modulo 10."""
    numbers = (0 if char == "<" else int(char, 36) for char in value)
    return str(sum(number * (7, 3, 1)[place % 3] for place, number in enumerate(numbers)) % 10)
