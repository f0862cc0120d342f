"""Which edge's rows a log record stands for, where it is no frame: headers beside the bytes say so."""

from typing import Final

from shared import names
from shared.errors import Rejected
from shared.eventlog import Stored
from shared.frames import EPOCH_BYTES, MAX_ROWS, Header, Kind

_MAX_ROW: Final = 2**62


def origin_headers(header: Header, row: int) -> dict[str, str]:
    """The headers of a record that stands for one row of the header's."""
    return {
        names.HEADER_SITE: header.site,
        names.HEADER_EDGE: header.edge,
        names.HEADER_EPOCH: header.epoch.hex(),
        names.HEADER_ROW: str(row),
    }


def origin(record: Stored, kind: Kind) -> Header | None:
    """The record's rows as a header, its machine the record's key; None if the record comes from no edge.

    A record is one row, or as many as its header `im-rows` says (a refused frame is one dead letter).
    """
    try:
        epoch = bytes.fromhex(record.headers[names.HEADER_EPOCH])
        row = int(record.headers[names.HEADER_ROW])
        rows = int(record.headers.get(names.HEADER_ROWS, "1"))
        edge = names.check_id(record.headers[names.HEADER_EDGE], "edge")
    except (KeyError, ValueError, Rejected):
        return None
    if len(epoch) != EPOCH_BYTES or not 1 <= row <= _MAX_ROW or not 1 <= rows <= MAX_ROWS:
        return None
    return Header(record.headers.get(names.HEADER_SITE, ""), edge, record.key, kind, epoch, row, rows)
