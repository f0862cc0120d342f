"""Keys, certificates and revocation lists by the library `cryptography`, which only the side that issues needs."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from shared.errors import Rejected

SKEW: Final = timedelta(minutes=5)
"""A certificate holds since a little before it was made: the other side's clock may be behind."""


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority: what signs, and what others trust."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def pem(self) -> str:
        """The certificate to trust."""
        return _pem(self.certificate)

    @property
    def key_pem(self) -> str:
        """The key that signs."""
        return key_pem(self.key)


@dataclass(frozen=True, slots=True)
class Wish:
    """What a certificate is to say. `hosts`: names and addresses of a server; `also`: further names of a client."""

    name: str
    not_before: datetime
    not_after: datetime
    hosts: tuple[str, ...] = ()
    also: tuple[str, ...] = ()


def new_key() -> ec.EllipticCurvePrivateKey:
    """A key on P-256, which every TLS library of the last ten years takes."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    """A private key as text, not encrypted: its file's mode protects it."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def public_pem(key: ec.EllipticCurvePublicKey) -> str:
    """A public key as text."""
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode()


def load_public(pem: str) -> ec.EllipticCurvePublicKey:
    """The other way round. Raises Rejected."""
    try:
        key = serialization.load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Rejected(f"not a public key: {error}") from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise Rejected("the key is not one on an elliptic curve: make it with P-256")
    return key


def request_key(pem: str) -> ec.EllipticCurvePublicKey:
    """The public key of a certificate signing request, which proves that its maker has the private one. Raises Rejected."""
    try:
        request = x509.load_pem_x509_csr(pem.encode())
        signed = request.is_signature_valid
    except (ValueError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise Rejected(f"not a certificate signing request: {error}") from error
    key = request.public_key()
    if not signed or not isinstance(key, ec.EllipticCurvePublicKey):
        raise Rejected("the request is not signed by its own key on an elliptic curve (P-256)")
    return key


def new_authority(name: str, not_before: datetime, not_after: datetime) -> Authority:
    """An authority of its own."""
    key = new_key()
    subject = _named(name)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before - SKEW)
        .not_valid_after(not_after)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(key, made)


def load_authority(certificate: str, key: str) -> Authority:
    """Read back. Raises Rejected."""
    try:
        loaded = serialization.load_pem_private_key(key.encode(), None)
        made = x509.load_pem_x509_certificate(certificate.encode())
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Rejected(f"an authority that can't be read: {error}") from error
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        raise Rejected("an authority's key is not one on an elliptic curve")
    return Authority(loaded, made)


def sign(authority: Authority, public: ec.EllipticCurvePublicKey, wish: Wish) -> tuple[str, int]:
    """A certificate for the holder of the key, as PEM, and its serial number.

    A client's name is the subject's common name, which mosquitto takes for the user; `also` are DNS names, of which
    nats-server takes the first that is a user of its own.
    """
    serial = x509.random_serial_number()
    purposes = [ExtendedKeyUsageOID.CLIENT_AUTH] + ([ExtendedKeyUsageOID.SERVER_AUTH] if wish.hosts else [])
    builder = (
        x509.CertificateBuilder()
        .subject_name(_named(wish.name))
        .issuer_name(authority.certificate.subject)
        .public_key(public)
        .serial_number(serial)
        .not_valid_before(wish.not_before - SKEW)
        .not_valid_after(wish.not_after)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )
    alternatives = [_host(each) for each in wish.hosts] + [x509.DNSName(each) for each in wish.also]
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return _pem(builder.sign(authority.key, hashes.SHA256())), serial


def revocation_list(
    authority: Authority, revoked: Sequence[tuple[int, datetime]], now: datetime, until: datetime
) -> str:
    """The authority's list of serial numbers and when each was revoked, as PEM; nobody takes it after `until`."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.certificate.subject)
        .last_update(now - SKEW)
        .next_update(until)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False
        )
        .add_extension(x509.CRLNumber(int(now.timestamp() * 1000)), critical=False)
    )
    for serial, when in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(when).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(authority.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
