"""The series and machines that a gateway speaks for itself, each known by a small number. Bounded."""

import hashlib
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.errors import Rejected
from shared.frames import EPOCH_BYTES
from shared.names import DeviceTopic

MAX_MACHINES: Final = 10_000
MAX_SERIES: Final = 65_536


@dataclass(slots=True)
class Machine:
    """A machine with no edge. Its epoch is of this start of the gateway; its next row continues the log's."""

    site: str
    name: str
    epoch: bytes
    next_row: int = 1


class Series:
    """Topic to series number, series to machine number.

    Machines stay for as long as the gateway runs, up to `MAX_MACHINES`. Series are a cache: when `MAX_SERIES` are
    known, all are forgotten.
    """

    def __init__(self, epoch: bytes) -> None:
        self.machines: list[Machine] = []
        self.sensors: list[str] = []
        self._epoch = epoch
        self._machine_numbers: dict[tuple[str, str], int] = {}
        self._numbers: dict[str, int] = {}
        self._machine_of = np.zeros(MAX_SERIES, np.int64)

    def numbers(self, topics: list[str]) -> NDArray[np.int64]:
        """The number of each topic's series, -1 for those not learned."""
        try:
            return np.fromiter(map(self._numbers.__getitem__, topics), np.int64, len(topics))
        except KeyError:
            known = self._numbers.get
            return np.fromiter((known(topic, -1) for topic in topics), np.int64, len(topics))

    def machines_of(self, series: NDArray[np.int64]) -> NDArray[np.int64]:
        """The number of each series' machine."""
        of: NDArray[np.int64] = self._machine_of[series]
        return of

    def make_room(self, topics: int) -> bool:
        """Forget all series if so many more might not fit; returns whether. Earlier numbers then mean nothing."""
        if len(self.sensors) + topics <= MAX_SERIES:
            return False
        self._numbers.clear()
        self.sensors.clear()
        return True

    def learn(self, text: str, topic: DeviceTopic) -> int:
        """The number of a topic's series. Raises Rejected when its machine does not fit any more."""
        number = self._numbers.get(text)
        if number is None:
            machine = self._machine(topic)
            number = self._numbers[text] = len(self.sensors)
            self.sensors.append(topic.sensor)
            self._machine_of[number] = machine
        return number

    def _machine(self, topic: DeviceTopic) -> int:
        key = (topic.site, topic.machine)
        number = self._machine_numbers.get(key)
        if number is None:
            if len(self.machines) >= MAX_MACHINES:
                raise Rejected(
                    f"machine {topic.machine} is one more than the {MAX_MACHINES} that fit a gateway"
                )
            number = self._machine_numbers[key] = len(self.machines)
            self.machines.append(Machine(topic.site, topic.machine, self._epoch_of(topic)))
        return number

    def _epoch_of(self, topic: DeviceTopic) -> bytes:
        """One epoch a machine and start: a gateway that dies leaves no gap before rows that the log already has."""
        name = f"{topic.site}/{topic.machine}".encode()
        return hashlib.blake2b(name, key=self._epoch, digest_size=EPOCH_BYTES).digest()
