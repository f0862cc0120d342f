"""The browsers that look, and what each is told: the parts of its page that changed, at its own pace."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import structlog
from dash import html
from dash.development.base_component import Component

from cloud.ui import shell
from cloud.ui.charts import load, unread
from cloud.ui.client import ApiClient
from cloud.ui.live import Live
from cloud.ui.pages import fleet, machine
from cloud.ui.parts import attrs
from cloud.ui.plant import PlantView
from cloud.ui.route import Route
from cloud.ui.screen import Part, Screen
from cloud.ui.settings import UiSettings
from shared.clock import Clock
from shared.errors import Rejected, Unavailable

log = structlog.get_logger()

BEAT_SECONDS: Final = 1.0
BACKLOG: Final = 50
"""Messages that may wait in a browser's socket; a slower browser skips updates."""

Tell = Callable[[str, str, Any], None]
"""Sets a property of a component in a browser."""


class Socket(Protocol):
    """A browser's WebSocket, as Dash hands it to a callback."""

    @property
    def is_shutdown(self) -> bool:
        """Whether it is gone."""
        ...

    def set_prop_sync(self, component_id: str, prop_name: str, value: Any, /) -> None:  # noqa: ANN401 - Dash's
        """Queue a property for the browser."""
        ...


@dataclass(slots=True)
class Tab:
    """One open page in one browser. `url`: the page that it says it shows."""

    url: str | None = None
    screen: Screen = field(default_factory=Screen)
    live: bool = False
    seen: float = 0.0

    def shows(self, url: str | None) -> None:
        """It shows a page now, freshly built: all its parts are told once more, so that nothing falls between."""
        self.url = url
        self.screen.forget()


class Room:
    """All tabs. At most `settings.browsers`; who comes later is told to wait."""

    def __init__(
        self, settings: UiSettings, plant: PlantView, live: Live, client: ApiClient, clock: Clock
    ) -> None:
        self._settings = settings
        self._plant = plant
        self._live = live
        self._client = client
        self._clock = clock
        self._tabs: dict[str, Tab] = {}

    def tab(self, tab_id: str) -> Tab | None:
        """The tab of that id, made at first sight; None if the room is full. Tabs long unseen make way."""
        now = self._clock.monotonic()
        if tab_id not in self._tabs:
            for known, tab in list(self._tabs.items()):
                if not tab.live and now - tab.seen > 10 * self._settings.poll_seconds:
                    del self._tabs[known]
            if len(self._tabs) >= self._settings.browsers:
                return None
            self._tabs[tab_id] = Tab()
        found = self._tabs[tab_id]
        found.seen = now
        return found

    async def page(self, url: str) -> Component:
        """The page of a URL, filled."""
        route, now = Route.parse(url), self._clock.now_us()
        if route.page == "fleet":
            return fleet.layout(self._plant, route, now)
        if route.page == "machine" and route.machine in self._plant.machines:
            try:
                chart = await load(self._client, self._plant, route, now)
            except (Unavailable, Rejected) as error:
                chart = unread(route, now, f"The curves can't be read now: {error}.")
            if route.machine in self._plant.machines:
                return machine.layout(self._plant, route, now, chart)
        return lost(route, waiting=not self._plant.machines and route.page == "machine")

    def shown(self, tab_id: str, url: str | None) -> None:
        """A tab says what it shows."""
        tab = self.tab(tab_id)
        if tab is not None:
            tab.shows(url)

    async def serve(self, tab_id: str, url: str | None, socket: Socket, waiting: Callable[[], int]) -> None:
        """Tell a tab its news until its socket is gone. `waiting`: how many messages the socket holds back."""
        tab = self.tab(tab_id)
        if tab is None:
            socket.set_prop_sync("lost", "children", "Too many browsers look at this plant: close one.")
            return
        if tab.live:
            return
        tab.live = True
        tab.shows(url or tab.url)  # a socket that is back, or quicker than its page, does not know it
        pause = 1 / self._settings.updates_per_second
        try:
            with self._live.listen() as news:
                while not socket.is_shutdown:
                    news.clear()
                    if waiting() < BACKLOG:
                        self.tell(tab, socket.set_prop_sync, via="socket")
                    await self._clock.sleep(pause)
                    await _set_within(news, BEAT_SECONDS)
        finally:
            tab.live, tab.seen = False, self._clock.monotonic()
            tab.shows(tab.url)  # what the socket still held never came: whoever asks next is told all

    def tell(self, tab: Tab, tell: Tell, *, via: str) -> None:
        """Tell a tab what changed, and that the server is there."""
        now = self._clock.now_us()
        for component, prop, value in tab.screen.news(self._parts(tab.url, now)):
            tell(component, prop, value)
        tell("beat", "data", {"now_us": now, "heard_us": self._plant.heard_us, "via": via})

    def _parts(self, url: str | None, now_us: int) -> list[Part]:
        found = shell.parts(self._plant, now_us, self._settings.site)
        if url is None:
            return found
        route = Route.parse(url)
        if route.page == "fleet":
            found += fleet.parts(self._plant, route, now_us)
        elif route.page == "machine":
            if route.machine in self._plant.machines:
                found += machine.parts(self._plant, route, now_us)
            else:
                found.append(Part("again", "data", len(self._plant.machines), lambda: now_us))
        return found


def lost(route: Route, *, waiting: bool) -> Component:
    """Nothing is at this URL; or not yet."""
    title = "Loading …" if waiting else "There is no such page"
    said = (
        "The server has not told of any machine yet."
        if waiting
        else f"No machine is called {route.machine!r}."
        if route.page == "machine"
        else "The address leads nowhere in this control room."
    )
    return html.Div(
        [
            html.H1(title),
            html.P(said),
            html.P(html.A("To the fleet", href="/", className="choice", **attrs(data_nav="1"))),
        ],
        className="page empty",
    )


async def _set_within(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
