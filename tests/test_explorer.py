"""The page that steps through a graph, tried out in a real browser."""

import html
import importlib.util
import json
import math
import os
import random
import re
import shutil

import pytest

import micrograd_bp as mg
from micrograd_bp import Value, nn, ops
from micrograd_bp._engine.labels import Listing

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
in_a_browser = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no chromium and chromedriver on this machine")
SWITCHES = (
    "headless=new no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
    "disable-component-update disable-sync window-size=1280,800"
)
DESKTOP, PHONE = (1280, 800), (390, 844)


def shared():
    """A node used three times, one operand used twice, and a constant."""
    a = Value(3.0, "a")
    b = a + a
    return (b * b).sin() * a - 0.5


def neuron():
    x, w = [Value(2.0, "x1"), Value(0.5, "x2")], [Value(-3.0, "w1"), Value(1.0, "w2")]
    return ((x[0] * w[0] + x[1] * w[1] + Value(6.7, "b")).tanh() - 0.5) ** 2


def network():
    loss = (nn.MLP(2, [3, 1], activation="relu", rng=random.Random(1))([1.0, -2.0]) - 1.0) ** 2
    loss.label = "loss"
    return loss


def special():
    """A gradient that is inf, one that is nan, and a node that passes nothing on."""
    x, y, z = Value(0.0, "x"), Value(math.inf, "y"), Value(2.0, "z")
    return x.sqrt() + (y - y) * z + (z * 3.0) * (z - z).relu()


