"""A network between two parts that can be cut, one way or both ways, delayed and healed."""

import asyncio
import contextlib
from enum import Enum

from shared.supervise import free_ports
from tests.faults.background import Background

_CHUNK = 64 * 1024


class Cut(Enum):
    """How a network fails."""

    RESET = "every connection ends, new ones are refused"
    BOTH = "nothing passes either way, connections stay open"
    UP = "nothing passes towards the server"
    DOWN = "nothing passes back from the server"


class TcpProxy:
    """Passes bytes between `port` and `target`, both on the loopback. `passed` counts what went up and down."""

    def __init__(self, background: Background, target: int) -> None:
        [self.port] = free_ports(1)
        self.passed = {"up": 0, "down": 0}
        self._target = target
        self._background = background
        self._delay = 0.0
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._open = background.call(self._gates())
        background.call(self._listen())

    def cut(self, how: Cut) -> None:
        """Fail like that until `heal`."""
        self._background.call(self._cut(how))

    def delay(self, seconds: float) -> None:
        """Let each piece wait so long before it goes on."""
        self._delay = seconds

    def heal(self) -> None:
        """Work again. What was held back goes on its way, as a network's retransmissions do."""
        self._delay = 0.0
        self._background.call(self._heal())

    def close(self) -> None:
        """End it."""
        self._background.call(self._cut(Cut.RESET))

    async def _gates(self) -> dict[str, asyncio.Event]:
        gates = {"up": asyncio.Event(), "down": asyncio.Event()}
        for gate in gates.values():
            gate.set()
        return gates

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def _cut(self, how: Cut) -> None:
        if how in (Cut.BOTH, Cut.UP):
            self._open["up"].clear()
        if how in (Cut.BOTH, Cut.DOWN):
            self._open["down"].clear()
        if how is Cut.RESET and self._server is not None:
            self._server.close()
            self._server = None
            for writer in list(self._writers):
                writer.transport.abort()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _heal(self) -> None:
        for gate in self._open.values():
            gate.set()
        await self._listen()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            await self._open["up"].wait()  # while nothing passes, no connection comes about
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
            self._writers.add(far_writer)
            try:
                up = asyncio.create_task(self._pass("up", reader, far_writer))
                down = asyncio.create_task(self._pass("down", far_reader, writer))
                await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for each in (up, down):
                    each.cancel()
                await asyncio.gather(up, down, return_exceptions=True)
                self._writers.discard(far_writer)
                far_writer.transport.abort()
        except (OSError, asyncio.CancelledError):
            pass  # the server is away, or the network was cut: the client sees its connection end
        finally:
            self._tasks.discard(task)
            self._writers.discard(writer)
            writer.transport.abort()

    async def _pass(self, way: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(_CHUNK):
                await self._open[way].wait()
                if self._delay:
                    await asyncio.sleep(self._delay)
                writer.write(piece)
                self.passed[way] += len(piece)
                await writer.drain()
