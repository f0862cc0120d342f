"""Which edge's row a log record carries, where the record is the row's own bytes: headers beside it say so."""

from collections.abc import Mapping
from typing import Final

from shared import names
from shared.errors import Rejected
from shared.eventlog import Stored
from shared.frames import EPOCH_BYTES, Header, Kind

_MAX_ROW: Final = 2**62


def origin_headers(header: Header, row: int) -> Mapping[str, str]:
    """The headers of a record that carries one row of a frame."""
    return {
        names.HEADER_SITE: header.site,
        names.HEADER_EDGE: header.edge,
        names.HEADER_EPOCH: header.epoch.hex(),
        names.HEADER_ROW: str(row),
    }


def origin(record: Stored, kind: Kind) -> Header | None:
    """The row as a header of one row, its machine the record's key; None if the record comes from no edge."""
    try:
        epoch = bytes.fromhex(record.headers[names.HEADER_EPOCH])
        row = int(record.headers[names.HEADER_ROW])
        edge = names.check_id(record.headers[names.HEADER_EDGE], "edge")
    except (KeyError, ValueError, Rejected):
        return None
    if len(epoch) != EPOCH_BYTES or not 1 <= row <= _MAX_ROW:
        return None
    return Header(record.headers.get(names.HEADER_SITE, ""), edge, record.key, kind, epoch, row, 1)
