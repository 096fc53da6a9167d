"""Notifications: what people are told when a job ends, by rules and by the job's own wish.

Whom a name stands for and how a service is spoken to is handed in; this module knows neither e-mail nor
chat. What is stored names a target, never its address, so that no secret of the settings lies in the
database.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, Protocol
from urllib.parse import quote

import orjson

from millrace.engine.deliveries import Delivery, DeliveryWrites, Failure, Message
from millrace.engine.model import Job, State
from millrace.engine.workload import Retry
from millrace.errors import BadInput, SettingsError

NOTIFY = "notify"
"""The name of this channel."""
EVENT = "job.finished"
TEST = "test"

When = Literal["ended", "failed", "failures", "succeeded", "cancelled"]
Tone = Literal["info", "success", "warning", "failure"]
PerJob = Literal["named", "any", "off"]

FIELDS = frozenset(
    {
        *("job", "kind", "state", "label", "error", "failures", "took", "link"),
        *("total", "succeeded", "skipped", "failed", "cancelled"),
    }
)
"""What a rule's message may name in braces."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Who is told of which jobs.

    when         ``ended``: all; ``failed``, ``succeeded``, ``cancelled``: those that ended so;
                 ``failures``: those that failed or of which an item did.
    kinds        of these kinds only; empty: of all.
    min_seconds  only of jobs that took this long, from their start to their end.
    targets      names.
    message      a text with ``FIELDS`` in braces; None: the usual text.
    """

    when: When = "ended"
    kinds: Sequence[str] = ()
    min_seconds: float = 0.0
    targets: Sequence[str] = ()
    message: str | None = None

    def __post_init__(self) -> None:
        if self.message is not None:
            check_message(self.message)

    def matches(self, job: Job) -> bool:
        """Whether it speaks of a job that has ended."""
        if self.kinds and job.kind not in self.kinds:
            return False
        if seconds(job) < self.min_seconds:
            return False
        match self.when:
            case "ended":
                return True
            case "failures":
                return job.state is State.FAILED or job.counts.failed > 0
            case "succeeded":
                return job.state in (State.SUCCEEDED, State.SKIPPED)
            case "failed" | "cancelled":
                return job.state.value == self.when


class Send(Protocol):
    """Sends a message to the address of a service; a port."""

    def __call__(self, url: str, title: str, body: str, tone: Tone, *, trusted: bool) -> None:
        """Send it, or raise: BadInput (``notify_refused``) where it never can be, else Transient.

        ``trusted``: the address is the operator's own, not a caller's.
        """
        ...


def seconds(job: Job) -> float:
    """Return how long a job that has ended took from its start; 0 for one that never started."""
    if job.started_at is None or job.finished_at is None:
        return 0.0
    return max(0.0, job.finished_at - job.started_at)


def took(span: float) -> str:
    """Write a span of time for people.

    >>> took(4.2), took(252), took(7500)
    ('4 s', '4 min 12 s', '2 h 5 min')
    """
    whole = round(span)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def check_message(text: str) -> None:
    """Raise SettingsError where the text of a rule names what is not there."""
    try:
        parts = list(string.Formatter().parse(text))
    except ValueError as error:
        raise SettingsError(f"a message of notify.rules is wrong: {error}; write {{{{ for a brace") from None
    for _, name, spec, conversion in parts:
        if name is not None and (name not in FIELDS or spec or conversion):
            raise SettingsError(
                f"a message of notify.rules names {{{name}}}; there are: {', '.join(sorted(FIELDS))}"
            )


def link(job: Job, public_url: str | None) -> str:
    """Return where the dashboard shows a job; empty where the server does not know its own address."""
    return "" if public_url is None else f"{public_url.rstrip('/')}/ui/jobs/{quote(job.id, safe='')}"


def failure_lines(failures: Sequence[Failure], failed: int) -> str:
    """Write the first failures, one a line, and how many more there are."""
    lines = [f"- {_line(one.name or str(one.idx), 200)}: {_line(one.message, 300)}" for one in failures]
    if failed > len(failures) > 0:
        lines.append(f"- and {failed - len(failures)} more")
    return "\n".join(lines)


def _line(text: str, longest: int) -> str:
    """Return text as one line of bounded length: names of files may hold anything."""
    text = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return text if len(text) <= longest else text[: longest - 1] + "…"


def words_of(job: Job, failures: Sequence[Failure], public_url: str | None) -> dict[str, str]:
    """Return what a message may say of a job, by the names in ``FIELDS``."""
    counts = job.counts
    return {
        "job": job.id,
        "kind": job.kind,
        "state": job.state.value,
        "label": _line(job.label, 200) or job.id,
        "error": _line(str((job.error or {}).get("message", "")), 500),
        "failures": failure_lines(failures, counts.failed),
        "took": took(seconds(job)),
        "link": link(job, public_url),
        **{
            name: str(getattr(counts, name))
            for name in ("total", "succeeded", "skipped", "failed", "cancelled")
        },
    }


def usual_text(job: Job, words: Mapping[str, str]) -> str:
    """Return the text that is sent unless a rule has one of its own."""
    counts = job.counts
    states = (("succeeded", counts.succeeded), ("skipped", counts.skipped), ("failed", counts.failed))
    told = [f"{number} {name}" for name, number in (*states, ("cancelled", counts.cancelled)) if number]
    items = f"{counts.total} item{'' if counts.total == 1 else 's'}"
    parts = [
        f"{words['label']} ({job.kind}) {job.state.value} after {words['took']}.",
        f"{items}: {', '.join(told)}." if told else "",
        f"Reason: {words['error']}" if words["error"] else "",
        f"What failed:\n{words['failures']}" if words["failures"] else "",
        words["link"] or f"Job {job.id}",
    ]
    return "\n\n".join(part for part in parts if part)


def tone_of(job: Job) -> Tone:
    """Return how a service may colour the message."""
    if job.state is State.FAILED:
        return "failure"
    if job.state is State.CANCELLED or job.counts.failed:
        return "warning"
    return "success"


def title_of(job: Job) -> str:
    """Return the message's title: the subject of a mail."""
    failed = f" ({job.counts.failed} of {job.counts.total} failed)" if job.counts.failed else ""
    return f"{job.kind} {job.state.value}: {_line(job.label, 120) or job.id}{failed}"


