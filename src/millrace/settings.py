"""What an operator can set, with safe defaults. Knows how settings look, not where they come from.

``millrace.settings_sources`` reads them from the file, the environment and the flags. Every model
refuses unknown keys and cannot be changed once made. Sizes are in bytes, times in seconds.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    SerializeAsAny,
    field_validator,
    model_validator,
)

from millrace.errors import SettingsError

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

Model = TypeVar("Model", bound=BaseModel)
MIB = 1024 * 1024
GIB = 1024 * MIB


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path.expanduser()))  # noqa: PTH100 - resolve() would follow symlinks


Directory = Annotated[Path, AfterValidator(_absolute)]
Bytes = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Port = Annotated[int, Field(ge=1, le=65535)]


def available_cores() -> int:
    """Return how many cores this process may use: its affinity, less where a cgroup quota says so."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            cores = min(cores, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        return cores
    return cores


def nvidia_devices() -> int:
    """Return how many NVIDIA devices the kernel shows; no library is loaded for it."""
    return sum(1 for entry in Path("/dev").glob("nvidia*") if entry.name.removeprefix("nvidia").isdigit())


def is_loopback(host: str) -> bool:
    """Return whether a server bound to ``host`` can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


class Section(BaseModel):
    """A group of settings: unknown keys are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class BlobSettings(Section):
    """Where uploads and artifacts live.

    location    a directory (default: ``blobs`` in the data directory) or ``s3://bucket[/prefix]``.
    endpoint    URL of an S3 server that is not AWS (MinIO, Ceph, …), asked in path style.
    region, access_key, secret_key   for S3; without keys the environment's AWS credentials are used.
    cache_bytes how much of what was read from S3 is kept on local disk.
    """

    location: str | None = None
    endpoint: str | None = None
    region: str = "us-east-1"
    access_key: SecretStr | None = None
    secret_key: SecretStr | None = None
    cache_bytes: Annotated[int, Field(ge=0)] = 4 * GIB

    @model_validator(mode="after")
    def _s3_only(self) -> BlobSettings:
        if self.location is not None and "://" in self.location and not self.location.startswith("s3://"):
            raise ValueError(f"blobs.location must be a directory or s3://bucket, not {self.location!r}")
        if not self.is_s3 and (self.endpoint or self.access_key or self.secret_key):
            raise ValueError(
                "blobs.endpoint, access_key and secret_key need blobs.location to be s3://bucket"
            )
        if (self.access_key is None) != (self.secret_key is None):
            raise ValueError("blobs.access_key and blobs.secret_key must be set together")
        return self

    @property
    def is_s3(self) -> bool:
        """Whether blobs are objects in a bucket rather than files in a directory."""
        return (self.location or "").startswith("s3://")


class SlotSettings(Section):
    """How much may run at once, by what it takes. Automatic: cores; NVIDIA devices; cores + 2."""

    cpu: Annotated[int, Field(ge=1, le=1024)] = Field(default_factory=available_cores)
    gpu: Annotated[int, Field(ge=0, le=64)] = Field(default_factory=nvidia_devices)
    io: Annotated[int, Field(ge=1, le=1024)] = Field(default_factory=lambda: available_cores() + 2)


