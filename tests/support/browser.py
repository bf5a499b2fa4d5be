"""A real browser: headless Chromium.

Import ``chromium_of_module`` and ``page_in_chromium`` for the fixtures.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

CHROMIUM = shutil.which("chromium")
CHROMEDRIVER = shutil.which("chromedriver")

needs_chromium = pytest.mark.skipif(
    not (CHROMIUM and CHROMEDRIVER),
    reason="chromium is not installed (Debian: chromium chromium-driver)",
)

_ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",  # for root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class Browser:
    """One window."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        """Load the page; discard earlier log entries."""
        self.driver.get("about:blank")
        self.console()
        self.network()
        self.driver.get(f"{url}/")

    def resize(self, width: int, height: int = 900, scale: float = 1) -> None:
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 600},
        )

    def prefer(self, **features: str) -> None:
        """Set preferences of the user: ``prefer(color_scheme="dark")``."""
        preferences = [
            {"name": f"prefers-{name.replace('_', '-')}", "value": value}
            for name, value in features.items()
        ]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": preferences})

    def run(self, script: str, *arguments: object) -> Any:
        """Run JavaScript; return its result."""
        return self.driver.execute_script(script, *arguments)

    def text(self, selector: str) -> str:
        """The visible text of the first matching element; empty if there is none."""
        return next(iter(self.texts(selector)), "")

    def texts(self, selector: str) -> list[str]:
        """The visible texts of all matching elements that are not hidden."""
        script = """
            return [...document.querySelectorAll(arguments[0])]
              .filter((node) => node.checkVisibility()).map((node) => node.innerText)"""
        return list(self.run(script, selector))

    @property
    def banners(self) -> list[str]:
        """The texts of the banners."""
        return self.texts("[role=alert] > *")

    def violations(self) -> list[object]:
        """What axe finds on the page: contrast, names, roles, heading order and so on."""
        if not self.run("return Boolean(window.axe)"):
            self.run((files("axe_core_python") / "axe.min.js").read_text("utf-8"))
        result = self.driver.execute_async_script("axe.run().then(arguments[arguments.length - 1])")
        assert result["passes"]
        unsure = [rule for rule in result["incomplete"] if rule["id"] == "color-contrast"]
        return [(rule["id"], rule["nodes"][0]["html"]) for rule in result["violations"] + unsure]

    @property
    def title(self) -> str:
        return self.driver.title

    def console(self) -> list[str]:
        """The messages of the console since the last call: errors and violations of the CSP."""
        entries = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [str(entry["message"]) for entry in entries]

    def network(self) -> list[dict[str, Any]]:
        """The network events since the last call."""
        entries = self.driver.get_log("performance")  # type: ignore[no-untyped-call]
        events = [json.loads(entry["message"])["message"] for entry in entries]
        return [event for event in events if event["method"].startswith("Network.")]


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A browser with an empty profile in the directory ``profile``."""
    options = ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for argument in (*_ARGUMENTS, f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options, Service(CHROMEDRIVER))
    try:
        yield Browser(driver)
    finally:
        driver.quit()


@pytest.fixture(name="chromium", scope="module")
def chromium_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("chromium")) as window:
        yield window


@pytest.fixture(name="page")
def page_in_chromium(chromium: Browser) -> Iterator[Browser]:
    """A window with default settings; at the end, the console must contain no messages."""
    chromium.resize(1280)
    chromium.prefer(color_scheme="light")
    yield chromium
    messages = chromium.console()
    chromium.driver.get("about:blank")
    assert messages == []
