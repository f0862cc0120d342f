"""Settings of signing in by an OIDC provider."""

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from shared.access import Role
from shared.names import UI_PORT


class OidcSettings(BaseModel):
    """Which provider, who may sign in by it, and as what."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    issuer: str = Field(
        "",
        pattern=r"^(https://.+|http://(localhost|127\.0\.0\.1|\[::1\])[:/].*)?$",
        description="the OIDC provider, as its discovery document names itself; https, but on this machine; empty: none",
    )
    client_id: str = Field("", description="this plant, as the provider knows it")
    client_secret: SecretStr = Field(SecretStr(""), description="its secret there; none: a public client")
    redirect_url: str = Field(
        f"http://127.0.0.1:{UI_PORT}/login/back",
        description="the control room's /login/back, as browsers reach it",
    )
    scopes: tuple[str, ...] = Field(("openid", "profile", "email"), description="what is asked for")
    name_claim: str = Field(
        "preferred_username", description="the claim that becomes the user's name; without it, email"
    )
    role_claim: str = Field("groups", description="the claim whose values have roles: a text or a list")
    roles: dict[str, Role] = Field(
        {}, description="a value of role_claim to its role; of several the highest counts"
    )
    default_role: Role | None = Field(
        None, description="the role of who has none by roles; none: they are not let in"
    )
    allowed: tuple[str, ...] = Field(
        (),
        description="verified e-mail addresses, or @DOMAIN, that may sign in; empty: all who have a role",
    )
