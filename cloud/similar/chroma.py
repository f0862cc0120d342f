"""Vectors in Chroma: in a folder that this process alone may open, or on its server.

All of it in one thread of its own, which also loads the library at the first call.
"""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np

from cloud.similar.embedding import Vector
from cloud.similar.port import MAX_PUT, Kept, Near
from shared.errors import Unavailable, lacking

COLLECTION: Final = "anomalies-1"
"""The number changes with what the vectors mean."""

Place = Path | tuple[str, int, bool]
T = TypeVar("T")


class ChromaVectors:
    """See the port."""

    def __init__(self, place: Place, thread: ThreadPoolExecutor) -> None:
        self._place, self._thread = place, thread
        self._opened: Any = None
        self._client: Any = None
        self._lock = -1

    async def put(self, kept: Sequence[Kept]) -> None:
        """See the port."""
        if len(kept) > MAX_PUT:
            raise ValueError(f"{len(kept)} vectors at once, at most {MAX_PUT}")
        if not kept:
            return
        latest = {each.id: each for each in kept}
        vectors = np.stack([each.vector for each in latest.values()])
        about = [dict(each.about) for each in latest.values()]
        await self._call(lambda at: at.upsert(ids=list(latest), embeddings=vectors, metadatas=about))

    async def missing(self, ids: Sequence[str]) -> set[str]:
        """See the port."""
        if not ids:
            return set()
        found = await self._call(lambda at: at.get(ids=list(ids), include=[]))
        return set(ids) - set(found["ids"])

    async def get(self, id_: str) -> Kept | None:
        """See the port."""
        found = await self._call(lambda at: at.get(ids=[id_], include=["embeddings", "metadatas"]))
        if not found["ids"]:
            return None
        return Kept(id_, np.asarray(found["embeddings"][0], np.float32), found["metadatas"][0])

    async def near(self, vector: Vector, most: int) -> list[Near]:
        """See the port."""
        found = await self._call(
            lambda at: at.query(
                query_embeddings=vector[None, :], n_results=most, include=["metadatas", "distances"]
            )
        )
        rows = zip(found["ids"][0], found["metadatas"][0], found["distances"][0], strict=True)
        near = [Near(id_, about, float(np.clip(1.0 - apart, 0.0, 1.0))) for id_, about, apart in rows]
        return sorted(near, key=lambda each: (-round(each.likeness, 6), each.id))

    async def _call(self, work: Callable[[Any], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._at_work, work)

    def _at_work(self, work: Callable[[Any], T]) -> T:
        """In the thread: open it if it is not, and work on it."""
        try:
            import chromadb.errors  # noqa: PLC0415 - 3 s and 70 MB, when somebody asks
        except ModuleNotFoundError as error:
            raise lacking(error, "cloud") from error
        try:
            if self._opened is None:
                self._opened = self._collection()
            return work(self._opened)
        except chromadb.errors.NotFoundError as error:  # somebody removed the collection under us
            self._forget()
            raise Unavailable(f"Chroma lost its collection: {error}") from error
        except (chromadb.errors.ChromaError, OSError, ValueError) as error:
            self._forget()
            raise Unavailable(f"Chroma does not answer: {error}") from error
        except Exception as error:
            if type(error).__module__.partition(".")[0] in {"httpx", "httpx2", "httpcore", "httpcore2"}:
                self._forget()
                raise Unavailable(f"Chroma does not answer: {error}") from error
            raise

    def _collection(self) -> Any:  # noqa: ANN401 - Chroma's
        import chromadb  # noqa: PLC0415
        from chromadb.config import Settings  # noqa: PLC0415

        quiet = Settings(anonymized_telemetry=False)
        if isinstance(self._place, Path):
            self._alone(self._place)
            client: Any = chromadb.PersistentClient(self._place, settings=quiet)
        else:
            host, port, ssl = self._place
            client = chromadb.HttpClient(host, port, ssl=ssl, settings=quiet)
        self._client = client
        return client.get_or_create_collection(
            COLLECTION, embedding_function=None, configuration={"hnsw": {"space": "cosine"}}
        )

    def _forget(self) -> None:
        client, self._client, self._opened = self._client, None, None
        if client is not None:
            client.close()
            for part in (client, client._admin_client):  # noqa: SLF001 - its own close leaves their connections open
                session = getattr(part._server, "_session", None)  # noqa: SLF001
                if session is not None:
                    session.close()

    def _alone(self, folder: Path) -> None:
        """Two processes on one folder damage it, and nothing of Chroma's prevents that. Raises Unavailable."""
        if self._lock >= 0:
            return
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(folder / "in-use", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise Unavailable(f"another process works on the vectors in {folder}") from error
        self._lock = descriptor

    def close(self) -> None:
        """Let the folder or the server go."""
        self._forget()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


@asynccontextmanager
async def open_chroma(place: Place) -> AsyncIterator[ChromaVectors]:
    """Vectors in a folder, or on the server (host, port, whether with TLS)."""
    with ThreadPoolExecutor(1, thread_name_prefix="chroma") as thread:
        opened = ChromaVectors(place, thread)
        try:
            yield opened
        finally:
            await asyncio.get_running_loop().run_in_executor(thread, opened.close)