GRAPHS = {"shared": shared, "neuron": neuron, "network": network, "special": special, "leaf": lambda: Value(2.0, "x")}


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for switch in SWITCHES.split():
        options.add_argument(f"--{switch}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def page(browser, tmp_path):
    """Opens the page of a graph; at the end, no error was logged and no request has left the page."""

    from selenium.webdriver.support.ui import WebDriverWait

    def open_page(output, size=DESKTOP, dark=False, motion=False):
        media = {
            "prefers-color-scheme": "dark" if dark else "light",
            "prefers-reduced-motion": "no-preference" if motion else "reduce",
        }
        features = [{"name": name, "value": value} for name, value in media.items()]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        screen = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        path = output if isinstance(output, os.PathLike) else tmp_path / "page.html"
        if isinstance(output, Value):
            mg.explore(output, path)
        browser.get(path.as_uri())
        settled = f"return innerWidth === {size[0]} && innerHeight === {size[1]}"
        WebDriverWait(browser, 20).until(lambda b: b.execute_script(settled))
        return browser

    browser.get_log("browser"), browser.get_log("performance")
    yield open_page
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    urls = [request["request"]["url"] for request in sent if request["documentURL"].startswith(("file:", "about:"))]
    assert [url for url in urls if not url.startswith(("file:", "data:", "about:"))] == []
    assert any(url.startswith("file:") for url in urls)


def press(browser, *keys):
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(browser).send_keys(*keys).perform()


def key(name):
    from selenium.webdriver.common.keys import Keys

    return getattr(Keys, name)


STATE = """
const known = (e, what) => e.querySelector("." + what).dataset.exact;
return [...document.querySelectorAll("[data-node]")].map((e) => [e.dataset.node, known(e, "data"), known(e, "grad")]);
"""
LOOK = """
const written = (e) => [...e.attributes].filter((a) => a.name !== "class").map((a) => a.name + "=" + a.value).sort();
const look = (e) => [e.tagName, written(e), [...e.classList].sort(), e.disabled, e.value,
                     ...[...e.childNodes].map((c) => c.nodeType === Node.TEXT_NODE ? c.data : look(c))];
return JSON.stringify([...document.body.children].filter((e) => e.tagName !== "SCRIPT").map(look));
"""


def numbers(browser):
    """What the page says of every node, in the list and in both pictures: its data and its grad."""
    found = {}
    for node, data, grad in browser.execute_script(STATE):
        assert found.setdefault(node, (data, grad)) == (data, grad)
    return found


def text(browser, selector):
    return browser.execute_script("return document.querySelector(arguments[0]).innerText", selector)


def steps(browser):
    return int(browser.execute_script("return document.getElementById('slider').max")) + 1


# --- the numbers --------------------------------------------------------------------------------------------------


@in_a_browser
@pytest.mark.parametrize("graph", GRAPHS)
def test_stepping_to_the_end_leaves_the_gradients_of_backward(page, graph):
    output = GRAPHS[graph]()
    browser = page(output)
    listing = Listing(output)
    assert all(grad is None for _, grad in numbers(browser).values())
    assert steps(browser) == 3 + 2 * len(listing.interior)
    for _ in range(steps(browser) - 1):
        press(browser, key("ARROW_RIGHT"))
    output.backward()
    wanted = {str(place): (repr(node.data), repr(node.grad)) for place, node in enumerate(listing.nodes)}
    assert numbers(browser) == wanted


@in_a_browser
def test_going_back_and_forth_shows_the_same_at_every_step(page):
    browser = page(shared())
    count = steps(browser)
    forwards = []
    for _ in range(count):
        forwards.append(browser.execute_script(LOOK))
        press(browser, key("ARROW_RIGHT"))
    backwards = []
    for _ in range(count):
        backwards.append(browser.execute_script(LOOK))
        press(browser, key("ARROW_LEFT"))
    assert forwards == backwards[::-1]
    assert len(set(forwards)) == count


@in_a_browser
def test_every_step_says_what_it_does(page):
    a, b = Value(2.0, "a"), Value(-3.0, "b")
    browser = page(a * b * a)
    seen = []
    for _ in range(steps(browser)):
        seen.append(re.sub(r"\s*\n\s*", " | ", text(browser, "#now")))
        press(browser, key("ARROW_RIGHT"))
    assert seen[0].startswith("Start | The leaves hold their data.")
    assert seen[1] == "Forward: v1 | v1 = a * b | v1 = 2 * -3 → -6"
    assert seen[2] == "Forward: v2 | v2 = v1 * a | v2 = -6 * 2 → -12"
    assert seen[3].startswith("Backward: the seed | v2.grad = 1 | ")
    assert seen[4] == (
        "Backward: v2 | v1.grad += v2.grad * a | v1.grad += 1 * 2 → 2 | a.grad += v2.grad * v1 | "
        "a.grad += 1 * -6 → -6 | a is used 2 times: 1 of its terms are in."
    )
    assert seen[5] == (
        "Backward: v1 | a.grad += v1.grad * b | a.grad += 2 * -3 → -12 | b.grad += v1.grad * a | "
        "b.grad += 2 * 2 → 4 | a is used 2 times: 2 of its terms are in."
    )
    assert seen[6] == "Done: the gradient | a.grad = -12 | b.grad = 4"


@in_a_browser
def test_a_node_that_passes_nothing_on_says_so(page):
    browser = page(Value(2.0, "x").relu() * 0.0)
    press(browser, key("END"), key("ARROW_LEFT"))
    assert "v1.grad is 0, so it passes nothing on." in text(browser, "#now")


# --- the controls -------------------------------------------------------------------------------------------------


@in_a_browser
def test_keys_buttons_slider_and_list_all_lead_to_the_same_steps(page):
    browser = page(neuron())
    last = steps(browser) - 1

    def now():
        return int(browser.execute_script("return Number(document.getElementById('slider').value)"))

    def click(selector):
        event = "new MouseEvent('click', {bubbles: true})"
        browser.execute_script(f"document.querySelector(arguments[0]).dispatchEvent({event})", selector)

    moves = [(key("END"), last), (key("ARROW_LEFT"), last - 1), (key("HOME"), 0), (key("ARROW_RIGHT"), 1)]
    for keys, place in moves:
        press(browser, keys)
        assert now() == place
    for selector, place in (("#last", last), ("#back", last - 1), ("#first", 0), ("#next", 1)):
        click(selector)
        assert now() == place
    slide = "const s = document.getElementById('slider'); s.value = 5; s.dispatchEvent(new Event('input'));"
    browser.execute_script(slide)
    assert text(browser, "#count") == f"6 / {last + 1}"
    browser.execute_script("document.getElementById('slider').focus()")
    press(browser, key("ARROW_RIGHT"))
    assert now() == 6
    click("tbody tr:last-child button")
    assert text(browser, "#now h2") == "Forward: v7"
    press(browser, key("END"))
    click("tbody tr:last-child button")
    assert text(browser, "#now h2") == "Backward: v7"
    click("svg .node.output")
    assert text(browser, "#now h2") == "Backward: v7"


@in_a_browser
def test_space_plays_and_pauses(page):
    from selenium.webdriver.support.ui import WebDriverWait

    browser = page(neuron())
    browser.execute_script("const real = setInterval; setInterval = (f) => real(f, 30);")
    press(browser, " ")
    assert browser.execute_script("return document.getElementById('play').getAttribute('aria-label')") == "Pause"
    WebDriverWait(browser, 20).until(lambda b: text(b, "#now h2") == "Done: the gradient")
    assert browser.execute_script("return document.getElementById('play').getAttribute('aria-label')") == "Play"
    press(browser, " ", " ")
    assert browser.execute_script("return document.getElementById('play').getAttribute('aria-label')") == "Play"
    assert text(browser, "#now h2") != "Done: the gradient"


@in_a_browser
def test_the_active_node_and_its_edges_are_lit(page):
    browser = page(shared())
    look = """
    const view = document.querySelector(".view:not([hidden])");
    return [".node.forward", ".node.backward", ".node.reached", ".edge.forward", ".edge.backward"].map(
      (selector) => view.querySelectorAll(selector).length);
    """
    press(browser, key("ARROW_RIGHT"))
    assert browser.execute_script(look) == [1, 0, 0, 2, 0]  # b = a + a
    press(browser, key("END"), key("ARROW_LEFT"))
    assert browser.execute_script(look) == [0, 1, 1, 0, 2]


@in_a_browser
def test_a_screen_reader_finds_names_positions_and_the_current_step(page):
    browser = page(neuron())
    press(browser, key("ARROW_RIGHT"))
    names = browser.execute_script(
        "return [...document.querySelectorAll('button, input')].map((e) => e.getAttribute('aria-label') || e.innerText)"
    )
    assert all(names)
    assert browser.execute_script("return document.querySelector('#slider').getAttribute('aria-valuetext')") == (
        "step 2 of 17: Forward: v1"
    )
    assert len(browser.find_elements("css selector", "[aria-current=step]")) == 1
    assert "v1" in text(browser, "[aria-current=step]")
    status = browser.find_element("css selector", "#now")
    assert (status.get_attribute("role"), status.get_attribute("aria-live")) == ("status", "polite")
    assert "12 leaves" not in browser.page_source
    assert browser.find_elements("css selector", "svg[role=img][aria-label='The graph of v7: 5 leaves, 7 operations']")


# --- the look -----------------------------------------------------------------------------------------------------

CONTRAST = """
const luminance = (rgb) => {
  const [r, g, b] = rgb.match(/[\\d.]+/g).slice(0, 3).map((c) => c / 255).map(
    (c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const backdrop = (e) => {
  for (; e; e = e.parentElement) {
    const box = e.querySelector(":scope > .box");
    if (box) return getComputedStyle(box).fill;
    const colour = getComputedStyle(e).backgroundColor;
    if (!/rgba\\(.*, 0\\)|transparent/.test(colour)) return colour;
  }
};
const found = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const e = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || !e.checkVisibility() || e.closest("script, style, .waiting")) continue;
  const style = getComputedStyle(e), ink = e instanceof SVGElement ? style.fill : style.color;
  const [a, b] = [luminance(ink), luminance(backdrop(e))].sort((x, y) => y - x);
  found.push([(a + 0.05) / (b + 0.05), walker.currentNode.data.trim()]);
}
return found.sort((x, y) => x[0] - y[0])[0];
"""


@in_a_browser
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_the_page_is_readable_on_every_screen_in_light_and_dark(page, size, dark):
    browser = page(network(), size, dark)
    for k in (0, 5, steps(browser) // 2 + 2, steps(browser) - 1):
        browser.execute_script("go(arguments[0])", k)
        ratio, words = browser.execute_script(CONTRAST)
        assert ratio >= 4.5, words
        overflow = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert browser.execute_script(overflow) <= 0
        for selector in ("#now h2", "#play", "#slider", "#graph"):
            box = browser.execute_script(
                "const b = document.querySelector(arguments[0]).getBoundingClientRect(); return [b.top, b.bottom]",
                selector,
            )
            assert 0 <= box[0] < box[1] <= size[1], selector
    active = """
    const b = document.querySelector(".view:not([hidden]) .node.forward").getBoundingClientRect();
    const pane = document.getElementById("graph").getBoundingClientRect();
    return b.left >= pane.left && b.right <= pane.right && b.top >= pane.top && b.bottom <= pane.bottom;
    """
    browser.execute_script("go(7)")
    assert browser.execute_script(active)


@in_a_browser
def test_buttons_are_large_enough_for_a_thumb(page):
    browser = page(neuron(), PHONE)
    buttons = browser.find_elements("css selector", "#controls button, td button")
    sizes = [button.size["height"] for button in buttons]
    assert min(sizes) >= 44


@in_a_browser
@pytest.mark.parametrize("motion", [True, False])
def test_nothing_moves_where_that_is_not_wanted(page, motion):
    browser = page(neuron(), motion=motion)
    press(browser, key("ARROW_RIGHT"))
    name = "return getComputedStyle(document.querySelector('.edge.forward path')).animationName"
    assert browser.execute_script(name) == ("flow" if motion else "none")


@in_a_browser
def test_labels_do_no_harm(page, tmp_path):
    labels = ["<script>document.title='harmed'</script>", "{{program}}", "</script><b>", '"&\\', "\u2028", "$&", "'"]
    output = sum((Value(1.0, label) for label in labels), Value(0.0, "x"))
    output.label = "<img src=x onerror=document.title='harmed'>"
    browser = page(output)
    press(browser, key("END"))
    assert "harmed" not in browser.title.replace(output.label, "")
    assert len(browser.find_elements("css selector", "script")) == 2
    assert browser.find_elements("css selector", "img, b") == []
    shown = text(browser, "tbody")
    assert all(label in shown for label in labels if label.isprintable())


@in_a_browser
def test_a_notebook_embeds_the_page(page, tmp_path):
    made = mg.explore(neuron(), path=None)
    (tmp_path / "notebook.html").write_text(f"<!doctype html><p>{made._repr_html_()}", encoding="utf-8")
    browser = page(tmp_path / "notebook.html")
    browser.switch_to.frame(browser.find_element("css selector", "iframe"))
    browser.execute_script("go(2)")
    assert text(browser, "#now h2") == "Forward: v2"
    browser.switch_to.default_content()


# --- the file -----------------------------------------------------------------------------------------------------


def test_the_file_refers_to_nothing_outside(tmp_path):
    path = tmp_path / "backward.html"
    made = mg.explore(neuron(), path)
    text = path.read_text(encoding="utf-8")
    assert made.html == text
    assert made.path == str(path)
    assert repr(made) == f"<Page of 17 steps, written to {path}>"
    assert not re.search(r"(?:src|href)\s*=\s*[\"']?(?!data:)\w|url\((?!#)|@import|https?://", text)
    assert "{{" not in text
    assert os.listdir(tmp_path) == ["backward.html"]


def test_exploring_reads_and_changes_no_grad(tmp_path):
    x = Value(3.0, "x")
    x.grad = 5.0
    made = mg.explore(x * x, path=None)
    assert x.grad == 5.0
    assert made.html == mg.explore(x * x, path=None).html
    assert os.listdir(tmp_path) == []


def test_without_graphviz_no_page_is_written(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'micrograd-bp\[draw\]'"):
        mg.explore(neuron(), tmp_path / "page.html")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("label", ["\ud800", "a\udfffb", "\x00", "\\", "</script><b>", "{{program}}", "→ 𝒳"])
def test_a_page_with_any_label_is_text_that_can_be_written(label, tmp_path):
    page = mg.explore(Value(1.0, label) * 2.0, tmp_path / "page.html", title=label)
    assert (tmp_path / "page.html").read_text("utf-8") == page.html.replace("\r", "\n")
    plain = label.encode("utf-8", "backslashreplace").decode()
    assert html.escape(plain) in page.html
    page._repr_html_().encode()


def test_what_cannot_be_explored():
    with pytest.raises(TypeError, match="explore takes a Value, not 3"):
        mg.explore(3)
    with pytest.raises(ValueError, match="401 nodes are more than anyone steps through"):
        mg.explore(sum((ops.sin(Value(1.0)) for _ in range(133)), Value(0.0)) + 1.0, path=None)


def test_a_title_of_one_s_own():
    assert "<h1>A &lt;neuron&gt;</h1>" in mg.explore(neuron(), path=None, title="A <neuron>").html
