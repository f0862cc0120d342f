"""What the client subscribes to, now and after each reconnect, and who waits for the broker's word on it."""

import asyncio
from collections.abc import Sequence
from typing import Final

from gateway.mqtt import packets
from gateway.mqtt.packets import MQTT5, Connack, Level
from gateway.port import SHARED_PREFIX, shares_need_mqtt5
from shared.errors import Misconfigured, Unavailable

_HINT: Final = "grant it to this user in the broker's permissions"


class Subscriptions:
    """Filters with their QoS, in the order of asking."""

    def __init__(self, where: str) -> None:
        self.filters: dict[str, int] = {}
        self._where = where
        self._granted: dict[str, asyncio.Future[None]] = {}
        self._asked: dict[int, tuple[str, ...]] = {}
        self._no_shares: Misconfigured | None = None

    def want(self, filters: Sequence[str], qos: int) -> "asyncio.Future[list[None]]":
        """Add filters; the result ends when all are granted, or raises Misconfigured."""
        loop = asyncio.get_running_loop()
        for each in filters:
            self.filters[each] = qos
            if each not in self._granted or self._granted[each].cancelled():
                self._granted[each] = loop.create_future()
        waiting = asyncio.gather(*(self._granted[each] for each in filters))
        self._refuse_shares()
        return waiting

    def begin(self, answer: Connack, level: Level) -> None:
        """A new connection stands: nothing is asked yet, and the broker has said whether it can share."""
        self._asked.clear()
        self._no_shares = None
        if level != MQTT5:
            self._no_shares = shares_need_mqtt5(self._where)
        elif not answer.shares:
            self._no_shares = Misconfigured(
                f"the MQTT broker at {self._where} has no shared subscriptions",
                hint="switch them on there, or run one gateway with share_group empty",
            )
        self._refuse_shares()

    def packet(self, packet_id: int, level: Level, filters: Sequence[str] | None = None) -> bytes:
        """The SUBSCRIBE for those (None: all) filters, or nothing where there are none."""
        asked = tuple(each for each in (filters or self.filters) if each in self.filters)
        if not asked:
            return b""
        self._asked[packet_id] = asked
        return packets.subscribe(packet_id, [(each, self.filters[each]) for each in asked], level)

    def settle(self, packet_id: int, refusals: Sequence[str]) -> str:
        """The broker's word on a SUBSCRIBE; returns what it refused, in words."""
        problem = ""
        for each, refused in zip(self._asked.pop(packet_id, ()), refusals, strict=False):
            waiting = self._granted[each]
            if refused:
                problem = f"the MQTT broker at {self._where} refuses the subscription to {each!r}: {refused}"
                if not waiting.done():  # one that was granted before is asked for again and again
                    self._refuse(each, Misconfigured(problem, hint=_HINT))
            elif not waiting.done():
                waiting.set_result(None)
        return problem

    def close(self) -> None:
        """Nobody will answer what still waits."""
        for waiting in self._granted.values():
            if not waiting.done():
                waiting.set_exception(Unavailable(f"the MQTT client of {self._where} was closed"))
                waiting.exception()  # whoever awaits it sees it; nobody else needs a warning

    def _refuse_shares(self) -> None:
        if self._no_shares is not None:
            for each in [each for each in self.filters if each.startswith(SHARED_PREFIX)]:
                if not self._granted[each].done():
                    self._refuse(each, self._no_shares)

    def _refuse(self, each: str, error: Misconfigured) -> None:
        del self.filters[each]
        waiting = self._granted.pop(each)
        waiting.set_exception(error)
        waiting.exception()  # its waiter sees it, if it still waits
