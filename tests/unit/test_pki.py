"""The plant's own certificates: what is in them, when they are due, what a revocation does, and who refuses what."""

import ssl
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from industrialmind.cryptography import new_key
from industrialmind.grants import EdgeScope
from industrialmind.pki import Pki
from industrialmind.tls_conf import mosquitto_acl, mosquitto_conf, nats_conf, write_rules
from shared.certificate import read_certificate
from shared.errors import Conflict, Misconfigured, NotFound, Rejected
from shared.tls import TlsFiles
from tests.unit.front_door import Command, commanding

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
E1 = EdgeScope("s1", "e1", ("pump", "fan"))


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki.init(tmp_path / "pki", NOON)


def certificate(pki: Pki, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pki.certificate_file(name).read_bytes())


def listed(pki: Pki, door: str) -> set[int]:
    found = x509.load_pem_x509_crl((pki.folder / f"crl-{door}.pem").read_bytes())
    return {entry.serial_number for entry in found}


def test_a_certificate_says_whose_it_is_and_for_how_long(pki: Pki) -> None:
    pki.issue("e1", "field", NOON, days=7)
    made = certificate(pki, "e1")
    facts = read_certificate(pki.certificate_file("e1").read_text())
    assert (facts.name, facts.serial) == ("e1", made.serial_number)
    assert facts.not_after == NOON + timedelta(days=7) == made.not_valid_after_utc
    assert facts.not_before == made.not_valid_before_utc < NOON
    assert facts.lasts_s(NOON) == 7 * 86_400
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["e1.g1"]
    uses = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [use._name for use in uses] == ["clientAuth"]
    made.verify_directly_issued_by(x509.load_pem_x509_certificate(pki.authority_file("field").read_bytes()))
    for file in (
        pki.certificate_file("e1", ".key"),
        pki.authority_file("field", ".key"),
        pki.folder / "issued.json",
    ):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_cert_chain(pki.certificate_file("e1"), pki.certificate_file("e1", ".key"))


def test_a_server_has_its_hosts(pki: Pki) -> None:
    pki.issue("broker", "services", NOON, hosts=("broker.plant.example", "192.0.2.7"))
    names = certificate(pki, "broker").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["broker.plant.example", "broker.g1"]
    assert [str(one) for one in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.7"]


def test_a_renewal_signs_the_same_key_again_when_two_thirds_have_passed(pki: Pki) -> None:
    pki.issue("e1", "field", NOON, days=6)
    pki.issue("e2", "field", NOON + timedelta(days=3), days=6)
    key = pki.certificate_file("e1", ".key").read_text()
    before = certificate(pki, "e1")
    assert pki.renew(NOON + timedelta(days=3, hours=23)) == []
    (renewed,) = pki.renew(NOON + timedelta(days=4), days=6)
    after = certificate(pki, "e1")
    assert renewed.name == "e1"
    assert pki.certificate_file("e1", ".key").read_text() == key
    assert after.public_key() == before.public_key()
    assert after.serial_number != before.serial_number
    assert after.not_valid_after_utc == NOON + timedelta(days=10)
    with pytest.raises(NotFound):
        pki.renew(NOON, names=["e9"])


def test_a_revocation_takes_back_all_that_hold_and_begins_a_generation(pki: Pki) -> None:
    pki.issue("e1", "field", NOON, days=6)
    first = certificate(pki, "e1").serial_number
    pki.renew(NOON + timedelta(days=4), days=6, names=["e1"])
    second = certificate(pki, "e1").serial_number
    pki.revoke("e1", NOON + timedelta(days=5))
    assert listed(pki, "field") == {first, second}
    assert listed(pki, "services") == set()
    with pytest.raises(NotFound):
        pki.revoke("e1", NOON)
    assert pki.renew(NOON + timedelta(days=9)) == []  # who is revoked gets nothing by itself
    assert 'user: "e1.g' not in nats_conf(pki.folder, "nats", [E1], pki.book())
    pki.issue("e1", "field", NOON + timedelta(days=5))
    assert 'user: "e1.g2"' in nats_conf(pki.folder, "nats", [E1], pki.book())
    # What has ended by itself needs no place in the list.
    pki.renew(NOON + timedelta(days=8))
    assert listed(pki, "field") == {second}


def csr(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, name: str = "whatever") -> str:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    made = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM).decode()


def test_a_request_s_key_stays_where_it_was_made_and_its_name_counts_for_nothing(pki: Pki) -> None:
    key = new_key()
    pki.issue("e1", "field", NOON)
    pki.issue("e1", "field", NOON, request=csr(key, "admin"))
    assert not pki.certificate_file("e1", ".key").exists()
    assert certificate(pki, "e1").public_key() == key.public_key()
    assert read_certificate(pki.certificate_file("e1").read_text()).name == "e1"
    for bad in ("nonsense", csr(rsa.generate_private_key(65537, 2048))):
        with pytest.raises(Rejected):
            pki.issue("e2", "field", NOON, request=bad)