def packed(title: str, body: str, tone: Tone) -> str:
    """Return a message as it is stored."""
    return orjson.dumps({"title": title, "body": body, "tone": tone}).decode()


@dataclass(frozen=True, slots=True)
class NotificationPolicy:
    """Who may be told what, and how often it is tried.

    targets     name → address of a service.
    per_job     whom a job may name: targets, any address, nobody.
    failures    how many of a job's failures a message lists.
    public_url  where people reach this server; None: messages carry no link.
    """

    targets: Mapping[str, str] = field(default_factory=dict)
    rules: Sequence[Rule] = ()
    per_job: PerJob = "named"
    failures: int = 5
    public_url: str | None = None
    retry: Retry = field(default_factory=lambda: Retry(attempts=6, delay=10.0, factor=3.0, max_delay=3600.0))


class Notifications:
    """The channel of notifications; see ``deliveries.Channel``."""

    name = NOTIFY
    prefix = "ntf_"

    def __init__(self, policy: NotificationPolicy, send: Send) -> None:
        self._policy = policy
        self._send = send
        self.retry = policy.retry

    def messages(self, tx: DeliveryWrites, job: Job) -> Sequence[Message]:
        """Return one message for each target that a rule or the job names, in that order."""
        texts: dict[str, str | None] = {}
        for rule in self._policy.rules:
            if rule.matches(job):
                for target in rule.targets:
                    texts.setdefault(target, rule.message)
        for target in job.notify:
            texts.setdefault(target, None)
        if not texts:
            return []
        failures = tx.first_failures(job, self._policy.failures) if job.counts.failed else []
        words = words_of(job, failures, self._policy.public_url)
        title, tone = title_of(job), tone_of(job)
        return [
            Message(
                target,
                EVENT,
                packed(title, usual_text(job, words) if text is None else text.format_map(words), tone),
            )
            for target, text in texts.items()
        ]

    def test_message(self, target: str) -> Message:
        """Return a message by which a person sees that a target is reached."""
        where = f"\n\n{self._policy.public_url}" if self._policy.public_url else ""
        at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        body = f"This is a test, sent at {at}. Notifications of Millrace arrive here.{where}"
        return Message(target, TEST, packed("Millrace: a test", body, "info"))

    def send(self, delivery: Delivery) -> None:
        """Send it to the address that the target has now."""
        message = orjson.loads(delivery.body)
        named = "://" not in delivery.to
        if named and delivery.to not in self._policy.targets:
            raise BadInput(
                f"there is no target {delivery.to!r} in notify.targets (any more)", code="notify_refused"
            )
        if not named and self._policy.per_job != "any":
            raise BadInput("notify.per_job does not allow addresses of a job's own", code="notify_refused")
        url = self._policy.targets[delivery.to] if named else delivery.to
        self._send(url, message["title"], message["body"], message["tone"], trusted=named)

    def lane(self, delivery: Delivery) -> str:
        """Return its target."""
        return f"{NOTIFY} {delivery.to}"
