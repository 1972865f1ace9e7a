"""The program's settings; the only reader of the environment."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AliasChoices, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

PREFIX = "MEDIA_DOWNLOADER_"

WordList = Annotated[tuple[str, ...], NoDecode]


class Settings(BaseSettings):
    """Every setting, with its default. Names in the environment: ``MEDIA_DOWNLOADER_`` and the field in capitals.

    ``downloads_dir`` is ``YTDLP_OUTPUT_PATH``, ``allowed_origins`` is ``ALLOWED_ORIGINS`` and ``redis_url`` is
    ``REDIS_URL``: operators know these.
    Lists are written with commas.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="ignore")

    # --- where ---
    #: Folder of the finished files and of the work folders; made absolute.
    downloads_dir: Path = Field(
        default=Path("downloads"),
        validation_alias=AliasChoices("YTDLP_OUTPUT_PATH", PREFIX + "DOWNLOADS_DIR", "downloads_dir"),
    )
    #: Folder of the database and what else must be kept; made absolute. On a local disk, never on NFS.
    data_dir: Path = Path("data")
    #: Address to listen on.
    host: str = "127.0.0.1"
    #: Port to listen on; 0 takes a free one.
    port: int = Field(default=8000, ge=0, le=65535)
    #: "local" runs downloads in processes of this server, "celery" on workers that share jobs through Redis; "auto"
    #: takes "celery" when a Redis is configured and answers at the start.
    mode: Literal["auto", "celery", "local"] = "auto"
    #: Redis (6.2 or newer) or Valkey, where jobs live when many machines share them; one machine needs none.
    redis_url: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("REDIS_URL", PREFIX + "REDIS_URL", "redis_url")
    )
    #: Broker of Celery's messages; unset takes Redis. RabbitMQ (amqp://) works too.
    celery_broker_url: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("CELERY_BROKER_URL", PREFIX + "CELERY_BROKER_URL", "celery_broker_url"),
    )
    #: Downloads at once of one worker.
    worker_concurrency: int = Field(
        default=3,
        ge=1,
        le=100,
        validation_alias=AliasChoices("CELERY_WORKER_CONCURRENCY", PREFIX + "WORKER_CONCURRENCY", "worker_concurrency"),
    )

    # --- who may ask ---
    #: Host names (beside localhost and IP literals) under which the server may be addressed.
    allowed_hosts: WordList = ()
    #: Origins of web pages (https://example.org) that may use the API from a browser.
    allowed_origins: WordList = Field(
        default=(), validation_alias=AliasChoices("ALLOWED_ORIGINS", PREFIX + "ALLOWED_ORIGINS", "allowed_origins")
    )
    #: Largest accepted request body.
    max_body_bytes: int = Field(default=2 * 1024 * 1024, ge=1024)
    #: Most links in one request.
    max_urls_per_request: int = Field(default=2_000, ge=1)

    # --- where downloads may go ---
    #: Let downloads reach private, loopback and shared addresses; link-local ones and clouds' metadata stay shut.
    allow_private_addresses: bool = False
    #: Single exceptions: host:port, or a network in CIDR notation.
    allowed_endpoints: WordList = ()

    #: On a kernel that cannot confine ffmpeg (Linux before 6.7), let it download live streams all the same.
    allow_unconfined_ffmpeg: bool = False

    # --- how much at once ---
    max_concurrent_downloads: int = Field(default=3, ge=1, le=100)
    #: Most downloads from one site at once.
    max_per_site: int = Field(default=2, ge=1, le=100)
    #: Most links that are looked at (POST /info) at once.
    max_concurrent_probes: int = Field(default=4, ge=1, le=50)
    #: Most entries taken from a playlist when the job does not say.
    playlist_limit: int = Field(default=1_000, ge=1, le=10_000)
    #: A file larger than this is refused; unset is no limit.
    max_file_size_bytes: int | None = Field(default=None, ge=1)

    # --- how patient ---
    #: Seconds without a sign of life after which a download process is ended.
    silence_timeout_seconds: float = Field(default=120.0, gt=0)
    #: Seconds that looking at a link may take.
    probe_timeout_seconds: float = Field(default=60.0, gt=0)
    #: Seconds without a byte after which a connection is given up.
    socket_timeout_seconds: float = Field(default=20.0, gt=0)
    #: How often a transient failure is retried before it is final.
    max_retries: int = Field(default=5, ge=0, le=100)
    #: First delay of a retry; it doubles each time, with jitter. Tries of a single request begin with a twentieth
    #: of it.
    retry_delay_seconds: float = Field(default=5.0, ge=0)
    #: Longest delay of a retry, unless the server asked for more.
    retry_max_delay_seconds: float = Field(default=900.0, ge=0)
    #: How long a job waits that does not fit on the disk, before the disk is looked at again for it.
    disk_retry_seconds: float = Field(default=60.0, gt=0)
    #: Download processes that may die in a row before the job is an error.
    max_crashes: int = Field(default=5, ge=1, le=100)
    #: Seconds for which a claim holds without being renewed.
    lease_seconds: float = Field(default=30.0, ge=1)

    # --- how long things stay ---
    #: Seconds after which a finished job leaves the list; its files stay. 0 keeps it for ever.
    job_ttl: float = Field(default=86_400.0, ge=0)
    #: Days after which finished files are deleted; unset keeps them for ever.
    retention_days: float | None = Field(default=None, gt=0)
    #: Seconds between two rounds of housekeeping.
    cleanup_interval_seconds: float = Field(default=3_600.0, gt=0)
    #: Free space below which downloads pause.
    min_free_bytes: int = Field(default=512 * 1024 * 1024, ge=0)

    # --- object storage (the extra s3) ---
    #: Bucket of an S3-compatible store, into which finished files are copied; unset copies nothing.
    s3_bucket: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{1,254}$")
    #: Folder in the bucket; everything of ours is below it.
    s3_prefix: str | None = Field(default=None, pattern=r"^/?[\w-][\w.-]*(/[\w-][\w.-]*)*/?$")
    #: Address of the store, as http(s)://host:port; unset takes Amazon's of the region.
    s3_endpoint: str | None = Field(default=None, pattern=r"^https?://[^/?#@\s]+/?$")
    #: Region of the bucket; most stores of one's own take any.
    s3_region: str = Field(default="us-east-1", pattern=r"^[A-Za-z0-9-]+$")
    #: Who copies.
    s3_access_key_id: SecretStr | None = None
    #: Its secret.
    s3_secret_access_key: SecretStr | None = None
    #: How a file is answered that is only there: "stream" passes it on, "redirect" sends the client to the store.
    s3_serve: Literal["stream", "redirect"] = "stream"
    #: Keep the file in the downloads folder when it is in the store.
    s3_keep_local: bool = True
    #: Seconds for which a redirect's link works.
    s3_presign_seconds: int = Field(default=300, ge=1, le=604_800)

    # --- what is told ---
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["console", "json"] = "console"
    #: Folder for log files, rotated; unset logs to standard error only.
    log_dir: Path | None = None
    log_file_bytes: int = Field(default=10 * 1024 * 1024, ge=64 * 1024)
    log_files: int = Field(default=5, ge=1, le=100)

    # --- tools ---
    #: ffmpeg program; unset takes the system's, else the one that came with the package.
    ffmpeg: str | None = None

    @field_validator("downloads_dir", "data_dir", "log_dir")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return None if value is None else value.expanduser().absolute()

    @field_validator("allowed_hosts", "allowed_origins", "allowed_endpoints", mode="before")
    @classmethod
    def _words(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(word.strip() for word in value.split(",") if word.strip())
        return value

    @property
    def request_pause_seconds(self) -> float:
        """The pause before the second try of a single request; the whole job's own retry comes after these."""
        return self.retry_delay_seconds / 20

    def broker_url(self) -> str:
        """Return the address of Celery's broker; it may hold a password. "" when neither it nor Redis is set."""
        chosen = self.celery_broker_url or self.redis_url
        return chosen.get_secret_value() if chosen is not None else ""
