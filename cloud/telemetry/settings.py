"""Settings of a service that opens the telemetry store."""

from pydantic import Field, SecretStr

from cloud.telemetry.access import Access
from shared.settings import ServiceSettings


class TelemetrySettings(ServiceSettings):
    """Where the store is, and what its URL does not tell."""

    telemetry_url: str = Field(
        description="the telemetry store, sqlite:///PATH or influxdb://HOST:PORT/ORG/BUCKET; ingest alone writes it"
    )
    telemetry_token: SecretStr = Field(
        SecretStr(""),
        description="InfluxDB's token, which may read the store's buckets, and ingest's write them",
    )
    telemetry_books_url: str = Field(
        "",
        description="the SQL database beside InfluxDB, sqlite:///PATH (one ingest) or postgresql://…; every service the same",
    )

    @property
    def telemetry_access(self) -> Access:
        """What opening the store needs beside its URL."""
        return Access(self.telemetry_token.get_secret_value(), self.telemetry_books_url)
