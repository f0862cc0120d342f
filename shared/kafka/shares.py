"""What one member holds of a group's topics: the records that came, those given out, and how far they are acked.

Kafka keeps one number a partition: everything before it is done. So an ack commits the records up to the first one
that is still given out and not acknowledged; later ones that were acked out of turn wait for it.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from confluent_kafka import Message

from shared.kafka.records import offset_of


@dataclass(slots=True, eq=False)
class Share:
    """One partition while this member has it. `turn` counts its returns to an earlier record."""

    topic: str
    partition: int
    turn: int = 0
    gone: bool = False
    waiting: deque[Message] = field(default_factory=deque)
    given: "deque[Given]" = field(default_factory=deque)
    back_to: int | None = None
    """Where it must seek to before anything else is taken from it."""

    def give(self, taken: int, first: int, last: int, now: float) -> "Given":
        """Note records as given out."""
        given = Given(self, self.turn, first, last, now, taken)
        self.given.append(given)
        return given

    def settled(self) -> int | None:
        """The offset to commit: after the acked records with none before them that is not; None for nothing new."""
        done = None
        for given in self.given:
            if not given.acked:
                break
            done = given.last + 1
        return done

    def committed(self, offset: int) -> None:
        """Forget what was committed."""
        while self.given and self.given[0].last < offset:
            self.given.popleft()

    def rewind(self) -> None:
        """Begin again at the first record that is not acked."""
        first = next((given.first for given in self.given), None)
        if first is None and self.waiting:
            first = offset_of(self.waiting[0])
        if first is not None:
            self.back_to = first if self.back_to is None else min(first, self.back_to)
        self.turn += 1
        self.waiting.clear()
        self.given.clear()


@dataclass(slots=True, eq=False)
class Given:
    """Records of one fetch and one partition."""

    share: Share
    turn: int
    first: int
    last: int
    at: float
    count: int
    acked: bool = False

    @property
    def ours(self) -> bool:
        """Whether an ack still counts."""
        return not self.share.gone and self.turn == self.share.turn


class Shares:
    """All partitions of one member. Records are taken from the topics in turn, and from a topic's partitions in turn."""

    def __init__(self, topics: Iterable[str]) -> None:
        self._shares: dict[tuple[str, int], Share] = {}
        self._turns: dict[str, deque[Share]] = {topic: deque() for topic in topics}
        self._topics = deque(self._turns)
        self.waiting = 0
        self.waiting_bytes = 0

    def __iter__(self) -> Iterator[Share]:
        return iter(self._shares.values())

    def add(self, topic: str, partition: int) -> None:
        """A partition is ours from now on."""
        self.remove(topic, partition)
        share = self._shares[topic, partition] = Share(topic, partition)
        self._turns[topic].append(share)

    def remove(self, topic: str, partition: int) -> None:
        """A partition is another's now: what is here of it counts no more."""
        share = self._shares.pop((topic, partition), None)
        if share is not None:
            self._turns[topic].remove(share)
            self._drop(share)
            share.gone = True

    def put(self, message: Message) -> None:
        """Keep a record that came."""
        share = self._shares.get((message.topic() or "", message.partition() or 0))
        if share is not None and share.back_to is None:
            share.waiting.append(message)
            self.waiting += 1
            self.waiting_bytes += len(message)

    def rewind(self, share: Share) -> None:
        """Begin a partition again at its first record that is not acked."""
        self._drop(share)
        share.rewind()

    def _drop(self, share: Share) -> None:
        """Its waiting records are about to go."""
        self.waiting -= len(share.waiting)
        self.waiting_bytes -= sum(len(message) for message in share.waiting)

    def take(self, limit: int, now: float) -> tuple[list[Message], list[Given]]:
        """Up to `limit` records, and what was noted of them."""
        taken: list[Message] = []
        places: dict[Share, list[int]] = {}
        while self.waiting and len(taken) < limit:
            topic = self._topics[0]
            self._topics.rotate(-1)
            share = self._next(self._turns[topic])
            if share is None:
                continue
            message = share.waiting.popleft()
            self.waiting -= 1
            self.waiting_bytes -= len(message)
            taken.append(message)
            offset = offset_of(message)
            place = places.setdefault(share, [offset, offset, 0])
            place[1], place[2] = offset, place[2] + 1
        return taken, [share.give(count, first, last, now) for share, (first, last, count) in places.items()]

    @staticmethod
    def _next(turns: "deque[Share]") -> Share | None:
        for _ in range(len(turns)):
            turns.rotate(-1)
            if turns[-1].waiting:
                return turns[-1]
        return None
