"""Errors, named by what the caller does.

    IndustrialMindError
    ├── Unavailable      wait `retry_after` seconds and try again; nothing was lost
    ├── Rejected         this input can never succeed: dead-letter it and go on
    ├── Conflict         someone else wrote first: reload and try once more
    ├── NotFound         the caller decides
    └── Misconfigured    exit at start with the hint

Anything else is a bug: it crashes the process, and the supervisor restarts it.
"""


class IndustrialMindError(Exception):
    """The root of every error that a caller may handle."""


class Unavailable(IndustrialMindError):  # noqa: N818 - named by what the caller does
    """A resource is away for now. Wait `retry_after` seconds and retry."""

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Rejected(IndustrialMindError):  # noqa: N818 - named by what the caller does
    """This input can't be accepted, now or later. `reason` goes on its dead letter."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Conflict(IndustrialMindError):  # noqa: N818 - named by what the caller does
    """The state moved on since it was read. Reload and retry once."""


class NotFound(IndustrialMindError):  # noqa: N818 - named by what the caller does
    """The thing asked for does not exist."""


class Misconfigured(IndustrialMindError):  # noqa: N818 - named by what the caller does
    """A setting is wrong. `hint` says what to change."""

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(f"{message}\n  hint: {hint}")
        self.hint = hint


def lacking(error: ModuleNotFoundError, extra: str) -> Misconfigured:
    """The error for a package that an extra of this project would have brought."""
    return Misconfigured(f"{error.name} is not installed", hint=f"pip install 'industrialmind[{extra}]'")
