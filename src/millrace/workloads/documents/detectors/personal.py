"""Personal data without a checksum: names by their labels, contact data, dates of birth, addresses,
and terms of health and pay where a person or an amount stands near."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from millrace.workloads.documents.detectors.identifiers import words
from millrace.workloads.documents.detectors.passage import Hints, Passage
from millrace.workloads.documents.document import Finding, Verdict

_EMAIL = re.compile(
    r"(?<![\w.+-])[A-Za-z0-9_%+-][\w.%+-]{0,62}@(?:[A-Za-z0-9-]{1,63}\.){1,6}[A-Za-z]{2,24}(?![\w-])"
)
_SAMPLE_DOMAIN = re.compile(
    r"@(?:.+\.)?(?:example\.(?:com|org|net)|.+\.(?:example|invalid|test|localhost))$", re.I
)
_ROLE = re.compile(r"(?:info|contact|support|sales|help|office|press|media|admin|noreply|no-reply|webmaster|privacy|"
                   r"legal|jobs|careers|hello|service|enquiries|inquiries|marketing|security|abuse)@", re.I)  # fmt: skip
_PHONE = re.compile(
    r"(?<![\w.,$€£/+-])(?:\+|\(\+?)?\d(?:[\d \-.()/]|\u200e){5,22}\d(?:\s?(?:x|ext\.?|extension)\s?\d{1,6})?(?![\w]|[.,-]\d)",
    re.IGNORECASE,
)
_PHONE_LEAST, _PHONE_GAPS = 7, frozenset(" -.()/\u200e")
_NANP = re.compile(
    r"(?:(?:\+?1|001)[ .-])?\(?[2-9]\d{2}\)?[ .-]\d{3}[ .-]\d{4}(?:\s?(?:x|ext).*)?", re.IGNORECASE
)
_PHONE_WORDS = words(
    "phone", "telephone", "tel\\b", "tel[.:]", "mobile", "cell\\b", "cell[.: ]?phone", "fax", "call (?:me|us|him|her)",
    "call\\b", "contact", "whatsapp", "sms\\b", "desk\\b", "office\\b", "hotline", "dial", "reach (?:me|us)", "telefon",
    "handy", "mobil", "téléphone", "teléfono", "telefono", "telefone", "móvil", "電話", "电话", "手机", "전화", "телефон",
    "هاتف", "טלפון",
)  # fmt: skip
_DATE_LIKE = re.compile(
    r"(?:\d{4}[-./ ]\d{1,2}[-./ ]\d{1,2}|\d{1,2}[-./]\d{1,2}[-./](?:19|20)?\d{2})(?:\b.*)?"
)
_MONTHS = (
    "jan(?:uary|uar|uari|vier)?|feb(?:ruary|ruar|ruari)?|février|mar(?:ch|s|zo)?|märz|apr(?:il)?|avril|abril|may|mai|"
    "mei|mayo|june?|juin|junio?|july?|juillet|julio|aug(?:ust)?|août|agosto|sept?(?:ember|embre|iembre)?|"
    "o[ck]t(?:ober|obre|ubre)?|nov(?:ember|embre|iembre)?|de[cz](?:ember)?|décembre|diciembre"
)
_DATE = re.compile(
    r"(?<!\d)(?:\d{4}[-./]\d{1,2}[-./]\d{1,2}|\d{1,2}[-./]\d{1,2}[-./](?:19|20)?\d{2}|"
    rf"\d{{1,2}}(?:st|nd|rd|th|er|\.)?\s(?:de\s)?(?:{_MONTHS})\.?,?\s(?:de\s)?(?:19|20)\d{{2}}|"
    rf"(?:{_MONTHS})\.?\s\d{{1,2}}(?:st|nd|rd|th)?,?\s(?:19|20)\d{{2}}|"
    r"(?:19|20)\d{2}年\d{1,2}月\d{1,2}日|(?:19|20)\d{2}년 ?\d{1,2}월 ?\d{1,2}일)(?!\d)",
    re.IGNORECASE,
)
_BIRTH_WORDS = words(
    "date of birth", "birth ?date", "birthday", "d\\.?o\\.?b\\b", "(?:was |is |were |am )?born(?: on)?", "geboren",
    "geburtsdatum", "geb\\.", "né[e]? le", "date de naissance", "nacid[oa]", "fecha de nacimiento", "nat[oa] il",
    "data di nascita", "nascimento", "geboortedatum", "生年月日", "出生", "생년월일", "дата рождения", "تاريخ الميلاد",
    "תאריך לידה", "födelsedatum", "data urodzenia",
)  # fmt: skip
_BIRTH_HINTS = Hints(
    "birth", "dob", "d.o.b", "born", "geboren", "geburtsdatum", "geb.", "né ", "née ", "naissance", "nacid",
    "nacimiento", "nato il", "nata il", "nascita", "nascimento", "geboortedatum", "生年月日", "出生", "생년월일", "дата рожд",
    "تاريخ", "תאריך", "födelsedatum", "data urodzenia",
)  # fmt: skip
_IPV4 = re.compile(
    r"(?<![\w.-])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\w-]|\.\d)"
)
_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{1,4}:){2,7}(?::?[0-9A-Fa-f]{1,4}){1,6}(?![\w:])")
_COLONS = re.compile(r":[0-9A-Fa-f]{0,4}:")
_VERSION_WORDS = words("version", "section", "§", "v\\.", "release", "chapter", "clause", "article", "annex")
_STREETS_AFTER = (
    "street|st|avenue|ave|road|rd|boulevard|blvd|lane|ln|drive|dr|court|ct|circle|cir|way|place|pl|square|sq|terrace|"
    "ter|parkway|pkwy|highway|hwy|close|crescent|gardens|grove|mews|row|walk|hill|quay|trail|trl|alley|loop|plaza"
)
_FROM_NUMBER = (
    re.compile(
        r"(?<![\w.,/-])\d{1,5}[A-Za-z]?(?:[ -]\d{1,5})?,? (?:(?:N|S|E|W|NE|NW|SE|SW|North|South|East|West)\.? )?"
        rf"(?:[A-Z0-9][\w'’.-]* ){{1,4}}(?i:{_STREETS_AFTER})\b\.?"
        r"(?:,? (?i:apt|apartment|suite|ste|unit|floor|flat|#)\.? ?\w{1,6})?"
    ),
    re.compile(
        r"(?<!\w)\d{1,4}(?: ?(?:bis|ter))?,? (?:rue|avenue|boulevard|place|chemin|allée|impasse|quai|route) "
        r"(?:de |du |des |d'|la |le |les |l')*[A-ZÀ-Ý][\wÀ-ÿ'’-]+(?: [A-ZÀ-Ý][\wÀ-ÿ'’-]+){0,3}"
    ),
)
"""Addresses that begin with a house number."""
_GERMANIC = re.compile(
    r"(?<!\w)[A-ZÄÖÜ][\wäöüßÄÖÜ-]{2,30}(?:straße|strasse|str\.|gasse|weg|platz|allee|ufer|damm|straat|laan|plein|"
    r"gracht|gatan|vägen|gata|vej|gade|katu|tie) \d{1,4} ?[a-zA-Z]?\b"
)
_GERMANIC_ENDS = frozenset("e.gzmrtnaju")
_US_CITY = re.compile(
    r"(?<!\w)[A-Z][a-z]+(?: [A-Z][a-z]+){0,2},? (?:A[KLRZ]|C[AOT]|D[CE]|FL|GA|HI|I[ADLN]|K[SY]|LA|M[ADEINOST]|"
    r"N[CDEHJMVY]|O[HKR]|PA|RI|S[CD]|T[NX]|UT|V[AT]|W[AIVY]) \d{5}(?:-\d{4})?(?!\w)"
)
_UK_CODE = re.compile(
    r"(?<!\w)(?:[A-PR-UWYZ]\d{1,2}|[A-PR-UWYZ][A-HK-Y]\d[A-Z\d]?|[A-PR-UWYZ]\d[A-HJKPSTUW]) \d[ABD-HJLNP-UW-Z]{2}"
    r"(?!\w)"
)
_BY_WORD = (
    (Hints("box"), 8, 12, re.compile(r"(?<!\w)(?i:p\.? ?o\.? box) \d{1,7}")),
    (
        Hints("calle ", "c/ ", "avenida ", "avda", "plaza ", "paseo ", "carrer ", "via ", "viale ", "piazza ",
              "corso ", "rua ", "ulica ", "ul. "),
        0,
        120,
        re.compile(
            r"(?<!\w)(?i:calle|c/|avenida|avda\.?|plaza|paseo|carrer|via|viale|piazza|corso|rua|ulica|ul\.) "
            r"(?:de |del |la |las |los |da |do |dos |di |della )*[A-ZÀ-Ý][\wÀ-ÿ'’-]+(?: [A-ZÀ-Ý][\wÀ-ÿ'’-]+){0,3},? ?"
            r"(?:n[.º°]* ?)?\d{1,4}\b"
        ),
    ),
    (Hints("〒"), 0, 12, re.compile(r"〒\s?\d{3}-\d{4}")),
)  # fmt: skip
"""Addresses that are found by a word: its hints, how far the address reaches before and after one, its form."""
_ADDRESS_WORDS = words("address", "lives? (?:at|in|on)", "residing", "residence", "ship to", "bill to", "anschrift",
                       "adresse", "dirección", "indirizzo", "endereço", "住所", "地址", "wohnhaft", "zip\\b",
                       "post ?code", "return to", "city", "street", "〒")  # fmt: skip
_NAME_LABEL = re.compile(
    r"(?<![\w-])(?i:(?:(?:full|legal|first|last|given|family|middle|sur|patient(?:'s)?|employee(?:'s)?|customer|applicant"
    r"(?:'s)?|client|borrower|candidate|account ?holder|card ?holder|policy ?holder|beneficiary|tenant|student|"
    r"insured|taxpayer|spouse|emergency contact|dependent) ?name|name of (?:patient|employee|applicant|insured)|"
    r"name|patient|employee|applicant|account ?holder|card ?holder|policy ?holder|nom|nombre|cognome|nome|"
    r"vorname|nachname))[ \t]*[:：][ \t]*"
    r"((?:(?:Mr|Mrs|Ms|Dr|Prof)\.? )?[A-ZÀ-ÝŁŚŻ][\w'’.-]+(?:[ \t]*,?[ \t][A-ZÀ-ÝŁŚŻ][\w'’.-]*){0,3})"
)
_NAME_CJK = re.compile(
    r"(?:姓名|氏名|お名前|患者名|성명|이름)[ \t]*[:：]?[ \t]*([\u3400-\u9fff\uac00-\ud7a3]{2,4}(?:[ \u3000][\u3400-\u9fff]{1,3})?)"
)
_NAME_TITLE = re.compile(r"(?<!\w)(?:Mr|Mrs|Ms|Miss|Dr)\.? ([A-Z][a-zà-ÿ'’-]+(?: [A-Z][a-zà-ÿ'’-]+){0,2})")
_NAME_INTRO = re.compile(
    r"(?<!\w)(?i:my name is|i am called|signed by|dear) ((?:[A-Z][a-zà-ÿ'’-]+)(?: [A-Z][a-zà-ÿ'’-]+){1,2})"
)
_NAMES = (
    (
        Hints("name", "patient", "employee", "applicant", "holder", "accountholder", "cardholder", "policyholder", "nom",
              "cognome", "vorname", "nachname", "surname", "fullname", "firstname", "lastname", "middlename", "familyname",
              "givenname", "legalname"),
        30, 140, _NAME_LABEL, 0.7,
    ),
    (Hints("姓名", "氏名", "お名前", "患者名", "성명", "이름"), 0, 20, _NAME_CJK, 0.7),
    (Hints("my name is", "i am called", "signed by", "dear "), 0, 100, _NAME_INTRO, 0.5),
    (Hints("mr", "mrs", "ms", "miss", "dr"), 0, 80, _NAME_TITLE, 0.45),
)  # fmt: skip
_AUTHOR = re.compile(
    r"(?m)^(Author|Last modified by|Manager|Artist|XPAuthor|Caption writer|Credit):\t([^\n\t]*[^\W\d_][^\n\t]*)"
)
_NOT_NAMES = re.compile(r"(?i)\b(?:company|inc|llc|ltd|gmbh|corp|university|department|address|date|phone|number|check|"
                        r"submit|file|title|sir|madam|customer|team|all|colleagues?|hiring|email|state|city)\b")  # fmt: skip
_MRN = re.compile(r"(?<!\w)(?i:medical record (?:no\.?|number|#)|mrn|patient id|patient (?:no\.?|number))[ \t]*[:#]?[ \t]*"
                  r"([A-Z]{0,3}-?\d[\dA-Z-]{3,12})")  # fmt: skip
_MEMBER = re.compile(r"(?<!\w)(?i:(?:insurance|member|policy|subscriber|health plan) (?:id|no\.?|number|#))[ \t]*[:#]?[ \t]*"
                     r"((?=[A-Z-]*\d)[A-Z0-9-]{5,16})(?!\w)")  # fmt: skip
_RECORDS = (
    (Hints("medical rec", "mrn", "patient"), _MRN, "MEDICAL_RECORD_NUMBER"),
    (Hints("insurance", "member", "policy", "subscriber", "health plan"), _MEMBER, "HEALTH_INSURANCE_ID"),
)
_HEALTH = re.compile(
    r"(?<!\w)(?:diagnos(?:is|ed with|es)|icd-?10|prescri(?:bed|ption)s?|dosage|chemotherapy|biopsy|hiv[- ]positive|"
    r"blood (?:type|pressure)|allerg(?:y|ies)|symptoms?|medical history|treatment plan|discharge summary|"
    r"lab(?:oratory)? results?|mental health|psychiatric|therap(?:y|ist)|surgery|pregnan(?:t|cy)|immuni[sz]ation|"
    r"physician|health insurance|diabetes|cancer|depression|disabilit(?:y|ies)|diagnose|befund|krankheit|"
    r"ordonnance|diagnostic médical|diagnóstico|historia clínica|診断|病歴|诊断|病历)(?!\w)"
)
_HEALTH_HINTS = Hints(
    "diagnos", "icd", "prescri", "dosage", "chemo", "biopsy", "hiv", "blood", "allerg", "symptom", "medical hist",
    "treatment plan", "discharge", "lab", "mental health", "psychiatric", "therap", "surgery", "pregnan", "immuni", "physician",
    "health insurance", "diabetes", "cancer", "depression", "disabilit", "befund", "krankheit", "ordonnance", "historia", "診断",
    "病歴", "诊断", "病历",
)  # fmt: skip
_PERSON_WORDS = words("patient", "name\\s*:", "date of birth", "dob\\b", "mrn\\b", "admitted", "his\\b", "her\\b", "patientin",
                      "employee", "患者", "病人", "paciente")  # fmt: skip
_PAY = re.compile(
    r"(?<!\w)(?:gross pay|net pay|base salary|annual salary|monthly salary|salary|wages?|pay ?stub|pay ?slip|payroll|"
    r"compensation|bonus|year[- ]to[- ]date|ytd|withholding|deductions?|hourly rate|overtime|direct deposit|"
    r"gehalt|bruttolohn|nettolohn|lohnabrechnung|salaire (?:brut|net)|bulletin de paie|nómina|salario|stipendio|"
    r"busta paga|給与|工资)(?!\w)"
)
_PAY_HINTS = Hints(
    "pay", "gross", "net", "base", "annual", "monthly", "brutto", "netto", "busta", "bulletin", "salary", "wage", "compensation", "bonus", "year-to", "year to", "ytd", "withholding", "deduction", "hourly",
    "overtime", "deposit", "gehalt", "lohn", "salaire", "nómina", "salario", "stipendio", "給与", "工资",
)  # fmt: skip
_MONEY = re.compile(
    r"(?:[$€£¥]|usd|eur|gbp|chf|inr|rs\.?)\s?\d[\d.,' ]*\d|\d[\d.,']*\d\s?(?:[$€£¥]|usd|eur|gbp|chf|円|元)"
)


def detect(passage: Passage) -> Iterator[Finding]:
    """Yield the personal data of a page."""
    yield from _emails(passage)
    yield from _names(passage)
    if passage.is_metadata:
        yield from _authors(passage)
    yield from _health(passage)
    if passage.has_digits:
        yield from _births(passage)
        yield from _phones(passage)
        yield from _addresses(passage)
        yield from _network(passage)
        yield from _pay(passage)


def _emails(passage: Passage) -> Iterator[Finding]:
    if "@" not in passage.folded:
        return
    for match in _EMAIL.finditer(passage.folded, max(0, passage.folded.index("@") - 64)):
        weight = 0.1 if _SAMPLE_DOMAIN.search(match[0]) else 0.4 if _ROLE.match(match[0]) else 0.85
        yield passage.finding("personal.email_address", "EMAIL_ADDRESS", "personal", *match.span(),
                              verdict=Verdict("structure", True), weight=weight)  # fmt: skip


@cache
def _numbers() -> Any:
    import phonenumbers

    return phonenumbers


def _phones(passage: Passage) -> Iterator[Finding]:
    done = 0
    for start in passage.long_numbers(_PHONE_LEAST, _PHONE_GAPS):
        match = _PHONE.search(passage.folded, max(done, start - 2), start + 48)
        if match is None or match.start() > start:
            continue
        done = match.end()
        value = match[0]
        digits = sum(map(str.isdigit, value))
        if not 7 <= digits <= 21 or _DATE_LIKE.fullmatch(value) or "  " in value or "\n" in value:
            continue
        if value.count("(") != value.count(")"):
            continue
        context = passage.near(_PHONE_WORDS, *match.span(), before=45, after=12)
        verdict, weight = _judge_phone(value, context is not None)
        if weight:
            yield passage.finding("personal.phone_number", "PHONE_NUMBER", "personal", *match.span(),
                                  verdict=verdict, context=context, weight=weight)  # fmt: skip


def _judge_phone(value: str, context: bool) -> tuple[Verdict, float]:
    """Return the verdict of libphonenumber and a weight; 0 where it does not look like a number to call."""
    numbers = _numbers()
    international = value.lstrip("(").startswith(("+", "00"))
    nanp = bool(_NANP.fullmatch(value))
    if international or nanp:
        written = "+" + value.lstrip("(")[2:] if value.lstrip("(").startswith("00") else value
        try:
            number = numbers.parse(written, None if international else "US")
            valid = numbers.is_valid_number(number)
        except numbers.NumberParseException:
            valid = False
        if valid:
            return Verdict("libphonenumber", True), 0.9 if context or international else 0.75 if any(
                c in value for c in "(-"
            ) else 0.45
        if nanp or context:
            return Verdict("libphonenumber", False), 0.6 if context else 0.3
        return Verdict("libphonenumber", False), 0.0
    grouped = any(char in " -.()/" for char in value.strip())
    return Verdict("libphonenumber", None), 0.6 if context and (grouped or value.startswith("0")) else 0.0


def _births(passage: Passage) -> Iterator[Finding]:
    windows = passage.windows(_BIRTH_HINTS, 0, 100)
    for match in (m for low, high in windows for m in _DATE.finditer(passage.folded, low, high)):
        context = passage.near(_BIRTH_WORDS, *match.span(), before=45, after=0)
        if context:
            yield passage.finding("personal.date_of_birth", "DATE_OF_BIRTH", "personal", *match.span(),
                                  context=context, weight=0.85)  # fmt: skip


def _addresses(passage: Passage) -> Iterator[Finding]:
    for match in _address_matches(passage):
        context = passage.near(_ADDRESS_WORDS, *match.span(), before=60)
        yield passage.finding("personal.address", "ADDRESS", "personal", *match.span(),
                              context=context, weight=0.7 if context else 0.45)  # fmt: skip


def _address_matches(passage: Passage) -> Iterator[re.Match[str]]:
    """Look around each number for the forms of addresses, from what is cheapest to see."""
    text = passage.folded
    for start, end in passage.numbers:
        size = end - start
        if size > 5:
            continue
        for pattern in _FROM_NUMBER:
            if match := pattern.match(text, start):
                yield match
        before = text[max(0, start - 3) : start]
        if before[-1:] != " ":
            continue
        if before[-2:-1] in _GERMANIC_ENDS and (match := _until(_GERMANIC, text, start, end)):
            yield match
        if size == 5 and before[:2].isupper() and (match := _until(_US_CITY, text, start, end)):
            yield match
        if size == 1 and text[end : end + 2].isupper() and (match := _until(_UK_CODE, text, start, end)):
            yield match
    for hints, left, right, pattern in _BY_WORD:
        for low, high in passage.windows(hints, left, right):
            yield from pattern.finditer(text, low, high)


def _until(pattern: re.Pattern[str], text: str, start: int, end: int) -> re.Match[str] | None:
    """Return the match, begun at most 50 characters before a number, that ends with it or beyond it."""
    low = max(0, start - 50)
    while (match := pattern.search(text, low, end + 6)) is not None and match.end() < end:
        low = match.end()
    return match


def _network(passage: Passage) -> Iterator[Finding]:
    dotted = any(passage.folded[end : end + 1] == "." and passage.folded[end + 1 : end + 2].isdigit()
                 for _, end in passage.numbers)  # fmt: skip
    for match in _IPV4.finditer(passage.folded) if dotted else ():
        if not passage.near(_VERSION_WORDS, *match.span(), before=20, after=0):
            yield passage.finding("personal.ip_address", "IP_ADDRESS", "personal", *match.span(),
                                  verdict=Verdict("structure", True), weight=0.3)  # fmt: skip
    if passage.folded.count(":") > 3:
        near = (m.start() for m in _COLONS.finditer(passage.folded))
        found = (m for at in near for m in _IPV6.finditer(passage.folded, max(0, at - 6), at + 50))
        for match in {m.start(): m for m in found}.values():
            if match[0].count(":") == 7 or "::" in match[0]:
                yield passage.finding("personal.ip_address", "IP_ADDRESS", "personal", *match.span(),
                                      verdict=Verdict("structure", True), weight=0.3)  # fmt: skip


def _names(passage: Passage) -> Iterator[Finding]:
    for hints, before, after, pattern, weight in _NAMES:
        windows = passage.windows(hints, before, after)
        for match in (m for low, high in windows for m in pattern.finditer(passage.folded, low, high)):
            if not _NOT_NAMES.search(match[1]):
                yield passage.finding("personal.person", "PERSON", "personal", match.start(1), match.end(1),
                                      context=" ".join(match[0][: match.start(1) - match.start()].split()) or None,
                                      weight=weight)  # fmt: skip


def _authors(passage: Passage) -> Iterator[Finding]:
    """Yield who wrote, changed or manages a file; weak, for it may be a program or an account."""
    for match in _AUTHOR.finditer(passage.text):
        yield passage.finding("personal.author", "PERSON", "personal", *match.span(2), context=match[1].lower(),
                              weight=0.3)  # fmt: skip


def _health(passage: Passage) -> Iterator[Finding]:
    for hints, pattern, type_ in _RECORDS:
        if not passage.has_digits or not passage.has(hints):
            continue
        for match in pattern.finditer(passage.folded):
            yield passage.finding(f"personal.{type_.lower()}", type_, "personal", match.start(1), match.end(1),
                                  context=match[0][: match.start(1) - match.start()].strip(" :#\t"),
                                  weight=0.85)  # fmt: skip
    for match in passage.matches(_HEALTH, passage.windows(_HEALTH_HINTS, 12, 40)):
        context = passage.near(_PERSON_WORDS, *match.span(), before=160, after=160)
        if context:
            yield passage.finding(
                "health.term", "HEALTH_TERM", "health", *match.span(), context=context, weight=0.5
            )


def _pay(passage: Passage) -> Iterator[Finding]:
    for match in passage.matches(_PAY, passage.windows(_PAY_HINTS, 16, 40)):
        money = _MONEY.search(passage.lower, match.end(), min(len(passage.lower), match.end() + 60))
        if money:
            yield passage.finding("payroll.term", "PAYROLL_TERM", "payroll", match.start(), money.end(),
                                  context=" ".join(match[0].split()), weight=0.6)  # fmt: skip