class BrokerSettings(Section):
    """The RabbitMQ that wakes a cluster's workers.

    url           ``amqp://user:password@host/vhost`` (or ``amqps://``).
    queue_prefix  put before the names of exchanges and queues, so that clusters can share a broker.
    """

    url: str | None = None
    queue_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{0,60}$")] = ""

    @field_validator("url")
    @classmethod
    def _amqp(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith(("amqp://", "amqps://")):
            raise ValueError("the broker must be a URL such as amqp://user:password@host/vhost")
        return url


class ClusterSettings(Section):
    """How soon others notice what is gone; the same for all servers and workers of a cluster.

    lease  seconds after which a worker that nothing was heard of has lost its calls: they run elsewhere.
    grace  seconds that a worker gives its calls to end when it is told to stop; the rest is given back.
    """

    lease: Annotated[float, Field(ge=1.0, le=3600.0)] = 10.0
    grace: Annotated[float, Field(ge=0.0, le=86400.0)] = 30.0


class LimitSettings(Section):
    """The most that a request may carry.

    upload_bytes   one uploaded file.
    request_bytes  a whole multipart request.
    body_bytes     a body that is not multipart (JSON, with images inside it as base64).
    parts          files and fields of one multipart request.
    """

    upload_bytes: Bytes = 8 * GIB
    request_bytes: Bytes = 32 * GIB
    body_bytes: Bytes = 256 * MIB
    parts: Annotated[int, Field(gt=0)] = 2000


class FetchSettings(Section):
    """How inputs given as URLs are fetched; the same words as ``fetch.FetchPolicy``.

    allow_private  whether addresses that are not public (loopback, private, link-local, …) may be reached.
    ports          the ports that may be asked; empty: any.
    max_bytes      the largest answer taken.
    deadline       seconds for everything, redirects included.
    redirects      how many are followed, each checked like the first address.
    """

    allow_private: bool = False
    ports: tuple[Port, ...] = (80, 443, 8080, 8443)
    max_bytes: Bytes = 8 * GIB
    deadline: Seconds = 600.0
    redirects: Annotated[int, Field(ge=0, le=10)] = 3


class WebhookSettings(Section):
    """How webhooks are sent out.

    allow_private  whether they may go to addresses that are not public.
    ports          the ports they may go to; empty: any.
    attempts       how often a delivery is tried before it is given up.
    delay          seconds before the second attempt; tripled each time, ``max_delay`` at most, with jitter.
    timeout        seconds for one attempt.
    secret         signs every delivery as Standard Webhooks say (``whsec_…`` or any text); unset: unsigned.
    """

    allow_private: bool = False
    ports: tuple[Port, ...] = ()
    attempts: Annotated[int, Field(ge=1, le=50)] = 8
    delay: Seconds = 5.0
    max_delay: Seconds = 6 * 3600.0
    timeout: Seconds = 15.0
    secret: SecretStr | None = None


class NotifyRule(Section):
    """Who is told of which jobs; the same words as ``engine.notifications.Rule``.

    when         ``ended`` (all), ``failed``, ``failures`` (failed, or an item of it did), ``succeeded`` or
                 ``cancelled``.
    kinds        only of these kinds; empty: of all.
    min_seconds  only of jobs that took at least this long.
    targets      whom: names in ``notify.targets``.
    message      the text instead of the usual one, with ``{label}``, ``{failures}`` and the like.
    """

    when: Literal["ended", "failed", "failures", "succeeded", "cancelled"] = "ended"
    kinds: tuple[str, ...] = ()
    min_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    targets: Annotated[tuple[str, ...], Field(min_length=1)]
    message: str | None = None


class NotifySettings(Section):
    """Whom to tell when jobs end, in words for people, through Apprise (the extra ``notify``).

    targets        name → Apprise URL: ``mailto://…``, ``ntfy://…``, ``slack://…`` and a hundred more.
    rules          who is told of which jobs.
    per_job        whom a job may name: ``named`` targets only, ``any`` Apprise URL as well, or ``off``.
    allow_private  whether the Apprise URLs of jobs may reach addresses that are not public. Targets may.
    failures       how many of a job's failures a message lists.
    attempts, delay, max_delay, timeout   as for webhooks.
    """

    targets: Mapping[Annotated[str, Field(pattern=r"^[\w.-]{1,64}$")], SecretStr] = Field(
        default_factory=dict
    )
    rules: tuple[NotifyRule, ...] = ()
    per_job: Literal["named", "any", "off"] = "named"
    allow_private: bool = False
    failures: Annotated[int, Field(ge=0, le=100)] = 5
    attempts: Annotated[int, Field(ge=1, le=50)] = 6
    delay: Seconds = 10.0
    max_delay: Seconds = 3600.0
    timeout: Seconds = 30.0

    @model_validator(mode="after")
    def _targets_there(self) -> NotifySettings:
        for number, rule in enumerate(self.rules):
            for name in rule.targets:
                if name not in self.targets:
                    there = ", ".join(self.targets) or "none"
                    raise ValueError(f"notify.rules.{number} names the target {name!r}; there are: {there}")
        return self


class WatchSettings(Section):
    """A folder whose new files become jobs; see ``engine.watches``.

    name              its name; what it knows of its files hangs on it.
    path              the folder, below a media root, and all folders in it.
    kind              of the jobs.
    pattern           which files, by their path relative to it: one pattern, or several.
    preset, options, priority, notify   of the jobs, as ``POST /jobs`` takes them.
    settle_seconds    for which a file's size and time of change must stay the same.
    interval_seconds  between two looks.
    existing          files that are there at the first look: ``ignore`` or ``take``.
    per               one job for each ``file``, or for a ``batch`` of up to ``batch_size``.
    """

    name: Annotated[str, Field(pattern=r"^[\w.-]{1,64}$")]
    path: Annotated[str, Field(min_length=1, max_length=4096)]
    kind: Annotated[str, Field(max_length=64)]
    pattern: str | Annotated[tuple[str, ...], Field(min_length=1, max_length=50)] = "**"
    preset: str | None = None
    options: Mapping[str, Any] = Field(default_factory=dict)
    settle_seconds: Annotated[float, Field(ge=0, le=86400, allow_inf_nan=False)] = 30.0
    interval_seconds: Annotated[float, Field(ge=0.05, le=86400, allow_inf_nan=False)] = 10.0
    existing: Literal["ignore", "take"] = "ignore"
    per: Literal["file", "batch"] = "file"
    batch_size: Annotated[int, Field(ge=1, le=1000)] = 10
    priority: int | str = "normal"
    notify: tuple[str, ...] = ()


class RetentionSettings(Section):
    """When finished jobs are deleted.

    ttl     seconds from a job's end, for every workload; unset: each workload's own.
    sweep   seconds between two looks for what has expired.
    """

    ttl: Seconds | None = None
    sweep: Seconds = 60.0


class LogSettings(Section):
    """What is logged: from which level up, and as text for people or JSON for machines."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"


class Settings(Section):
    """All settings of a server. Paths become absolute, relative ones from where it was started.

    host, port         where it listens; port 0: any free one.
    data_dir           database, blobs and temporary files, unless said otherwise.
    tmp_dir            work directories, and the ``batches`` of transcripts.
    models_dir         directories with the weights of models.
    media_roots        the only directories below which local paths are read.
    database           SQLAlchemy URL; default: SQLite in the data directory.
    executor           who runs stages: worker processes of this server (``local``), or ``millrace worker``
                       on any number of machines (``celery``).
    require_auth       whether every request but health needs the token; by default only where the
                       host can be reached from other machines.
    bearer_token       that token.
    public_url         where people reach this server, for links in notifications.
    watches            folders whose new files become jobs.
    idle_unload        seconds after which a worker drops a model that nobody used.
    workloads          one section per workload, checked against that workload's own model. In the
                       file and the environment these stand at the top level, under the workload's name.
    """

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    data_dir: Directory = Path("data")
    tmp_dir: Directory = Field(default_factory=lambda data: data.get("data_dir", Path("data")) / "tmp")
    models_dir: Directory = Path("models")
    media_roots: tuple[Directory, ...] = ()
    database: str = Field(
        default_factory=lambda data: f"sqlite:///{data.get('data_dir', Path('data')) / 'millrace.db'}"
    )
    executor: Literal["local", "celery"] = "local"
    require_auth: bool = Field(default_factory=lambda data: not is_loopback(data.get("host", "")))
    bearer_token: SecretStr | None = None
    public_url: Annotated[str, Field(pattern=r"^https?://[^\s?#]+$")] | None = None
    idle_unload: Seconds = 300.0
    blobs: BlobSettings = BlobSettings()
    broker: BrokerSettings = BrokerSettings()
    cluster: ClusterSettings = ClusterSettings()
    slots: SlotSettings = Field(default_factory=SlotSettings)
    limits: LimitSettings = LimitSettings()
    fetch: FetchSettings = FetchSettings()
    webhooks: WebhookSettings = WebhookSettings()
    notify: NotifySettings = NotifySettings()
    watches: tuple[WatchSettings, ...] = ()
    retention: RetentionSettings = RetentionSettings()
    log: LogSettings = LogSettings()
    workloads: Mapping[str, SerializeAsAny[BaseModel]] = Field(default_factory=dict)

    @field_validator("media_roots")
    @classmethod
    def _roots_exist(cls, roots: tuple[Path, ...]) -> tuple[Path, ...]:
        for root in roots:
            if not root.is_dir():
                raise ValueError(f"the media root {root} is not a directory")
        return roots

    @field_validator("database")
    @classmethod
    def _known_database(cls, url: str) -> str:
        # Most commands never open a database, and SQLAlchemy takes as long to import as they to run.
        if url.startswith("sqlite:///"):
            return url
        from sqlalchemy.engine import make_url
        from sqlalchemy.exc import ArgumentError

        try:
            backend = make_url(url).get_backend_name()
        except ArgumentError:
            raise ValueError("the database must be a URL such as postgresql://user@host/name") from None
        if backend not in ("sqlite", "postgresql"):
            raise ValueError(f"the database must be sqlite or postgresql, not {backend}")
        return url

    @field_validator("watches")
    @classmethod
    def _names_of_their_own(cls, watches: tuple[WatchSettings, ...]) -> tuple[WatchSettings, ...]:
        names = [watch.name for watch in watches]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two watches are called {name!r}: each needs a name of its own")
        return watches

    @model_validator(mode="after")
    def _token_where_needed(self) -> Settings:
        if self.require_auth and not self.token:
            why = "require_auth is on"
            if not is_loopback(self.host):
                why = f"the host {self.host} can be reached from other machines, so a token is required"
            raise ValueError(f"{why} but bearer_token is not set: set BEARER_TOKEN, or REQUIRE_AUTH=false")
        return self

    @model_validator(mode="after")
    def _whole_cluster(self) -> Settings:
        if self.executor != "celery":
            return self
        if self.database_url.get_backend_name() != "postgresql":
            raise ValueError(
                "executor is celery but database is SQLite, which other machines cannot reach: "
                "set database to postgresql://user:password@host/name"
            )
        if self.broker.url is None:
            raise ValueError(
                "executor is celery but broker is not set: set broker to amqp://user:password@host/vhost"
            )
        if self.blobs.location is None:
            raise ValueError(
                "executor is celery but blobs would live in this machine's data directory: set blobs to "
                "s3://bucket, or to a directory that is mounted at the same path on every machine"
            )
        return self

    @property
    def token(self) -> str:
        """The bearer token in clear; empty when there is none."""
        return self.bearer_token.get_secret_value() if self.bearer_token else ""

    @property
    def database_url(self) -> URL:
        """The database as SQLAlchemy takes it, PostgreSQL through psycopg."""
        from sqlalchemy.engine import make_url

        url = make_url(self.database)
        return url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url

    @property
    def blob_location(self) -> str:
        """Where blobs live: ``s3://…``, or an absolute directory."""
        if self.blobs.location is None:
            return str(self.data_dir / "blobs")
        return self.blobs.location if self.blobs.is_s3 else str(_absolute(Path(self.blobs.location)))

    def workload(self, kind: str, model: type[Model]) -> Model:
        """Return the section of the workload ``kind``, or the defaults of ``model`` where none was read."""
        section = self.workloads.get(kind)
        if section is None:
            return model()
        if not isinstance(section, model):
            raise SettingsError(f"the section {kind!r} holds {type(section).__name__}, not {model.__name__}")
        return section

    def site(self) -> dict[str, Any]:
        """Return what stages may see of the settings, as ``StageContext.site``: plain JSON, no secret."""
        return {
            "data_dir": str(self.data_dir),
            "tmp_dir": str(self.tmp_dir),
            "models_dir": str(self.models_dir),
            "media_roots": [str(root) for root in self.media_roots],
            "idle_unload": self.idle_unload,
            "limits": self.limits.model_dump(mode="json"),
            "fetch": self.fetch.model_dump(mode="json"),
        }
