"""The short way to an answer that is kept: a question that was answered before is not taken apart again.

Plain ASGI, behind the gate. What the framework does to a request costs several times what a kept answer does; so the
endpoints leave word of which question a query was, and who asks it again in the same words is answered from that.
Rights are checked here as there, and whether the answer still holds is asked anew each time.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from cloud.api.cached import Answers, Kept
from cloud.api.touched import Reads
from shared.access import Right
from shared.clock import Clock

QUESTIONS: Final = 4096
"""Known ones; the one that was not asked for longest is forgotten first."""


@dataclass(frozen=True, slots=True)
class _Known:
    key: str
    reads: tuple[Reads, ...]
    until_us: int | None
    route: Any


class Questions:
    """Which question a query was, by its own words."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: OrderedDict[tuple[str, bytes, str], _Known] = OrderedDict()

    def remember(self, request: Request, key: str, reads: list[Reads], until_us: int | None) -> None:
        """The words of the request are this question, for ever or until a time: `now` is another one then."""
        words = _words(request.scope)
        self._known[words] = _Known(key, tuple(reads), until_us, request.scope.get("route"))
        self._known.move_to_end(words)
        while len(self._known) > QUESTIONS:
            self._known.popitem(last=False)

    def find(self, scope: Scope) -> _Known | None:
        """The question; None if these words are new, or mean another one by now."""
        words = _words(scope)
        found = self._known.get(words)
        if found is None or (found.until_us is not None and self._clock.now_us() >= found.until_us):
            return None
        self._known.move_to_end(words)
        return found


class Shortcut:
    """ASGI middleware: answers what is known and still holds, for who may read; all else goes on."""

    def __init__(self, app: ASGIApp, *, questions: Questions, answers: Answers) -> None:
        self._app = app
        self._questions = questions
        self._answers = answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        found = self._questions.find(scope) if scope["type"] == "http" and scope["method"] == "GET" else None
        who = scope.get("state", {}).get("principal")
        if found is not None and who is not None and who.may(Right.READ):
            kept = await self._answers.kept(found.key, found.reads)
            if kept is not None:
                scope["route"] = found.route
                await shown(kept)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def shown(kept: Kept) -> Response:
    """A kept answer as a response."""
    headers = {"ETag": kept.tag, "Vary": "Accept", **kept.made.more}
    return Response(kept.made.body, 200, headers, kept.made.media_type)


def _words(scope: Scope) -> tuple[str, bytes, str]:
    return scope["path"], scope["query_string"], Headers(scope=scope).get("accept", "")
