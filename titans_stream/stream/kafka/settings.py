"""Settings of the Kafka client that a connector may give; names and meanings are kafka-python's.

A setting that is not given keeps kafka-python's own default. Settings that the worker decides
itself, and settings that only code can give, are listed with the reason in `REFUSED_SETTINGS`.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

ClientKind = Literal["consumer", "producer", "admin"]

_CODE = "only code can give it"
_GUARANTEE = "the worker decides it: no reading may be lost"
_TRANSACTION = "the worker commits offsets itself, together with its output"
_BYTES = "the worker reads and writes bytes"

REFUSED_SETTINGS: dict[str, str] = {
    "acks": _GUARANTEE,
    "auto_commit_interval_ms": _TRANSACTION,
    "auto_offset_reset": "use input.start",
    "consumer_timeout_ms": "the worker decides how long it waits",
    "default_offset_commit_callback": _CODE,
    "enable_auto_commit": _TRANSACTION,
    "enable_idempotence": _GUARANTEE,
    "exclude_internal_topics": "the worker reads one named topic",
    "group_id": "use input.group_id",
    "isolation_level": "the worker decides it: it reads committed messages only",
    "kafka_client": _CODE,
    "key_deserializer": _BYTES,
    "key_serializer": _BYTES,
    "max_poll_records": "use delivery.max_poll_records",
    "metric_group_prefix": "the worker decides it",
    "metric_reporters": _CODE,
    "partition_assignment_strategy": "the worker decides it: state moves with its partition",
    "partitioner": _CODE,
    "retries": _GUARANTEE,
    "sasl_oauth_token_provider": _CODE,
    "selector": _CODE,
    "socket_options": _CODE,
    "ssl_context": _CODE,
    "transactional_id": "use delivery.transactional_id",
    "value_deserializer": _BYTES,
    "value_serializer": _BYTES,
}
"""Settings of kafka-python that a connector may not give, and why."""

_NOT_FOR_ADMIN = frozenset({"allow_auto_create_topics", "metrics_enabled", "ssl_ciphers"})

SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "GSSAPI", "AWS_MSK_IAM"]
DnsLookup = Literal["use_all_dns_ips", "resolve_canonical_bootstrap_servers_only"]
Milliseconds = Annotated[int, Field(ge=0)]
Size = Annotated[int, Field(ge=1)]


def _joined_servers(value: object) -> object:
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return ",".join(value)
    return value


def _checked_servers(value: str) -> str:
    for server in value.split(","):
        host, colon, port = server.strip().rpartition(":")
        if "@" in server:
            raise ValueError(
                "a list of host:port is needed, without user and password: those belong in "
                "sasl_plain_username and sasl_plain_password"
            )
        if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ValueError(f"a list of host:port is needed, not {server.strip()!r}")
    return value


def _checked_proxy(value: SecretStr) -> SecretStr:
    if "://" not in value.get_secret_value():
        raise ValueError("a URL is needed, such as socks5://host:port")
    return value


def _version(value: object) -> object:
    if isinstance(value, str):
        return tuple(value.split("."))
    return value


ProxyUrl = Annotated[SecretStr, AfterValidator(_checked_proxy)]


class ClientSettings(BaseModel):
    """Settings common to consumer, producer and admin client."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
    refused_keys: ClassVar[dict[str, str]] = REFUSED_SETTINGS

    client_id: str | None = Field(default=None, description="name shown in the broker's logs")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] | None = None
    sasl_mechanism: SaslMechanism | None = None
    sasl_plain_username: str | None = Field(default=None, description="for PLAIN and SCRAM")
    sasl_plain_password: SecretStr | None = Field(
        default=None, description="for PLAIN and SCRAM; must be a reference such as ${PASSWORD}"
    )
    sasl_kerberos_name: str | None = None
    sasl_kerberos_service_name: str | None = None
    sasl_kerberos_domain_name: str | None = None
    ssl_cafile: str | None = Field(default=None, description="PEM file of trusted authorities")
    ssl_certfile: str | None = Field(default=None, description="PEM file, client certificate")
    ssl_keyfile: str | None = Field(default=None, description="PEM file, the client's key")
    ssl_password: SecretStr | None = Field(
        default=None, description="of the key file; must be a reference such as ${PASSWORD}"
    )
    ssl_crlfile: str | None = Field(default=None, description="PEM file of revoked certificates")
    ssl_check_hostname: bool | None = None
    ssl_ciphers: str | None = None
    proxy_url: ProxyUrl | None = Field(default=None, description="e.g. socks5://host:port")
    socks5_proxy: ProxyUrl | None = Field(default=None, description="older name of proxy_url")
    api_version: Annotated[tuple[int, ...], BeforeValidator(_version)] | None = Field(
        default=None, description="broker version, e.g. '2.5'; asked from the broker by default"
    )
    allow_auto_create_topics: bool | None = None
    bootstrap_timeout_ms: Milliseconds | None = None
    client_dns_lookup: DnsLookup | None = None
    connections_max_idle_ms: Milliseconds | None = None
    max_in_flight_requests_per_connection: Annotated[int, Field(ge=1, le=5)] | None = None
    metadata_max_age_ms: Milliseconds | None = None
    metrics_enabled: bool | None = None
    metrics_num_samples: Size | None = None
    metrics_sample_window_ms: Milliseconds | None = None
    receive_buffer_bytes: Size | None = None
    receive_message_max_bytes: Size | None = None
    reconnect_backoff_ms: Milliseconds | None = None
    reconnect_backoff_max_ms: Milliseconds | None = None
    request_timeout_ms: Milliseconds | None = None
    retry_backoff_ms: Milliseconds | None = None
    send_buffer_bytes: Size | None = None


