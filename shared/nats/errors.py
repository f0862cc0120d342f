"""What nats-server's and its driver's errors mean to a caller: one of the five."""

from collections.abc import Mapping
from typing import Any, Final, NoReturn

import nats.errors
import nats.js.errors

from shared.errors import Conflict, IndustrialMindError, Misconfigured, NotFound, Rejected, Unavailable

_ERROR_CODES: Final = {
    10071: Conflict,  # wrong last sequence
    10164: Conflict,  # wrong last sequence, constant text
    10201: Conflict,  # an id in an atomic batch that the stream knows already
    10054: Rejected,  # message larger than the stream allows
    10014: NotFound,  # consumer
    10037: NotFound,  # message
    10059: NotFound,  # stream
}
# What each of the driver's exceptions means to a caller. A test fails when the driver gains one that is not here.
DRIVER_ERRORS: Final[Mapping[type[Exception], type[IndustrialMindError]]] = {
    **dict.fromkeys(
        (
            nats.errors.Error,
            nats.errors.TimeoutError,
            nats.errors.NoRespondersError,
            nats.errors.StaleConnectionError,
            nats.errors.OutboundBufferLimitError,
            nats.errors.UnexpectedEOF,
            nats.errors.FlushTimeoutError,
            nats.errors.ConnectionClosedError,
            nats.errors.SlowConsumerError,
            nats.errors.NoServersError,
            nats.errors.JsonParseError,
            nats.errors.DrainTimeoutError,
            nats.errors.ConnectionDrainingError,
            nats.errors.ConnectionReconnectingError,
            nats.errors.ProtocolError,
            nats.errors.ServerNotInPoolError,
            nats.errors.MsgAlreadyAckdError,
            nats.js.errors.Error,
            nats.js.errors.APIError,
            nats.js.errors.ServiceUnavailableError,
            nats.js.errors.ServerError,
            nats.js.errors.NoStreamResponseError,
            nats.js.errors.TooManyStalledMsgsError,
            nats.js.errors.FetchTimeoutError,
            nats.js.errors.ConsumerSequenceMismatchError,
            nats.js.errors.KeyValueError,
            nats.js.errors.DigestMismatchError,
        ),
        Unavailable,
    ),
    **dict.fromkeys(
        (
            nats.errors.BadSubscriptionError,
            nats.errors.BadSubjectError,
            nats.errors.BadHeaderError,
            nats.errors.MaxPayloadError,
            nats.errors.NotJSMessageError,
            nats.js.errors.BadRequestError,
            nats.js.errors.ConsumerInvalidResetError,
            nats.js.errors.BadBucketError,
            nats.js.errors.KeyHistoryTooLargeError,
            nats.js.errors.InvalidKeyError,
            nats.js.errors.InvalidBucketNameError,
            nats.js.errors.InvalidObjectNameError,
            nats.js.errors.BadObjectMetaError,
            nats.js.errors.LinkIsABucketError,
        ),
        Rejected,
    ),
    **dict.fromkeys(
        (
            nats.js.errors.NotFoundError,
            nats.js.errors.BucketNotFoundError,
            nats.js.errors.KeyDeletedError,
            nats.js.errors.KeyNotFoundError,
            nats.js.errors.NoKeysError,
            nats.js.errors.ObjectNotFoundError,
            nats.js.errors.ObjectDeletedError,
        ),
        NotFound,
    ),
    **dict.fromkeys((nats.js.errors.KeyWrongLastSequenceError, nats.js.errors.ObjectAlreadyExists), Conflict),
    **dict.fromkeys(
        (
            nats.errors.SecureConnRequiredError,
            nats.errors.SecureConnWantedError,
            nats.errors.SecureConnFailedError,
            nats.errors.BadTimeoutError,
            nats.errors.AuthorizationError,
            nats.errors.InvalidUserCredentialsError,
            nats.errors.InvalidCallbackTypeError,
            nats.js.errors.KeyValueLimitMarkerTTLNotSupportedError,
        ),
        Misconfigured,
    ),
}


def _made(kind: type[IndustrialMindError], text: str) -> IndustrialMindError:
    if issubclass(kind, Misconfigured):
        return Misconfigured(text, hint="check the user, its password and its permissions in nats.conf")
    return kind(text)


def translated(error: Exception, doing: str) -> IndustrialMindError:
    """One of the five errors for what the driver, the socket or a time-out raised while `doing` something."""
    for cls in type(error).__mro__:
        if cls in DRIVER_ERRORS:
            return _made(DRIVER_ERRORS[cls], f"{doing}: {error or type(error).__name__}")
    if isinstance(error, OSError):
        return Unavailable(f"{doing}: {error or 'no answer in time'}")
    raise error


def raise_api_error(error: Mapping[str, Any], doing: str) -> NoReturn:
    """Raise what an `error` object of the JetStream API means. Full and failing stores are Unavailable."""
    code, number = int(error.get("code", 500)), int(error.get("err_code", 0))
    by_status = {400: Rejected, 404: NotFound}.get(code, Unavailable)
    kind = _ERROR_CODES.get(number, by_status)
    raise _made(kind, f"{doing}: {error.get('description', 'failed')} ({code}/{number})")
