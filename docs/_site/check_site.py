"""The built site: its links lead somewhere, it asks for nothing outside, and the playground computes.

python -m pytest docs/_site/check_site.py; MICROGRAD_BP_SITE names the folder, MICROGRAD_BP_PYODIDE_FOLDER that of the
npm package pyodide. The site is built with MICROGRAD_BP_PYODIDE=/pyodide/, where the test serves that folder.
"""

import functools
import http.server
import json
import os
import re
import shutil
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import micrograd_bp as mg

SITE = Path(os.environ.get("MICROGRAD_BP_SITE", "build/site")).absolute()
PYODIDE = os.environ.get("MICROGRAD_BP_PYODIDE_FOLDER", "")
PAGES = sorted(path.relative_to(SITE).as_posix() for path in SITE.rglob("*.html"))


class Links(HTMLParser):
    """What a page links to, and the names in it that can be linked to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.names = {""}
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name in ("href", "src") and value is not None:
                self.links.append(value)
            if name in ("id", "name") and value:
                self.names.add(value)


@functools.cache
def read(page: str) -> Links:
    return Links((SITE / page).read_text("utf-8"))


def test_there_is_a_site() -> None:
    assert len(PAGES) > 35


@pytest.mark.parametrize("page", [page for page in PAGES if page != "404.html"])
def test_every_internal_link_leads_to_a_file_and_a_heading(page: str) -> None:
    broken = []
    for link in read(page).links:
        address, _, heading = link.partition("#")
        if re.match(r"[a-z]+:|//", address):
            continue
        target = (SITE / page).parent / urllib.parse.unquote(address) if address else SITE / page
        target = target / "index.html" if target.is_dir() else target
        if not target.exists():
            broken.append(link)
        elif heading and target.suffix == ".html" and not heading.startswith("__"):
            names = read(os.path.relpath(target.resolve(), SITE.resolve())).names
            if urllib.parse.unquote(heading) not in names:
                broken.append(link)
    assert not broken


def test_the_reference_has_every_public_name() -> None:
    text = "".join((SITE / page).read_text("utf-8") for page in PAGES if page.startswith("reference/"))
    functions = [
        name for name in mg.__all__ if callable(getattr(mg, name)) and not isinstance(getattr(mg, name), mg.Op)
    ]
    homes = [f"{getattr(mg, name).__module__}.{name}" for name in functions if name != "Value"]
    assert [home for home in homes if f'id="{home}"' not in text] == []
    assert 'id="micrograd_bp.value.Value"' in text
    rows = [name for name in mg.__all__ if isinstance(getattr(mg, name), mg.Op)]
    assert [name for name in rows if f"<code>mg.{name}</code>" not in text] == []


# --- in a browser -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The site, and Pyodide beside it, served on this machine."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        extensions_map = http.server.SimpleHTTPRequestHandler.extensions_map | {
            ".mjs": "text/javascript", ".wasm": "application/wasm", ".whl": "application/zip",
        }  # fmt: skip

        def translate_path(self, path: str) -> str:
            path = urllib.parse.unquote(urllib.parse.urlsplit(path).path)
            root = Path(PYODIDE) if path.startswith("/pyodide/") else SITE
            return str(root / path.removeprefix("/pyodide/").lstrip("/"))

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    switches = "headless=new no-sandbox disable-gpu no-first-run disable-background-networking disable-component-update"
    for switch in [*switches.split(), f"user-data-dir={tmp_path_factory.mktemp('profile')}", "window-size=1280,900"]:
        options.add_argument(f"--{switch}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


@pytest.fixture
def browser(driver: Any, address: str) -> Iterator[Any]:
    """A browser; at the end no error was logged and nothing was asked of another machine."""
    driver.get_log("browser"), driver.get_log("performance")
    yield driver
    assert [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"] == []
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    sent = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert sent
    assert [url for url in sent if not url.startswith((address, "data:", "blob:", "about:", "chrome"))] == []


def until(browser: Any, condition: Callable[[Any], Any], seconds: float = 30) -> Any:
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, seconds, poll_frequency=0.05).until(condition)


OPENED = [
    "index.html",
    "start.html",
    "notebooks/02_every_path_one_sweep.html",
    "reference/index.html",
    "operations.html",
]


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("page", OPENED)
def test_a_page_opens_without_errors_and_fits_the_screen(browser: Any, address: str, page: str, width: int) -> None:
    screen = {"width": width, "height": 850, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.get(address + page)
    assert browser.execute_script("return document.querySelector('h1').innerText")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script("return [...document.images].every((e) => !e.complete || e.naturalWidth > 0)")


def test_the_explorers_in_a_page_are_alive(browser: Any, address: str) -> None:
    for page in ("index.html", "notebooks/02_every_path_one_sweep.html"):
        browser.get(address + page)
        browser.switch_to.frame(browser.find_element("css selector", "iframe.explorer"))
        browser.execute_script("set(0, 1.5); go(steps.length - 1)")
        assert "grad = " in browser.execute_script("return document.getElementById('now').innerText")
        browser.switch_to.default_content()


def test_formulas_are_typeset(browser: Any, address: str) -> None:
    browser.get(address + "notebooks/04_backpropagation_appears.html")
    assert browser.execute_script("return document.querySelectorAll('article math').length") > 5
    assert "\\(" not in browser.execute_script("return document.querySelector('article').innerText")


def test_the_search_finds_a_name_in_the_reference(browser: Any, address: str) -> None:
    browser.get(address + "index.html")
    browser.execute_script("document.querySelector('label[for=__search]').click()")
    field = browser.find_element("css selector", ".md-search__input")
    until(browser, lambda _: field.is_displayed())
    field.send_keys("value_and_grad")
    found = "return [...document.querySelectorAll('.md-search-result__link')].map((e) => e.href)"
    links = until(browser, lambda b: b.execute_script(found))
    assert any("reference/index.html" in link for link in links)


def test_a_program_typed_in_the_playground_is_run_and_shown(browser: Any, address: str) -> None:
    assert PYODIDE, "MICROGRAD_BP_PYODIDE_FOLDER names the folder of the npm package pyodide"
    browser.get(address + "playground.html")
    program = (
        "from micrograd_bp import Value\nx, w = Value(3.0, 'x'), Value(-2.0, 'w')\ny = (x * w + w).tanh() + x * x\n"
    )
    program += "y.backward()\nprint('gradient', x.grad, w.grad)\ny"
    browser.execute_script("document.getElementById('program').value = arguments[0]", program)
    browser.execute_script("document.getElementById('run').click()")
    until(browser, lambda b: b.execute_script("return document.getElementById('printed').textContent"), 60)
    x, w = mg.Value(3.0, "x"), mg.Value(-2.0, "w")
    y = (x * w + w).tanh() + x * x
    y.backward()
    printed = browser.execute_script("return document.getElementById('printed').textContent")
    assert [float(word) for word in printed.split()[1:]] == pytest.approx([x.grad, w.grad], rel=1e-14)
    assert mg.trace_table(y).rows[0].forward in browser.execute_script(
        "return document.getElementById('trace').innerText"
    )
    until(browser, lambda b: b.execute_script("return !document.getElementById('page').hidden"))
    browser.switch_to.frame(browser.find_element("css selector", "#page"))
    until(browser, lambda b: b.execute_script("return typeof steps !== 'undefined' && steps.length > 0"))
    browser.execute_script("go(steps.length - 1)")
    script = (
        "return [...document.querySelectorAll('tr[data-node] .grad')].slice(0, 2).map((e) => Number(e.dataset.exact))"
    )
    assert browser.execute_script(script) == pytest.approx([x.grad, w.grad], rel=1e-14)
    browser.switch_to.default_content()
    browser.execute_script("document.getElementById('program').value = 'y = 1\\n1 / 0'")
    browser.execute_script("document.getElementById('run').click()")
    error = until(
        browser, lambda b: b.execute_script("return (document.querySelector('.playground .error') || {}).textContent")
    )
    assert error.startswith("line 2: ZeroDivisionError")
