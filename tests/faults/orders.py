"""Somebody who opens work orders whatever is away: each under a key of its own, sent again until it is answered."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import httpx

from tests.faults.answers import PATIENCE_S, Answers
from tests.faults.background import Background

MAX_PAGE: Final = 1000
_PACE_S: Final = 0.1
_NOT_YET: Final = {httpx.codes.ACCEPTED, httpx.codes.SERVICE_UNAVAILABLE}


class Orders:
    """Opens them in the background until told to end, and reads each one back at the position that its answer named.

    What was answered is promised: it must be there, once, for ever. What was not answered may be there, once.
    """

    def __init__(self, background: Background, url: str, token: str, machine: str) -> None:
        self.answers = Answers()
        self.opened: dict[str, str] = {}
        """Title to id of those that were answered."""
        self._machine = machine
        self._url, self._headers = url, {"Authorization": f"Bearer {token}"}
        self._halt = asyncio.Event()
        self._background = background
        self._running = background.start(self._run())

    def stop(self) -> Answers:
        """End, and hold the list of all orders against what was answered. The API must be there."""
        self._background.loop.call_soon_threadsafe(self._halt.set)
        self._running.result(2 * PATIENCE_S)
        titles = Counter(order["title"] for order in self._background.call(self._all()))
        if gone := self.opened.keys() - titles.keys():
            self.answers.wrong.append(f"{len(gone)} orders are gone: {sorted(gone)[:5]}")
        if twice := [title for title, times in titles.items() if times > 1]:
            self.answers.wrong.append(f"opened twice: {twice[:5]}")
        return self.answers

    async def _run(self) -> None:
        async with self._client() as client:
            made = await client.post(
                "/v1/assets/machine", json={"id": self._machine}, headers={"Idempotency-Key": self._machine}
            )
            assert made.status_code in {httpx.codes.CREATED, httpx.codes.CONFLICT}, made.text
            number = 0
            while not self._halt.is_set():
                number += 1
                await self._open(client, f"order {number}")
                await asyncio.sleep(_PACE_S)

    async def _open(self, client: httpx.AsyncClient, title: str) -> None:
        """Until it is answered, or nobody wants it any more."""
        while not self._halt.is_set():
            answer = await self._sent(
                client, "POST", "/v1/work-orders", {"machine": self._machine, "title": title}, title
            )
            if answer is None:
                await asyncio.sleep(_PACE_S)
                continue
            done = answer.json()
            order = done["work_order"]["id"]
            self.opened[title] = order
            position = ",".join(f"{part}-{offset}" for part, offset in done["position"].items())
            read = await self._sent(client, "GET", f"/v1/work-orders/{order}?min_position={position}")
            if read is not None and read.json()["title"] != title:
                self.answers.wrong.append(f"{order} is called {read.json()['title']!r}, not {title!r}")
            return

    async def _sent(
        self,
        client: httpx.AsyncClient,
        method: str,
        path: str,
        body: Mapping[str, str] | None = None,
        key: str = "",
    ) -> httpx.Response | None:
        """A good answer; None if it can't be had now. Any other is wrong."""
        begun = time.monotonic()
        try:
            headers = {"Idempotency-Key": key.replace(" ", "-")} if key else {}
            answer = await client.request(method, path, json=body, headers=headers)
        except httpx.TransportError as error:
            self.answers.unavailable[type(error).__name__] += 1
            return None
        finally:
            self.answers.slowest = max(self.answers.slowest, time.monotonic() - begun)
        if answer.status_code in _NOT_YET:
            self.answers.unavailable[str(answer.status_code)] += 1
            return None
        if answer.is_success:
            self.answers.right += 1
            return answer
        self.answers.wrong.append(f"{method} {path}: {answer.status_code} {answer.text[:200]}")
        return None

    async def _all(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        async with self._client() as client:
            cursor = ""
            while True:
                query: dict[str, str] = {"limit": str(MAX_PAGE)} | ({"cursor": cursor} if cursor else {})
                page = (await client.get("/v1/work-orders", params=query)).raise_for_status().json()
                found += page["work_orders"]
                cursor = page["next"] or ""
                if not cursor:
                    return found

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=self._url, headers=self._headers, timeout=PATIENCE_S, trust_env=False
        )