def test_mistakes_are_refused(pki: Pki, tmp_path: Path) -> None:
    with pytest.raises(Conflict):
        Pki.init(pki.folder, NOON)
    for name in ("E1", "../e1", "", "e1..x"):
        with pytest.raises(Rejected, match="name"):
            pki.issue(name, "field", NOON)
    pki.issue("gateway", "services", NOON)
    with pytest.raises(Rejected, match="services authority"):
        pki.issue("gateway", "field", NOON)
    with pytest.raises(Misconfigured, match="holds no authorities"):
        Pki(tmp_path / "none").book()
    (pki.folder / "issued.json").write_text('{"issued": [{}]}')
    with pytest.raises(Misconfigured, match="can't be read"):
        pki.book()
    for text in ("", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"):
        with pytest.raises(Rejected):
            read_certificate(text)


def test_the_rules_bind_each_to_its_own(pki: Pki) -> None:
    acl = mosquitto_acl([E1], [("s1", "lathe")]).split("\n\n")
    parts = {part.splitlines()[0]: set(part.splitlines()[1:]) for part in acl if part.startswith("user ")}
    assert parts["user device.lathe"] == {"topic write plant/s1/lathe/+"}
    assert parts["user device.fan"] == {"topic write plant/s1/fan/+", "topic read im/v1/s1/e1/local/#"}
    assert parts["user e1.devices"] == {
        "topic read plant/s1/pump/+",
        "topic read plant/s1/fan/+",
        "topic write im/v1/s1/e1/local/#",
    }
    assert "topic write im/v1/s1/e1/frames" in parts["user e1"]
    assert "user devices" not in parts
    conf = mosquitto_conf(pki.folder, "mosquitto")
    field, services = conf.split("listener ")[1:]
    assert "use_username_as_clientid true" in field
    assert "use_username_as_clientid" not in services
    for door, text in (("field", field), ("services", services)):
        assert f"ca-{door}.crt" in text
        assert f"crl-{door}.pem" in text
        assert "require_certificate true" in text
    pki.issue("nats", "services", NOON)
    assert [path.name for path in write_rules(pki, [E1], mosquitto="mosquitto", nats="nats")] == [
        "acl",
        "mosquitto.conf",
        "nats.conf",
    ]


def test_files_are_read_again_when_they_change_and_only_when_they_fit(pki: Pki) -> None:
    pki.issue("e1", "field", NOON)
    pki.issue("e2", "field", NOON)
    now = [0.0]
    files = TlsFiles(
        ca=pki.authority_file("services"),
        cert=pki.certificate_file("e1"),
        key=pki.certificate_file("e1", ".key"),
    )
    opened = files.open(monotonic=lambda: now[0])
    first = opened.context()
    assert opened.certificate is not None
    assert opened.certificate.name == "e1"
    now[0] += 10
    assert opened.context() is first
    foreign = pki.certificate_file("e2").read_text()
    kept = pki.certificate_file("e1").read_text()
    for text in ("", foreign):
        pki.certificate_file("e1").write_text(text)
        now[0] += 10
        assert opened.context() is first
    pki.certificate_file("e1").write_text(kept)
    pki.renew(NOON + timedelta(days=1), names=["e1"])
    now[0] += 10
    assert opened.context() is not first
    assert opened.certificate.not_after == NOON + timedelta(days=8)
    with pytest.raises(Misconfigured):
        TlsFiles(cert=pki.certificate_file("e1")).open()
    with pytest.raises(Misconfigured):
        TlsFiles(ca=pki.folder / "none").open()


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    with commanding(monkeypatch, capsys) as given:
        yield given


def test_the_commands(command: Command, tmp_path: Path) -> None:
    at = ("--folder", tmp_path / "pki")
    assert command("pki", "list", *at).code == 2
    assert command("pki", "init", *at).code == 0
    assert command("pki", "init", *at).code == 1
    hosts = ("--host", "broker.example", "--host", "192.0.2.7")
    for name in ("mosquitto", "nats"):
        assert command("pki", "issue", name, "--service", *hosts, *at).code == 0
    assert command("pki", "issue", "e1", "--host", "x", *at).code == 2
    made = command("pki", "issue", "e1", *at, "--json").json[0]
    assert (made["authority"], made["generation"], made["revoked"]) == ("field", 1, False)
    assert read_certificate(Path(made["certificate"]).read_text()).name == "e1"
    assert command("pki", "list", *at).code == 0
    assert command("pki", "renew", *at, "--json").json == []
    assert [one["name"] for one in command("pki", "renew", "e1", *at, "--json").json] == ["e1"]
    written = command("pki", "rules", "--site", "s1", "--edge", "e1=pump", *at, "--json").json["files"]
    assert [Path(name).name for name in written] == ["acl", "mosquitto.conf", "nats.conf"]
    assert 'user: "e1.g1"' in Path(written[2]).read_text()
    assert command("pki", "rules", "--site", "s1", *at).code == 2
    assert command("pki", "revoke", "e1", *at).code == 0
    assert "e1 (field) revoked" in command("pki", "list", *at).out
    book = orjson.loads((tmp_path / "pki" / "issued.json").read_bytes())
    assert len(book["revoked"]) == 2
    command("pki", "issue", "e1", "--days", "0.001", *at)