class ConsumerSettings(ClientSettings):
    """Settings of the consumer; a common one given here wins over the one of `kafka`."""

    check_crcs: bool | None = None
    client_rack: str | None = Field(default=None, description="fetch from the closest replica")
    enable_incremental_fetch_sessions: bool | None = None
    fetch_max_bytes: Size | None = None
    fetch_max_wait_ms: Milliseconds | None = None
    fetch_min_bytes: Size | None = None
    group_instance_id: str | None = Field(default=None, description="static membership, KIP-345")
    heartbeat_interval_ms: Milliseconds | None = None
    max_partition_fetch_bytes: Size | None = None
    max_poll_interval_ms: Milliseconds | None = None
    session_timeout_ms: Milliseconds | None = None


class ProducerSettings(ClientSettings):
    """Settings of the producer; a common one given here wins over the one of `kafka`."""

    batch_size: Annotated[int, Field(ge=0)] | None = None
    compression_type: Literal["gzip", "snappy", "lz4", "zstd"] | None = None
    delivery_timeout_ms: Milliseconds | None = None
    linger_ms: Milliseconds | None = None
    max_block_ms: Milliseconds | None = None
    max_request_size: Size | None = Field(
        default=None, description="largest message; keep it at the broker's message.max.bytes"
    )
    transaction_timeout_ms: Milliseconds | None = None


class KafkaConfig(ClientSettings):
    """How to reach Kafka: the brokers, and any further setting of kafka-python's client."""

    bootstrap_servers: Annotated[
        str,
        BeforeValidator(_joined_servers, json_schema_input_type=str | list[str]),
        AfterValidator(_checked_servers),
    ] = Field(description="host:port, several with commas or as a list")
    max_batch_bytes: Annotated[int, Field(ge=2**20)] = Field(
        default=64 * 2**20,
        description="largest batch of messages once it is decompressed; the messages of a larger "
        "one are dead letters",
    )
    consumer: ConsumerSettings = Field(default=ConsumerSettings())
    producer: ProducerSettings = Field(default=ProducerSettings())

    def secrets(self) -> dict[str, str]:
        """The secret values, and what is to be shown in their place in messages."""
        return {
            value.get_secret_value(): "***"
            for part in (self, self.consumer, self.producer)
            for value in (getattr(part, name) for name in type(part).model_fields)
            if isinstance(value, SecretStr)
        }

    def client_settings(self, kind: ClientKind) -> dict[str, Any]:
        """Keyword arguments for kafka-python's client of that kind, secrets in the clear.

        Holds the given settings only; never log it.
        """
        given = _given(self, ClientSettings)
        if kind == "consumer":
            given |= _given(self.consumer, ConsumerSettings)
        elif kind == "producer":
            given |= _given(self.producer, ProducerSettings)
        else:
            given = {name: value for name, value in given.items() if name not in _NOT_FOR_ADMIN}
        servers = [server.strip() for server in self.bootstrap_servers.split(",")]
        return {"bootstrap_servers": servers, **given}


def _given(settings: ClientSettings, kind: type[ClientSettings]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for name in kind.model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            value = value.get_secret_value()
        if value is not None:
            given[name] = value
    return given
