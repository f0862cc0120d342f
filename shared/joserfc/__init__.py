"""Signed access tokens (JWT, Ed25519): one service issues them, any other verifies them with no database."""

from shared.joserfc.issuer import ISSUER, LIFE_SECONDS, Issuer, SignedToken, SigningKey
from shared.joserfc.verifier import SignedTokens, open_verifier

__all__ = [
    "ISSUER",
    "LIFE_SECONDS",
    "Issuer",
    "SignedToken",
    "SignedTokens",
    "SigningKey",
    "open_verifier",
]
