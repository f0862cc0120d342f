"""Settings of a service that uses the event log: the control plane's own unless another log is named."""

from pydantic import Field, SecretStr

from shared.settings import ServiceSettings
from shared.tls import TlsFiles


class LogSettings(ServiceSettings):
    """NATS is always there, for the control plane; the event log is on it too unless `log_url` names another."""

    nats_url: str = Field(description="control plane, and event log unless log_url names one")
    credentials: SecretStr = Field(SecretStr(""), description="user:password for nats_url")
    log_url: str = Field(
        "", description="the event log, kafka://HOST:PORT or nats://HOST:PORT; empty: nats_url"
    )
    log_credentials: SecretStr = Field(
        SecretStr(""), description="user:password for log_url; none: it asks for none"
    )

    tls: TlsFiles = Field(TlsFiles(), description="for nats_url at tls://, and mqtts://")

    @property
    def log(self) -> tuple[str, str]:
        """URL and credentials of the event log."""
        if self.log_url:
            return self.log_url, self.log_credentials.get_secret_value()
        return self.nats_url, self.credentials.get_secret_value()
