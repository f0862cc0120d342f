"""The plant's own certificates: two authorities, what they issued, and what they took back, in one folder.

`field` signs for edges and devices, `services` for the plant's parts and servers, so that a broker can keep a door for
each: a certificate from the shop floor never opens the services' one. Certificates live for days. A renewal signs the
same public key again, so nothing secret travels and the agent needs no library for it; see docs/adr.

A client's certificates carry its *generation* as a DNS name (`edge-1.g2`). Revoking raises it: mosquitto learns of it by
the revocation list, nats-server, which reads none, by its users, who are named so.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal

import orjson

from industrialmind.cryptography import (
    Authority,
    Wish,
    key_pem,
    load_authority,
    load_public,
    new_authority,
    new_key,
    public_pem,
    request_key,
    revocation_list,
    sign,
)
from industrialmind.plant import write_private
from shared.errors import Conflict, Misconfigured, NotFound, Rejected
from shared.names import is_id

Door = Literal["field", "services"]

DOORS: Final[tuple[Door, ...]] = ("field", "services")
DAYS: Final = 7.0
AUTHORITY_DAYS: Final = 3650.0
LIST_DAYS: Final = 30.0
RENEW_AT: Final = 2 / 3
"""Of its life: from then on a certificate is due to be renewed."""
BOOK: Final = "issued.json"


@dataclass(frozen=True, slots=True)
class Issued:
    """A name and its newest certificate. `serials` are all of its generation that still hold, and until when."""

    name: str
    door: Door
    public_key: str
    generation: int
    not_before: datetime
    not_after: datetime
    serials: tuple[tuple[int, datetime], ...]
    hosts: tuple[str, ...] = ()
    revoked: bool = False

    def due(self, now: datetime) -> bool:
        """Whether it is to be renewed."""
        return now >= self.not_before + (self.not_after - self.not_before) * RENEW_AT


@dataclass(frozen=True, slots=True)
class Revoked:
    """A certificate that was taken back."""

    door: Door
    serial: int
    at: datetime
    not_after: datetime


@dataclass(slots=True)
class Book:
    """What was issued, by name, and what was taken back."""

    issued: dict[str, Issued] = field(default_factory=dict)
    revoked: list[Revoked] = field(default_factory=list)

    def to_json(self) -> str:
        """As kept."""
        raw = {"issued": [asdict(one) for one in self.issued.values()]}
        raw["revoked"] = [asdict(one) for one in self.revoked]
        # Serial numbers have 160 bits, which JSON's numbers do not: they are hex.
        for entry in raw["issued"]:
            entry["serials"] = [[f"{serial:x}", until] for serial, until in entry["serials"]]
        for entry in raw["revoked"]:
            entry["serial"] = f"{entry['serial']:x}"
        return orjson.dumps(raw, option=orjson.OPT_INDENT_2).decode()

    @classmethod
    def from_json(cls, text: str) -> "Book":
        """Read back. Raises Misconfigured."""
        try:
            raw = orjson.loads(text)
            issued = [_issued(entry) for entry in raw["issued"]]
            revoked = [
                Revoked(e["door"], int(e["serial"], 16), _when(e["at"]), _when(e["not_after"]))
                for e in raw["revoked"]
            ]
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise Misconfigured(f"{BOOK} can't be read: {error!r}", hint="take it from a backup") from error
        return cls({one.name: one for one in issued}, revoked)


class Pki:
    """The folder. One process at a time changes it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def init(cls, folder: Path, now: datetime, *, days: float = AUTHORITY_DAYS) -> "Pki":
        """Make the authorities. Raises Conflict if there are some."""
        pki = cls(folder)
        if any(pki.authority_file(door).exists() for door in DOORS):
            raise Conflict(f"{folder} holds authorities already: every certificate of theirs would be void")
        for door in DOORS:
            made = new_authority(f"industrialmind {door}", now, now + timedelta(days=days))
            write_private(pki.authority_file(door, ".key"), made.key_pem)
            write_public(pki.authority_file(door), made.pem)
        write_public(folder / "ca.crt", "".join(pki.authority_file(door).read_text() for door in DOORS))
        pki._keep(Book(), now)
        return pki

    def book(self) -> Book:
        """What was issued. Raises Misconfigured (no such folder)."""
        try:
            return Book.from_json((self.folder / BOOK).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise Misconfigured(
                f"{self.folder} holds no authorities", hint="run industrialmind pki init, or give --folder"
            ) from error

    def authority_file(self, door: Door, suffix: str = ".crt") -> Path:
        """An authority's certificate, or its `.key`."""
        return self.folder / f"ca-{door}{suffix}"

    def list_file(self, door: Door) -> Path:
        """An authority's revocation list."""
        return self.folder / f"crl-{door}.pem"

    def certificate_file(self, name: str, suffix: str = ".crt") -> Path:
        """A client's or server's certificate, or its `.key`."""
        return self.folder / "certs" / f"{name}{suffix}"

    def issue(
        self,
        name: str,
        door: Door,
        now: datetime,
        *,
        days: float = DAYS,
        hosts: Sequence[str] = (),
        request: str = "",
    ) -> Issued:
        """A certificate for a new key, or for the key of a signing request, which then stays where it was made.

        Earlier ones of the name hold on until they end or are revoked. Raises Rejected (name, request).
        """
        check_name(name)
        book = self.book()
        known = book.issued.get(name)
        if known is not None and known.door != door:
            raise Rejected(f"{name} has a certificate of the {known.door} authority: choose another name")
        if request:
            public = request_key(request)
            self.certificate_file(name, ".key").unlink(missing_ok=True)
        else:
            key = new_key()
            public = key.public_key()
            write_private(self.certificate_file(name, ".key"), key_pem(key))
        generation = 1 if known is None else known.generation
        earlier = () if known is None else known.serials
        made = Issued(name, door, public_pem(public), generation, now, now, earlier, tuple(hosts))
        return self._sign(book, made, now, days)

    def renew(self, now: datetime, *, days: float = DAYS, names: Iterable[str] | None = None) -> list[Issued]:
        """Sign the keys of those that are due again (or of `names`), and the revocation lists. Raises NotFound."""
        book = self.book()
        if names is None:
            wanted = [one for one in book.issued.values() if one.due(now) and not one.revoked]
        else:
            wanted = [self._known(book, name) for name in names]
        renewed = [self._sign(book, one, now, days) for one in wanted]
        self._keep(book, now)
        return renewed

    def revoke(self, name: str, now: datetime) -> Issued:
        """Take back every certificate of the name. `issue` gives it a new one, of the next generation. Raises NotFound."""
        book = self.book()
        known = self._known(book, name)
        book.revoked += [Revoked(known.door, serial, now, until) for serial, until in known.serials]
        book.issued[name] = replace(known, generation=known.generation + 1, serials=(), revoked=True)
        self._keep(book, now)
        return book.issued[name]

    def _known(self, book: Book, name: str) -> Issued:
        if name not in book.issued or book.issued[name].revoked:
            raise NotFound(f"{name[:60]} has no certificate that holds")
        return book.issued[name]

    def _sign(self, book: Book, one: Issued, now: datetime, days: float) -> Issued:
        until = now + timedelta(days=days)
        wish = Wish(one.name, now, until, one.hosts, (f"{one.name}.g{one.generation}",))
        pem, serial = sign(self._authority(one.door), load_public(one.public_key), wish)
        held = tuple(each for each in one.serials if each[1] > now)
        made = replace(one, not_before=now, not_after=until, serials=(*held, (serial, until)), revoked=False)
        book.issued[one.name] = made
        self._keep(book, now)  # before anybody has it: what nobody wrote down could not be revoked
        write_public(self.certificate_file(one.name), pem)
        return made

    def _authority(self, door: Door) -> Authority:
        try:
            certificate = self.authority_file(door).read_text(encoding="ascii")
            return load_authority(certificate, self.authority_file(door, ".key").read_text(encoding="ascii"))
        except OSError as error:
            raise Misconfigured(
                f"the {door} authority's key is not here: {error.strerror}",
                hint="run it where the key is kept",
            ) from error

    def _keep(self, book: Book, now: datetime) -> None:
        """Write the book, and the lists by it; what has ended by itself needs no place in a list any more."""
        book.revoked = [one for one in book.revoked if one.not_after > now]
        write_private(self.folder / BOOK, book.to_json())
        for door in DOORS:
            taken = [(one.serial, one.at) for one in book.revoked if one.door == door]
            text = revocation_list(self._authority(door), taken, now, now + timedelta(days=LIST_DAYS))
            write_public(self.list_file(door), text)


def check_name(name: str) -> str:
    """An id, or ids with dots between, as `edge-1.devices`. Raises Rejected."""
    if not all(is_id(part) for part in name.split(".")):
        raise Rejected(f"{name[:60]!r} can't be a certificate's name: use ids, with dots between")
    return name


def write_public(path: Path, text: str) -> None:
    """Write a file that everybody may read, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(text, encoding="ascii")
    temporary.chmod(0o644)
    temporary.rename(path)


def _issued(raw: Mapping[str, Any]) -> Issued:
    return Issued(
        raw["name"],
        raw["door"],
        raw["public_key"],
        int(raw["generation"]),
        _when(raw["not_before"]),
        _when(raw["not_after"]),
        tuple((int(serial, 16), _when(until)) for serial, until in raw["serials"]),
        tuple(raw["hosts"]),
        bool(raw["revoked"]),
    )


def _when(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
