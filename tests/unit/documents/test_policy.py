"""From evidence to a category: what is needed for which, why it is said, and when a person is asked."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.errors import SettingsError
from millrace.workloads.documents import policy as policies
from millrace.workloads.documents.detectors import detect
from millrace.workloads.documents.document import Document, Finding, Page, Verdict
from millrace.workloads.documents.policy import DEFAULT, Decision, decide, load
from tests.unit.documents.samples import document

POLICY = load()


def judged(*texts: str) -> Decision:
    read = document(*texts)
    return decide(read, [finding for page in read.pages for finding in detect(page)], POLICY)


CASES = [
    ("Public", "Our new brochure shows the mill and its garden. Write to info@mill.test."),
    ("Public", "Credit card and passport are accepted. A social security number is not needed."),
    ("Public", "This report is NOT CONFIDENTIAL and may be shared with everybody."),
    ("Confidential", "INTERNAL USE ONLY\nThe plan for the spring."),
    ("Confidential", "Name: Maria Gomez\nPhone: (212) 736-5000\nThe address is 742 Evergreen Terrace"),
    ("Confidential", "Please pay to IBAN DE89 3704 0044 0532 0130 00."),
    ("Confidential", "This letter is subject to attorney-client privilege."),
    ("Highly Sensitive", "SSN: 531-21-7351"),
    ("Highly Sensitive", "Please charge my credit card 4532276644577020."),
    ("Highly Sensitive", "4532 2766 4457 7020; 5213 5917 2758 6604; 4716 9526 5316 7634"),
    ("Highly Sensitive", "password: Tr0ub4dor&3x!"),
    ("Highly Sensitive", "STRICTLY CONFIDENTIAL\nBoard paper"),
    ("Highly Sensitive", "Patient name: Maria Gomez\nMRN: 00482913\nDiagnosis: diabetes, prescribed insulin"),
    ("Unsafe", "I will kill you and your family."),
    ("Unsafe", "SSN: 531-21-7351. How to build a pipe bomb: step 1, fill it with black powder."),
]


@pytest.mark.parametrize(("category", "text"), CASES)
def test_categories(category: str, text: str) -> None:
    decision = judged(text)
    assert decision.category == category, decision.explanation
    assert 0.5 <= decision.confidence < 1
    assert decision.policy_version == POLICY.version
    assert decision.safe == (category != "Unsafe")


def test_a_number_with_a_right_check_digit_but_no_context_is_not_enough() -> None:
    assert judged("item 4532276644577020 in stock").category == "Public"


def test_the_explanation_cites_rule_page_and_passage_without_the_value() -> None:
    decision = judged("nothing here", "SSN: 531-21-7351 of Ana")
    assert "page 2" in decision.explanation
    assert "SSN: •••-••-7351" in decision.explanation
    assert "structured-identifier" in decision.explanation
    assert "531-21" not in decision.explanation
    assert [(c.page, c.type) for c in decision.citations] == [(2, "US_SSN")]


def test_discussion_of_harm_asks_for_a_person_and_changes_nothing() -> None:
    decision = judged("The police report says he wrote 'I will kill you' to the victim, the court heard.")
    assert decision.category == "Public"
    assert decision.requires_review
    assert "discusses" in decision.review_reasons[0]


def test_more_evidence_makes_surer() -> None:
    one = judged("SSN: 531-21-7351")
    three = judged("SSN: 531-21-7351, SSN: 594-62-0140, SSN: 403-57-9558")
    assert three.confidence > one.confidence


def test_conditions_on_one_page_do_not_join_pages() -> None:
    assert judged("Name: Maria Gomez", "IBAN DE89 3704 0044 0532 0130 00").category == "Confidential"
    assert judged("Name: Maria Gomez\nIBAN DE89 3704 0044 0532 0130 00").category == "Highly Sensitive"


def test_pages_that_were_not_read_lower_confidence_and_ask_for_review() -> None:
    unread = Document("pdf", (Page(1, "", source="unread", legibility=0.0), Page(2, "plain words")), 2, 1)
    decision = decide(unread, [], POLICY)
    assert decision.requires_review
    assert "1 of 2 pages could not be read." in decision.review_reasons
    assert decision.confidence < judged("plain words").confidence


evidence = st.builds(
    Finding,
    rule=st.just("r"),
    type=st.sampled_from(
        [
            "US_SSN",
            "CREDIT_CARD",
            "IBAN",
            "PERSON",
            "DATE_OF_BIRTH",
            "MARK_CONFIDENTIAL",
            "MARK_SECRET",
            "THREAT",
            "HEALTH_TERM",
            "EMAIL_ADDRESS",
            "PASSWORD",
            "NON_DISCLOSURE",
        ]
    ),
    group=st.sampled_from(["personal", "mark", "unsafe", "secret", "legal", "health"]),
    page=st.integers(1, 3),
    start=st.integers(0, 50),
    end=st.just(60),
    snippet=st.just("…"),
    verdict=st.builds(Verdict, st.just("v"), st.sampled_from([True, False, None])),
    context=st.sampled_from([None, "near"]),
    stance=st.sampled_from(["plain", "negated", "discussion", "threat"]),
    weight=st.floats(0.05, 1),
    value_key=st.sampled_from(["a", "b", "c", "d"]),
)


@settings(max_examples=100)
@given(st.lists(evidence, max_size=12), st.lists(evidence, max_size=6))
def test_more_evidence_never_lowers_the_category(some: list[Finding], more: list[Finding]) -> None:
    read = document("one", "two", "three")
    rank = POLICY.categories.index
    before, after = decide(read, some, POLICY), decide(read, some + more, POLICY)
    assert rank(after.category) >= rank(before.category)


@settings(max_examples=60)
@given(st.lists(evidence, max_size=12), st.randoms())
def test_the_order_of_findings_decides_nothing(some: list[Finding], shuffle: object) -> None:
    read = document("one", "two", "three")
    mixed = list(some)
    shuffle.shuffle(mixed)  # type: ignore[attr-defined]
    first, second = decide(read, some, POLICY), decide(read, mixed, POLICY)
    assert (first.category, first.strength) == (second.category, second.strength)


@settings(max_examples=100)
@given(st.lists(evidence, max_size=12))
def test_a_sensitive_category_is_always_backed_by_citations(some: list[Finding]) -> None:
    decision = decide(document("one", "two", "three"), some, POLICY)
    assert bool(decision.citations) == (decision.category != "Public")
    assert set(decision.citations) <= set(some)
    assert 0 < decision.confidence < 1


def test_confidence_grows_with_strength() -> None:
    values = [POLICY.confidence(n / 50) for n in range(51)]
    assert values == sorted(values)


def test_a_user_can_replace_the_policy(tmp_path: Path) -> None:
    data = yaml.safe_load(DEFAULT.read_text())
    data["version"] = "mine-1"
    data["rules"] = [
        {
            "id": "mail",
            "category": "Unsafe",
            "strength": 0.9,
            "because": "No mail here",
            "when": [{"types": ["EMAIL_ADDRESS"]}],
        }
    ]
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(data))
    read = document("ana@mill.test")
    decision = decide(read, detect(read.pages[0]), load(str(path)))
    assert (decision.category, decision.policy_version) == ("Unsafe", "mine-1")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"rules": [{"id": "a", "category": "Secret", "because": "b", "when": [{"types": ["X"]}]}]},
            "Secret",
        ),
        ({"rules": [{"id": "a", "category": "Public", "because": "b", "when": []}]}, "no conditions"),
        (
            {"rules": [{"id": "a", "category": "Public", "because": "b", "when": [{"min_count": 2}]}]},
            "names no types",
        ),
        (
            {
                "rules": [
                    {
                        "id": "a",
                        "category": "Public",
                        "because": "b",
                        "strength": 2,
                        "when": [{"types": ["X"]}],
                    }
                ]
            },
            "strength",
        ),
        ({"rules": [{"id": "a", "category": "Public", "because": "b", "when": [{"type": ["X"]}]}]}, "type"),
        ({"calibration": [[0.5, 0.9], [0.6, 0.2]]}, "rise"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_wrong_policy_is_refused_with_the_reason(
    tmp_path: Path, change: dict[str, object], said: str
) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(DEFAULT.read_text()), **change}))
    with pytest.raises(SettingsError, match=said):
        load(str(path))


def test_every_type_in_the_shipped_policy_exists() -> None:
    from millrace.workloads.documents.detectors import identifiers, legal, secrets, unsafe_rules

    known = (
        {kind.type for kind in identifiers.KINDS}
        | {entry[0] for entry in legal._TERMS}
        | {h.type for h in unsafe_rules.HARMS}
        | {entry[0] for entry in secrets._TOKENS}
        | {
            "PERSON",
            "DATE_OF_BIRTH",
            "ADDRESS",
            "EMAIL_ADDRESS",
            "PHONE_NUMBER",
            "PAYROLL_TERM",
            "HEALTH_TERM",
            "MEDICAL_RECORD_NUMBER",
            "HEALTH_INSURANCE_ID",
            "MARK_SECRET",
            "MARK_CONFIDENTIAL",
            "MARK_PUBLIC",
        }
    )
    named = {
        t for rule in (*POLICY.rules, *POLICY.reviews) for condition in rule.when for t in condition.types
    }
    assert named <= known
    assert len({rule.id for rule in (*POLICY.rules, *POLICY.reviews)}) == len(POLICY.rules) + len(
        POLICY.reviews
    )
    assert policies.load() is POLICY
