"""What counts as evidence, what does not, and that every finding stands where it says."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest
from benchmarks.documents import labelled_passages
from hypothesis import given, settings
from hypothesis import strategies as st
from stdnum import luhn as stdnum_luhn

from millrace.workloads.documents.detectors import detect, masked_text
from millrace.workloads.documents.detectors.identifiers import card, luhn, mrz_digit
from millrace.workloads.documents.detectors.secrets import github_checksum
from millrace.workloads.documents.document import Finding, Page
from tests.unit.documents.samples import types


def found(text: str) -> list[Finding]:
    return detect(Page(1, text))


def one(text: str, type_: str) -> Finding:
    matching = [finding for finding in found(text) if finding.type == type_]
    assert len(matching) == 1, [(f.type, text[f.start : f.end]) for f in found(text)]
    return matching[0]


VALUES = [
    ("my card # 5213591727586604 expired", "CREDIT_CARD", "5213591727586604"),
    ("Visa card 4532 2766 4457 7020 please", "CREDIT_CARD", "4532 2766 4457 7020"),
    ("IBAN: DE89 3704 0044 0532 0130 00 at the bank", "IBAN", "DE89 3704 0044 0532 0130 00"),
    ("Pay to GB82WEST12345698765432 today", "IBAN", "GB82WEST12345698765432"),
    ("SSN 531-21-7351", "US_SSN", "531-21-7351"),
    ("Social Security Number: 531217351", "US_SSN", "531217351"),
    ("NHS number 943 476 5919", "UK_NHS_NUMBER", "943 476 5919"),
    ("National Insurance AB 12 34 56 C", "UK_NINO", "AB 12 34 56 C"),
    ("SIN 130 692 544", "CA_SIN", "130 692 544"),
    ("Steuer-ID 36 574 261 809", "DE_TAX_ID", "36 574 261 809"),
    ("N° de sécurité sociale 2 53 01 75 116 001 57", "FR_NIR", None),
    ("DNI 54362315K", "ES_DNI", "54362315K"),
    ("codice fiscale RCCMNL83S18D969H", "IT_FISCAL_CODE", "RCCMNL83S18D969H"),
    ("BSN 111222333", "NL_BSN", "111222333"),
    ("PESEL 44051401359", "PL_PESEL", "44051401359"),
    ("CPF 390.533.447-05", "BR_CPF", "390.533.447-05"),
    ("身份证号码：11010519491231002X", "CN_RESIDENT_ID", "11010519491231002X"),
    ("AHV 756.9217.0769.85", "CH_AHV", "756.9217.0769.85"),
    ("Passport No: C03005988", "PASSPORT", "C03005988"),
    ("Driver's license number is 481195160", "US_DRIVER_LICENSE", "481195160"),
    ("write to ana.lopez@mill.co.uk", "EMAIL_ADDRESS", "ana.lopez@mill.co.uk"),
    ("Call me on +49 30 901820", "PHONE_NUMBER", "+49 30 901820"),
    ("Phone: (212) 736-5000", "PHONE_NUMBER", "(212) 736-5000"),
    ("Date of birth: 12/27/1986", "DATE_OF_BIRTH", "12/27/1986"),
    ("生年月日 1986年12月27日", "DATE_OF_BIRTH", "1986年12月27日"),
    ("né le 3 mars 1990 à Lyon", "DATE_OF_BIRTH", "3 mars 1990"),
    ("He lives at 742 Evergreen Terrace", "ADDRESS", "742 Evergreen Terrace"),
    ("Anschrift: Ziegelgasse 26, Wien", "ADDRESS", "Ziegelgasse 26"),
    ("MRN: 00482913 was admitted", "MEDICAL_RECORD_NUMBER", "00482913"),
    ("Patient name: Maria Gomez\n", "PERSON", "Maria Gomez"),
    ("رقم البطاقة card ٤٥٣٢٢٧٦٦٤٤٥٧٧٠٢٠", "CREDIT_CARD", "٤٥٣٢٢٧٦٦٤٤٥٧٧٠٢٠"),
    ("カード番号 ４５３２２７６６４４５７７０２０", "CREDIT_CARD", "４５３２２７６６４４５７７０２０"),
]


@pytest.mark.parametrize(("text", "type_", "value"), VALUES)
def test_personal_values(text: str, type_: str, value: str | None) -> None:
    if value is None:
        assert type_ not in types(found(text))  # a wrong check digit is no finding
        return
    finding = one(text, type_)
    assert text[finding.start : finding.end] == value
    assert value not in finding.snippet


@pytest.mark.parametrize(
    "text",
    [
        "my card # 5213591727586605 expired",  # wrong Luhn digit
        "card 1111 1111 1111 1111",
        "IBAN DE89 3704 0044 0532 0130 01",
        "SSN 000-12-3456 and 666-12-3456 and 123-45-6789",
        "The order 943 476 5919 has shipped",  # an NHS number needs to be called one
        "ISBN 978-3-16-148410-0 and figure 3.14159265358979",
        "released on 2024-01-15, version 10.0.19045.3803",
        "Passport photos are taken here",
        "a total of 1,234,567.89 units and $4,532,276.64",
        "doi:10.1000/182 arXiv:2101.00001 pages 123-456",
    ],
)
def test_what_only_looks_like_personal_data(text: str) -> None:
    strong = [f for f in found(text) if f.group == "personal" and f.weight >= 0.5]
    assert strong == []


def test_a_machine_readable_zone_is_checked() -> None:
    zone = "P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<\nL898902C36UTO7408122F1204159ZE184226B<<<<<10"
    assert one(zone, "PASSPORT").verdict.valid is True
    assert "PASSPORT" not in types(found(zone.replace("L898902C36", "L898902C35")))
    assert mrz_digit("L898902C3") == "6"


@given(st.text("0123456789", min_size=2, max_size=25))
def test_luhn_agrees_with_another_implementation(digits: str) -> None:
    assert luhn(digits) == stdnum_luhn.is_valid(digits)


@given(st.integers(0, 10**14 - 1), st.integers(0, 13), st.integers(1, 9))
def test_one_wrong_digit_is_always_noticed(body: int, place: int, change: int) -> None:
    digits = f"4{body:014d}"
    whole = next(digits + str(check) for check in range(10) if luhn(digits + str(check)))
    wrong = whole[: place + 1] + str((int(whole[place + 1]) + change) % 10) + whole[place + 2 :]
    assert not card(wrong)


@settings(max_examples=40)
@given(
    st.lists(
        st.sampled_from([value[0] for value in VALUES] + ["SECRET", "not confidential", "كلمة", "𝔘𝔫𝔦", "\n"]),
        max_size=8,
    ),
    st.text(max_size=40),
)
def test_every_finding_stands_where_it_says(parts: list[str], tail: str) -> None:
    text = " \n".join([*parts, tail])
    findings = detect(Page(3, text))
    assert findings == sorted(findings, key=lambda f: (f.start, f.end, f.rule))
    masked = masked_text(text, findings)
    assert len(masked) == len(text)
    taken = [(f.start, f.end) for f in findings if f.group in ("personal", "secret")]
    for finding in findings:
        assert 0 <= finding.start < finding.end <= len(text)
        assert finding.page == 3
        assert 0 < finding.weight <= 1
        bare = text[finding.start : finding.end]
        if finding.group in ("personal", "secret") and sum(map(str.isalnum, bare)) > 4:
            assert bare not in finding.snippet
    assert all(b[0] >= a[1] for a, b in itertools.pairwise(taken))


@given(st.text(max_size=300))
def test_no_text_breaks_a_detector(text: str) -> None:
    detect(Page(1, text))


SECRETS = [
    "AKIAQYLPMN5HFIQR7XYA",
    "glpat-abcDEF123456_-ghiJKL",
    "xoxb-123456789012-abcdefABCDEF",
    "sk_live_4eC39HqLyjWDarjtT1zdp7dc",
    "AIzaSyD-9tSrke72PouQMnMX-a7eZSW0jkFMBWY",
    "postgres://app:s3cr3tPa55@db.mill.org/x",
]


@pytest.mark.parametrize("secret", SECRETS)
def test_secrets_by_their_form(secret: str) -> None:
    findings = [f for f in found(f"deploy with {secret} tomorrow") if f.group == "secret"]
    assert len(findings) == 1
    assert findings[0].weight >= 0.8
    assert secret not in findings[0].snippet


def test_a_github_token_proves_itself_by_its_checksum() -> None:
    body = "".join(random.Random(3).choices("abcXYZ0123456789", k=30))
    good = one(f"token ghp_{body}{github_checksum(body)}", "GITHUB_TOKEN")
    bad = one(f"token ghp_{body}aaaaaa", "GITHUB_TOKEN")
    assert (good.verdict.valid, bad.verdict.valid) == (True, False)
    assert good.weight > bad.weight


def test_private_keys_and_passwords() -> None:
    key = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----"
    assert one(f"see\n{key}\nend", "PRIVATE_KEY").weight > 0.9
    assert one("password: Tr0ub4dor&3x!", "PASSWORD").weight >= 0.75


@pytest.mark.parametrize(
    "text",
    [
        "password: <your password>",
        "password = ${DB_PASSWORD}",
        "Password is required",
        "api_key: YOUR_API_KEY",
        "secret: xxxxxxxx",
        "password: ********",
        "The password policy: minimum length",
    ],
)
def test_placeholders_are_no_secrets(text: str) -> None:
    assert [f for f in found(text) if f.group == "secret"] == []


@pytest.mark.parametrize(
    ("text", "type_", "stance"),
    [
        ("CONFIDENTIAL\nBudget", "MARK_CONFIDENTIAL", "plain"),
        ("Classification: Confidential\n", "MARK_CONFIDENTIAL", "plain"),
        ("STRICTLY CONFIDENTIAL - Board only", "MARK_SECRET", "plain"),
        ("This report is NOT CONFIDENTIAL and may be shared", "MARK_CONFIDENTIAL", "negated"),
        ("It is no longer considered CONFIDENTIAL by us.", "MARK_CONFIDENTIAL", "negated"),
        ("Confidential: no\n", "MARK_CONFIDENTIAL", "negated"),
        ("NON-CONFIDENTIAL\n", "MARK_PUBLIC", "plain"),
        ("TLP:RED\n", "MARK_SECRET", "plain"),
        ("Do not distribute\n", "MARK_CONFIDENTIAL", "plain"),
        ("VERTRAULICH\nPlan", "MARK_CONFIDENTIAL", "plain"),
        ("社外秘\n計画", "MARK_CONFIDENTIAL", "plain"),
        ("机密\n计划", "MARK_SECRET", "plain"),
        ("سري للغاية\nالخطة", "MARK_SECRET", "plain"),
        ("FOR PUBLIC RELEASE\n", "MARK_PUBLIC", "plain"),
    ],
)
def test_marks_with_and_without_not(text: str, type_: str, stance: str) -> None:
    findings = [f for f in found(text) if f.group == "mark"]
    assert [(f.type, f.stance) for f in findings] == [(type_, stance)], [(f.type, f.stance) for f in findings]


@pytest.mark.parametrize(
    "text",
    [
        "We keep all confidential matters away from the public street.",
        "The public may visit the restricted area in the museum on Sundays.",
        "Two interns worked on the internal structure of the bridge.",
        "4 = Secret\n5 = Top Secret\n",
        "passphrase: 'top secret',",
    ],
)
def test_running_text_is_no_mark(text: str) -> None:
    assert [f for f in found(text) if f.group == "mark" and f.type != "MARK_PUBLIC"] == []


HARM = [
    ("I will kill you and your family.", "THREAT", "threat"),
    ("We are going to blow up the school on Monday.", "THREAT", "threat"),
    ("I know where you live.", "THREAT", "threat"),
    ("I want to kill myself tonight, this is my suicide note.", "SELF_HARM", "intent"),
    ("How to build a pipe bomb. Step 1: fill it with black powder.", "WEAPON_INSTRUCTIONS", "instruction"),
    ("Here is how to write ransomware and deploy it.", "CYBER_INSTRUCTIONS", "instruction"),
    ("I am looking for nude pictures of underage girls.", "CHILD_SAFETY", "solicitation"),
    ("They should all be shot. Let's exterminate them.", "VIOLENCE", "incitement"),
]
TALK = [
    ("The police report says the accused wrote 'I will kill you' to the victim, the court heard.", "THREAT"),
    (
        "Suicide prevention: if you feel you want to die, call the helpline; counsellors offer support.",
        "SELF_HARM",
    ),
    ("The museum shows the history of the grenade and research into its use.", "WEAPON_INSTRUCTIONS"),
    (
        "Security awareness training: how to detect phishing emails and protect accounts.",
        "CYBER_INSTRUCTIONS",
    ),
    ("The law prohibits child sexual abuse material; report it to the police hotline.", "CHILD_SAFETY"),
]


@pytest.mark.parametrize(("text", "type_", "stance"), HARM)
def test_harm_is_told_by_its_stance(text: str, type_: str, stance: str) -> None:
    stances = {f.stance for f in found(text) if f.type == type_}
    assert stance in stances


@pytest.mark.parametrize(("text", "type_"), TALK)
def test_talk_about_harm_is_discussion(text: str, type_: str) -> None:
    assert {f.stance for f in found(text) if f.type == type_} == {"discussion"}
    assert {f.stance for f in found(text) if f.group == "unsafe"} == {"discussion"}


@pytest.mark.parametrize(
    "text",
    [
        "the URL 'https://user:pass@sub.example.com:8080/p/a/t/h'",
        "amqp://guest:guest@localhost//",
        "password = utf8_to_utf16_dup(buf)",
    ],
)
def test_samples_in_manuals_are_no_strong_secrets(text: str) -> None:
    assert [f for f in found(text) if f.group == "secret" and f.weight >= 0.5] == []


@pytest.mark.parametrize(
    "text",
    [
        "kill all processes on the server",
        "we will execute the plan",
        "this will kill time",
        "a bath bomb set",
    ],
)
def test_harmless_turns_of_phrase(text: str) -> None:
    assert [f for f in found(text) if f.group == "unsafe" and f.stance != "discussion"] == []


def test_a_line_break_hides_no_harm() -> None:
    text = "We have talked enough. I will come and\r\nkill  you\r\nand your family, he wrote."
    threat = next(f for f in found(text) if f.type == "THREAT")
    assert threat.stance == "threat"
    assert "kill  you" in text[threat.start : threat.end]


def test_labelled_passages_are_judged_about_as_well_as_was_measured() -> None:
    judged: dict[str, Counter[str]] = {}
    for name, label, text in labelled_passages():
        acted = {f.type for f in found(text) if f.group == "unsafe" and f.stance != "discussion"}
        counts = judged.setdefault(name, Counter())
        if label != "SAFE":
            counts["hit" if acted else "miss"] += 1
        elif acted:
            counts["false"] += 1
    dev, held = judged["dev"], judged["held"]
    assert dev["hit"] / (dev["hit"] + dev["miss"]) > 0.9
    assert dev["false"] == 0
    assert held["hit"] / (held["hit"] + held["miss"]) > 0.4
    assert held["hit"] / (held["hit"] + held["false"]) > 0.9


def test_harm_far_into_a_text_without_full_stops_is_found() -> None:
    text = "the mill and the river and the gun " * 60 + "I will kill you and your family"
    assert "threat" in {f.stance for f in found(text) if f.type == "THREAT"}
