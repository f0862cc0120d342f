"""Settings of MLflow's server."""

from pathlib import Path
from typing import ClassVar, Final

from pydantic import Field, SecretStr

from shared.names import MLFLOW_PORT
from shared.settings import ServiceSettings

USER: Final = "industrialmind"
"""Who reads and writes on the server."""


class MlflowSettings(ServiceSettings):
    """Where the server listens, what it serves, and who may ask."""

    section: ClassVar[str] = "mlflow"

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(MLFLOW_PORT, ge=0, le=65535, description="port to listen on")
    store_url: str = Field(description="its database, of which this is the only writer while it runs")
    artifacts: Path = Field(description="folder of the runs' files")
    password: SecretStr = Field(description="the password of the user industrialmind")
    allowed_hosts: tuple[str, ...] = Field(
        ("localhost", "127.0.0.1"), description="values of the Host header that are answered"
    )
