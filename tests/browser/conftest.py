"""One real browser for all of these tests, signed in once."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, StorageState, sync_playwright

from industrialmind.login import link_into
from tests.e2e.plant_process import PlantProcess

NAMES = ("chromium", "chromium-browser", "google-chrome")
Open = Callable[..., Page]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip("no Chromium: make browser")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="session")
def signed_in(browser: Browser, plant: PlantProcess) -> StorageState:
    """The cookies of somebody who came in by a link."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(link_into(plant.data))
    page.wait_for_selector("#page h1")
    state = context.storage_state()
    context.close()
    return state


@pytest.fixture
def open_page(
    browser: Browser, signed_in: StorageState, ui_url: str, request: pytest.FixtureRequest
) -> Iterator[Open]:
    """Opens a path at a width and in a theme; in the end there must have been no error on the console.

    A test that takes the server away is marked by `quiet=False`: the browser then complains rightly.
    """
    contexts: list[BrowserContext] = []
    errors: list[str] = []

    def opening(
        path: str = "/", *, width: int = 1440, theme: str = "light", quiet: bool = True, script: str = ""
    ) -> Page:
        context = browser.new_context(
            storage_state=signed_in,
            viewport={"width": width, "height": 900},
            color_scheme="dark" if theme == "dark" else "light",
        )
        contexts.append(context)
        page = context.new_page()
        if script:
            page.add_init_script(script)
        if quiet:
            page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
            page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(ui_url + path)
        page.wait_for_selector("#page h1")
        return page

    yield opening
    for context in contexts:
        context.close()
    assert not errors, f"{request.node.name}: errors on the console"


@pytest.fixture
def keep(request: pytest.FixtureRequest) -> Callable[[Page, str], None]:
    """Keeps a screenshot of the whole page under a name, if a folder was asked for."""
    folder: Path | None = request.config.getoption("screenshots")

    def keeping(page: Page, name: str) -> None:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=folder / f"{name}.png", full_page=True)

    return keeping
