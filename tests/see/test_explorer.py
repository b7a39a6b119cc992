"""The page that steps through a graph, tried out in a real browser."""

import html
import importlib.util
import json
import math
import os
import random
import re
import shutil
import sys
import tempfile
import webbrowser
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import micrograd_bp as mg
from micrograd_bp import Op, Value, nn, ops
from micrograd_bp._engine.labels import Listing

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
in_a_browser = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no chromium and chromedriver on this machine")
SWITCHES = (
    "headless=new no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
    "disable-component-update disable-sync window-size=1280,800"
)
DESKTOP, PHONE = (1280, 800), (390, 844)


def shared() -> Value:
    """A node used three times, one operand used twice, and a constant."""
    a = Value(3.0, "a")
    b = a + a
    return (b * b).sin() * a - 0.5


def neuron() -> Value:
    x, w = [Value(2.0, "x1"), Value(0.5, "x2")], [Value(-3.0, "w1"), Value(1.0, "w2")]
    return ((x[0] * w[0] + x[1] * w[1] + Value(6.7, "b")).tanh() - 0.5) ** 2


def network() -> Value:
    loss = (nn.MLP(2, [3, 1], activation="relu", rng=random.Random(1))([1.0, -2.0]) - 1.0) ** 2
    loss.label = "loss"
    return loss


def special() -> Any:
    """A gradient that is inf, one that is nan, and a node that passes nothing on."""
    x, y, z = Value(0.0, "x"), Value(math.inf, "y"), Value(2.0, "z")
    return x.sqrt() + (y - y) * z + (z * 3.0) * (z - z).relu()


GRAPHS = {"shared": shared, "neuron": neuron, "network": network, "special": special, "leaf": lambda: Value(2.0, "x")}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for switch in SWITCHES.split():
        options.add_argument(f"--{switch}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def page(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Opens the page of a graph; at the end, no error was logged and no request has left the page."""

    from selenium.webdriver.support.ui import WebDriverWait

    def open_page(output: Any, size: tuple[Any, ...] = DESKTOP, dark: bool = False, motion: bool = False) -> Any:
        media = {
            "prefers-color-scheme": "dark" if dark else "light",
            "prefers-reduced-motion": "no-preference" if motion else "reduce",
        }
        features = [{"name": name, "value": value} for name, value in media.items()]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        screen = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        path: Any = output if isinstance(output, os.PathLike) else tmp_path / "page.html"
        if isinstance(output, Value):
            mg.explore(output, path)
        elif not isinstance(output, os.PathLike):
            output.save(path)
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


def press(browser: Any, *keys: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(browser).send_keys(*keys).perform()


def key(name: str) -> str:
    from selenium.webdriver.common.keys import Keys

    return getattr(Keys, name)


STATE = """
const known = (e, what) => e.querySelector("." + what).dataset.exact;
const all = [...document.querySelectorAll("tr[data-node], svg [data-node]")];
return all.map((e) => [e.dataset.node, known(e, "data"), known(e, "grad")]);
"""
LOOK = """
const written = (e) => [...e.attributes].filter((a) => a.name !== "class").map((a) => a.name + "=" + a.value).sort();
const look = (e) => [e.tagName, written(e), [...e.classList].sort(), e.disabled, e.value,
                     ...[...e.childNodes].map((c) => c.nodeType === Node.TEXT_NODE ? c.data : look(c))];
return JSON.stringify([...document.body.children].filter((e) => e.tagName !== "SCRIPT").map(look));
"""


def numbers(browser: Any) -> dict[str, tuple[Any, ...]]:
    """What the page says of every node, in the list and in both pictures: its data and its grad."""
    found: dict[str, Any] = {}
    for node, data, grad in browser.execute_script(STATE):
        assert found.setdefault(node, (data, grad)) == (data, grad)
    return found


def text(browser: Any, selector: str) -> str:
    return browser.execute_script("return document.querySelector(arguments[0]).innerText", selector)


def steps(browser: Any) -> int:
    return int(browser.execute_script("return document.getElementById('slider').max")) + 1


# --- the numbers --------------------------------------------------------------------------------------------------


@in_a_browser
@pytest.mark.parametrize("graph", GRAPHS)
def test_stepping_to_the_end_leaves_the_gradients_of_backward(page: Callable[..., Any], graph: str) -> None:
    output = GRAPHS[graph]()
    browser = page(output)
    listing = Listing(output)
    assert all(grad is None for _, grad in numbers(browser).values())
    assert len(browser.find_elements("css selector", "svg .node")) == len(listing.nodes)
    assert steps(browser) == 3 + 2 * len(listing.interior)
    for _ in range(steps(browser) - 1):
        press(browser, key("ARROW_RIGHT"))
    output.backward()
    wanted = {str(place): (repr(node.data), repr(node.grad)) for place, node in enumerate(listing.nodes)}
    assert {node: tuple(repr(float(x)) for x in pair) for node, pair in numbers(browser).items()} == wanted


@in_a_browser
def test_going_back_and_forth_shows_the_same_at_every_step(page: Callable[..., Any]) -> None:
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


def said(browser: Any) -> list[str]:
    """What the panel says at every step, line by line."""
    seen = []
    for _ in range(steps(browser)):
        seen.append(re.sub(r"\s*\n\s*", " | ", text(browser, "#now")))
        press(browser, key("ARROW_RIGHT"))
    return seen


@in_a_browser
def test_every_step_says_what_it_does_and_why(page: Callable[..., Any]) -> None:
    a, b = Value(2.0, "a"), Value(-3.0, "b")
    assert said(page(a * b * a - b)) == [
        "Start | The leaves hold their data. Everything else is computed from them, in topological order: each node "
        "after what it is computed from.",
        "Forward: v1 | v1 = a * b | v1 = 2 * -3 → -6 | v1 can be computed: a and b are known by now.",
        "Forward: v2 | v2 = v1 * a | v2 = -6 * 2 → -12 | v2 can be computed: v1 and a are known by now.",
        "Forward: v3 | v3 = v2 - b | v3 = -12 - -3 → -9 | v3 can be computed: v2 and b are known by now.",
        "Backward: the seed | v3.grad = 1 | A change of v3 changes v3 by just as much. All other grads start from 0. "
        "On the edges stand the local derivatives.",
        "Backward: v3 | v2.grad += v3.grad | v2.grad += 1 * 1 → 1 | b.grad += -v3.grad | b.grad += 1 * -1 → -1 | "
        "A difference hands its grad on, with the sign turned for what is subtracted. | "
        "b feeds two places, so two contributions are added: 1 of 2 is in.",
        "Backward: v2 | v1.grad += v2.grad * a | v1.grad += 1 * 2 → 2 | a.grad += v2.grad * v1 | "
        "a.grad += 1 * -6 → -6 | A product answers to one factor as strongly as the other factor is large: the other "
        "factor is the local derivative. | a feeds two places, so two contributions are added: 1 of 2 is in.",
        "Backward: v1 | a.grad += v1.grad * b | a.grad += 2 * -3 → -12 | b.grad += v1.grad * a | "
        "b.grad += 2 * 2 → 3 | A product answers to one factor as strongly as the other factor is large: the other "
        "factor is the local derivative. | a feeds two places, so two contributions are added: 2 of 2 are in. | "
        "b feeds two places, so two contributions are added: 2 of 2 are in.",
        "Done: the gradient | a.grad = -12 | b.grad = 3 | Where a leaf is raised by a little, v3 rises by its grad "
        "times as much: to lower v3, move each leaf against its grad.",
    ]


@in_a_browser
def test_the_reader_chooses_how_much_is_explained(page: Callable[..., Any]) -> None:
    x = Value(0.5, "x")
    browser = page(x.tanh() ** 2)
    choose = "const s = document.getElementById('level'); s.value = arguments[0]; s.dispatchEvent(new Event('change'))"
    browser.execute_script("go(arguments[0])", steps(browser) - 2)
    lines = []
    for level in "012":
        browser.execute_script(choose, level)
        lines.append(text(browser, "#now"))
    assert "slope" not in lines[0]
    assert "tanh answers to a small change by its slope there" in lines[1]
    assert "1 - out * out" in lines[1]
    typeset = browser.execute_script("return [...document.querySelectorAll('#now math')].map((e) => e.textContent)")
    assert [re.sub(r"\s", "", words) for words in typeset] == ["∂v2∂x←∂v2∂x+∂v2∂v1·∂v1∂x,∂v1∂x=1−v1·v1"]
    assert browser.execute_script("return document.querySelector('header math').textContent") == "v2=tanh(x)2"


@in_a_browser
def test_a_node_that_passes_nothing_on_says_so(page: Callable[..., Any]) -> None:
    browser = page(Value(2.0, "x").relu() * 0.0)
    press(browser, key("END"), key("ARROW_LEFT"))
    assert "v1.grad is 0, so it passes nothing on." in text(browser, "#now")


@in_a_browser
@pytest.mark.parametrize("number_format", [".4g", "+.3f", ".2e", "g", ".0f", ".17g", "+.1g"])
def test_numbers_are_written_as_python_writes_them(page: Callable[..., Any], number_format: str) -> None:
    rng = random.Random(0)
    xs = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        1e5,
        123456.789,
        1e-5,
        9.9995,
        99999.5,
        1e16,
        1e21,
        1e-300,
        math.inf,
        -math.inf,
        math.nan,
    ]
    xs += [rng.gauss(0, 1) * 10.0 ** rng.uniform(-12, 12) for _ in range(500)]
    made = mg.explore(Value(1.0), path=None, number_format=number_format)
    browser = page(made)
    script = "return arguments[0].map((x) => shown(typeof x === 'string' ? number(x) : x))"
    sent = [x if math.isfinite(x) else repr(x) for x in xs]
    found = browser.execute_script(script, sent[2:])
    assert found == [format(x, number_format) for x in xs[2:]]
    assert browser.execute_script("return [shown(0), shown(-0)]") == [format(x, number_format) for x in xs[:2]]


# --- other numbers ------------------------------------------------------------------------------------------------


def record(program: list[tuple[Any, ...]], point: list[float]) -> list[Value]:
    """The graph of a program: leaves at the point, then rows on what was computed before and on constants."""
    nodes = [Value(x, f"x{place}") for place, x in enumerate(point)]
    for op, operands in program:
        nodes.append(op(*[nodes[x] if type(x) is int else x for x in operands]))
    return nodes


def tame(program: list[tuple[Any, ...]], point: list[float]) -> bool:
    """Whether the program has moderate numbers and slopes there, so that rounding is not amplified a thousandfold."""
    try:
        nodes = record(program, point)
        nodes[-1].backward()
    except (ArithmeticError, ValueError):
        return False
    inside = [node for node in nodes if node.op is not None]
    slopes = [p for node in inside for x, p in zip(node.operands, node.partials) if isinstance(x, Value)]
    return all(abs(x) < 100.0 for node in nodes for x in (node.data, node.grad)) and all(abs(p) < 100.0 for p in slopes)


def random_program(rng: random.Random, first: Op) -> tuple[Any, ...]:
    """Some rows on random operands, the given one among them, where they can be evaluated at two points."""
    names = [name for name in ops.TABLE if name not in ("polygamma", "digamma", "gamma", "lgamma", "true_gamma")]
    while True:
        points = [[rng.uniform(0.2, 2.0) * rng.choice((1, 1, -1)) for _ in range(3)] for _ in range(2)]
        program: list[Any] = []
        size = 3
        chosen = [first, *(ops.TABLE[rng.choice(names)] for _ in range(rng.randrange(2, 8)))]
        for op in chosen:
            count = rng.choice((2, 4)) if op.arity is None else op.arity
            operands = [
                rng.randrange(size) if rng.random() < 0.8 else round(rng.uniform(-2, 2), 2) for _ in range(count)
            ]
            operands[rng.randrange(count)] = size - 1  # so that all of it is needed
            if op.name in ("polygamma", "ldexp"):
                operands[op.name == "ldexp"] = float(rng.randrange(3))
                operands[op.name != "ldexp"] = size - 1
            if all(tame([*program, (op, operands)], point) for point in points):
                program.append((op, operands))
                size += 1
        if program and program[0][0] is first:
            return program, points


@in_a_browser
def test_the_page_computes_what_backward_computes_on_a_thousand_graphs_of_every_row(page: Callable[..., Any]) -> None:
    rng, rows = random.Random(0), list(ops.TABLE.values())
    graphs, wanted, sent = [], [], []
    for k in range(1000):
        program, (point, other) = random_program(rng, rows[k % len(rows)])
        graphs.append(program)
        made = mg.explore(record(program, point)[-1], path=None).html
        (text,) = re.findall(r'<script id="program" type="application/json">(.*?)</script>', made, re.S)
        contents = json.loads(text)
        nodes = record(program, other)
        nodes[-1].backward()
        listing = Listing(nodes[-1])
        wanted.append([(node.data, node.grad) for node in listing.nodes])
        sent.append((contents["nodes"], [leaf.data for leaf in listing.leaves]))
    uses = {(op, len(operands)) for program in graphs for op, operands in program}
    assert {op for op, _ in uses} == set(rows)
    # a page with all of these rows, in which the thousand graphs are evaluated by the page's own functions
    everything = [op(*[Value(0.5)] * count) for op, count in uses if op.name not in ("polygamma", "acosh", "where")]
    everything += [ops.acosh(Value(1.5)), ops.polygamma(1.0, Value(1.0)), ops.where(1.0, Value(1.0), Value(2.0))]
    browser = page(mg.explore(everything, path=None))
    script = """
    return arguments[0].map(([graph, numbers]) => {
      graph.forEach(unpack);
      const found = evaluate(numbers, graph), {adjoints} = differentiate(found, graph.length - 1, graph);
      return graph.map((_, k) => [found.data[k], adjoints[k]]);
    });
    """
    found = [
        graph for start in range(0, 1000, 100) for graph in browser.execute_script(script, sent[start : start + 100])
    ]
    for program, numbers, right in zip(graphs, found, wanted, strict=True):
        for (data, grad), (true_data, true_grad) in zip(numbers, right, strict=True):
            assert abs(data - true_data) <= 1e-12 * max(1.0, abs(true_data)), program
            assert abs(grad - true_grad) <= 1e-12 * max(1.0, abs(true_grad)), program


def type_number(browser: Any, place: int, number: str) -> None:
    field = browser.find_element("css selector", f"tr[data-node='{place}'] input.data")
    browser.execute_script("arguments[0].focus(); arguments[0].select()", field)
    press(browser, number, key("ENTER"))
    browser.execute_script("document.activeElement.blur()")


@in_a_browser
@pytest.mark.parametrize("graph", ["shared", "neuron", "network"])
def test_a_number_typed_for_a_leaf_is_evaluated_and_differentiated_in_the_page(
    page: Callable[..., Any], graph: str
) -> None:
    output = GRAPHS[graph]()
    browser = page(output)
    leaf = Listing(output).leaves[0]
    press(browser, key("END"))
    before = numbers(browser)
    type_number(browser, 0, "-1.25")
    leaf.data = -1.25
    rebuilt: dict[Any, Any] = {}
    node: Any
    for node in Listing(output).interior:  # the same rows on the other number
        rebuilt[node] = node.op(*[rebuilt.get(x, x) if isinstance(x, Value) else x for x in node.operands])
    rebuilt[output].backward()
    found = numbers(browser)
    for place, node in enumerate(Listing(output).nodes):
        right = rebuilt.get(node, node)
        data, grad = map(float, found[str(place)])
        assert abs(data - right.data) <= 1e-12 * max(1.0, abs(right.data))
        assert abs(grad - right.grad) <= 1e-12 * max(1.0, abs(right.grad))
    browser.execute_script("document.getElementById('reset').click()")
    assert numbers(browser) == before


@in_a_browser
def test_a_leaf_is_dragged_in_the_list_and_in_the_graph_and_nudged_by_keys(page: Callable[..., Any]) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    browser = page(neuron())

    def now(place: Any = 0) -> Any:
        return float(browser.execute_script("return numbers[arguments[0]]", place))

    field = browser.find_element("css selector", "tr[data-node='0'] input.data")
    ActionChains(browser).drag_and_drop_by_offset(field, 40, 0).perform()
    assert now() == 2.5
    ActionChains(browser).drag_and_drop_by_offset(field, -80, 0).perform()
    assert now() == 1.5
    number = browser.find_element("css selector", "svg .node[data-node='0'] .number")
    ActionChains(browser).drag_and_drop_by_offset(number, 20, 0).perform()
    assert now() == 1.75
    browser.execute_script("arguments[0].focus()", field)
    press(browser, key("ARROW_UP"), key("ARROW_UP"), key("ARROW_DOWN"))
    assert now() == 1.8


@in_a_browser
def test_what_is_no_number_is_marked_and_changes_nothing(page: Callable[..., Any]) -> None:
    browser = page(neuron())
    field = browser.find_element("css selector", "tr[data-node='0'] input.data")
    browser.execute_script("arguments[0].focus(); arguments[0].select()", field)
    press(browser, "two", key("ENTER"))
    assert field.get_attribute("aria-invalid") == "true"
    browser.execute_script("arguments[0].blur()", field)
    assert (field.get_attribute("value"), browser.execute_script("return numbers[0]")) == ("2", 2)


@in_a_browser
def test_where_python_would_raise_the_page_says_so(page: Callable[..., Any]) -> None:
    browser = page(Value(2.0, "x").log() + 1.0)
    press(browser, key("ARROW_RIGHT"))
    type_number(browser, 0, "-1")
    assert "There log(x) has no value: Python raises an error here" in text(browser, "#now")
    assert len(browser.find_elements("css selector", "svg .node.failed")) == 1
    type_number(browser, 0, "3")
    assert "no value" not in text(browser, "#now")


@in_a_browser
def test_a_row_of_one_s_own_is_computed_unless_it_takes_branches(page: Callable[..., Any]) -> None:
    softsign = mg.Op("softsign", "softsign", lambda x: x / (1 + abs(x)), lambda out, x: ((1 - abs(out)) ** 2,))
    browser = page(softsign(Value(1.0, "x")))
    press(browser, key("END"))
    type_number(browser, 0, "3")
    assert [float(x) for x in numbers(browser)["0"]] == [3.0, 0.0625]
    hinge = mg.Op("hinge", "hinge", lambda x: x if x > 0 else 0.0, lambda out, x: (ops.step(x),))
    browser = page(hinge(Value(1.0, "x")))
    assert "hinge is computed by Python only" in text(browser, "#editing")
    assert browser.find_elements("css selector", "td input") == []
    press(browser, key("END"))
    assert [float(x) for x in numbers(browser)["0"]] == [1.0, 1.0]


# --- descent, examples, outputs -----------------------------------------------------------------------------------


def rows_of_a_line() -> tuple[Any, ...]:
    x, t, w, b = Value(0.0, "x"), Value(0.0, "t"), Value(0.3, "w"), Value(-0.1, "b")
    loss = (w * x + b - t) ** 2
    loss.label = "loss"
    return loss, (x, t, w, b), {x: [0.0, 1.0, 2.0], t: [1.0, 3.0, 5.0]}


@in_a_browser
def test_descent_takes_the_steps_of_gradient_descent_on_the_mean_over_the_examples(page: Callable[..., Any]) -> None:
    loss, (x, t, w, b), examples = rows_of_a_line()
    browser = page(mg.explore(loss, path=None, examples=examples))
    for _ in range(5):
        browser.execute_script("document.getElementById('descend').click()")
    seen = []
    for _ in range(6):
        total = sum((w * a + b - c) ** 2 for a, c in zip(examples[x], examples[t])) / 3
        seen.append(total.data)
        w.grad = b.grad = 0.0
        total.backward()
        if len(seen) <= 5:
            w.data, b.data = w.data - 0.05 * w.grad, b.data - 0.05 * b.grad
    assert browser.execute_script("return losses") == pytest.approx(seen, rel=1e-12)
    names = [browser.execute_script("return nodes[arguments[0]].name", place) for place in range(4)]
    found = dict(zip(names, browser.execute_script("return numbers.slice(0, 4)")))
    assert [found["w"], found["b"]] == pytest.approx([w.data, b.data], rel=1e-12)
    words = text(browser, "#moving")
    assert words.startswith("Five steps: mean loss from ")
    assert "moves two leaves against the mean gradient" in words
    assert browser.find_element("css selector", "#curve path").get_attribute("d").count("L") == 5


@in_a_browser
def test_what_is_not_ticked_does_not_move_and_a_step_too_far_is_not_taken(page: Callable[..., Any]) -> None:
    a, c = Value(1.0, "a"), Value(2.0, "c")
    browser = page((a * c).exp())
    browser.execute_script("document.querySelector(\"tr[data-node='1'] .moves\").click()")
    browser.execute_script("document.getElementById('rate').value = '0.01'; document.getElementById('descend').click()")
    assert browser.execute_script("return numbers.slice(0, 2)") == pytest.approx([1.0 - 0.01 * 2 * math.exp(2.0), 2.0])
    browser.execute_script("document.getElementById('rate').value = '-1e9'; document.getElementById('descend').click()")
    assert "try a smaller rate" in text(browser, "#message")
    browser.execute_script("document.getElementById('rate').value = 'fast'; document.getElementById('descend').click()")
    assert "The rate is a number" in text(browser, "#message")


@in_a_browser
def test_the_reader_chooses_the_example_and_the_output(page: Callable[..., Any]) -> None:
    loss, (_, _, w, b), examples = rows_of_a_line()
    browser = page(mg.explore([loss, w * b], path=None, examples=examples))
    choose = (
        "const s = document.getElementById(arguments[0]); s.value = arguments[1]; s.dispatchEvent(new Event('change'))"
    )
    browser.execute_script(choose, "example", "2")
    press(browser, key("END"))
    residual = 0.3 * 2.0 - 0.1 - 5.0
    names = {browser.execute_script("return nodes[arguments[0]].name", k): str(k) for k in range(4)}
    assert float(numbers(browser)[names["w"]][1]) == pytest.approx(2 * residual * 2.0)
    options = browser.execute_script("return [...document.getElementById('output').options].map((o) => o.value)")
    browser.execute_script(choose, "output", options[1])
    press(browser, key("END"))
    assert [float(numbers(browser)[names[name]][1]) for name in ("w", "b", "x")] == [-0.1, 0.3, 0.0]


# --- large graphs -------------------------------------------------------------------------------------------------


def perceptron() -> tuple[Any, ...]:
    model = nn.MLP(3, [4, 4, 1], activation="tanh", rng=random.Random(1))
    loss = (model([Value(2.0, "x1"), Value(3.0, "x2"), Value(-1.0, "x3")]) - Value(1.0, "target")) ** 2
    loss.label = "loss"
    return loss, model


INSIDE = """
const b = document.querySelector("svg .node.forward, svg .node.backward").getBoundingClientRect();
const pane = document.getElementById("graph").getBoundingClientRect();
return b.left >= pane.left - 1 && b.right <= pane.right + 1 && b.top >= pane.top - 1 && b.bottom <= pane.bottom + 1;
"""


@in_a_browser
@pytest.mark.parametrize("size", [DESKTOP, PHONE])
@pytest.mark.parametrize("opened", [False, True])
def test_a_perceptron_is_followed_step_by_step_folded_and_unfolded(
    page: Callable[..., Any], size: tuple[Any, ...], opened: bool
) -> None:
    loss, model = perceptron()
    browser = page(mg.explore(loss, path=None, model=model, expand=True), size)
    assert steps(browser) == 151
    assert len(browser.find_elements("css selector", "svg .fold")) == 9
    if opened:
        browser.execute_script("document.getElementById('fold').click()")
        assert len(browser.find_elements("css selector", "svg .node")) == 45 + 74
        assert len(browser.find_elements("css selector", "svg .frame")) == 1 + 3 + 9
    for k in range(1, 150, 7):
        browser.execute_script("go(arguments[0])", k)
        assert browser.execute_script(INSIDE), k
        scale = browser.execute_script("return view.k")
        assert scale >= 0.7
    overlaps = """
    const boxes = [...document.querySelectorAll("svg .node .box")].map((e) => e.getBoundingClientRect());
    const apart = (a, b) => a.left >= b.right || b.left >= a.right || a.top >= b.bottom || b.top >= a.bottom;
    return boxes.some((a, i) => boxes.some((b, j) => j < i && !apart(a, b)));
    """
    assert not browser.execute_script(overlaps)


@in_a_browser
def test_a_part_folds_and_unfolds_by_mouse_and_keyboard(page: Callable[..., Any]) -> None:
    loss, model = perceptron()
    browser = page(mg.explore(loss, path=None, model=model))
    browser.execute_script("centred(whole(), {x: 0, y: 0})")
    browser.find_element("css selector", "svg .fold .name").click()
    assert len(browser.find_elements("css selector", "svg .fold")) == 8
    shown = browser.execute_script("return [...document.querySelectorAll('svg .leaf .name')].map((e) => e.textContent)")
    assert {"w.0", "b"} <= set(shown)
    frame = browser.find_element("css selector", "svg .frame[aria-label*='neurons[0]']")
    browser.execute_script("arguments[0].focus()", frame)
    press(browser, key("ENTER"))
    assert len(browser.find_elements("css selector", "svg .fold")) == 9


@in_a_browser
def test_the_graph_is_zoomed_and_moved(page: Callable[..., Any]) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.actions.wheel_input import ScrollOrigin

    loss, model = perceptron()
    browser = page(mg.explore(loss, path=None, model=model))

    def view() -> list[float]:
        return browser.execute_script("return [view.k, view.x, view.y]")

    start = view()
    canvas = browser.find_element("css selector", "#canvas")
    ActionChains(browser).scroll_from_origin(ScrollOrigin.from_element(canvas), 0, -300).perform()
    assert view()[0] > start[0]
    pressed = view()
    ActionChains(browser).move_to_element_with_offset(canvas, 0, 190).click_and_hold().move_by_offset(
        -50, -30
    ).release().perform()
    assert [view()[1] - pressed[1], view()[2] - pressed[2]] == pytest.approx([-50, -30])
    assert browser.execute_script("return document.getElementById('map').style.display") == ""
    press(browser, "0")
    assert browser.execute_script("return document.getElementById('map').style.display") == "none"
    browser.execute_script("document.getElementById('fit').click()")
    assert view()[0] >= 0.7
    pinch = """
    const send = (kind, id, x, y) => document.getElementById("canvas").dispatchEvent(new PointerEvent(kind, {
      pointerId: id, clientX: x, clientY: y, bubbles: true, pointerType: "touch", isPrimary: id === 1}));
    document.getElementById("canvas").setPointerCapture = () => {};
    const before = view.k;
    send("pointerdown", 11, 300, 250); send("pointerdown", 12, 400, 250);
    for (let d = 10; d <= 100; d += 10) send("pointermove", 12, 400 + d, 250);
    send("pointerup", 11, 300, 250); send("pointerup", 12, 500, 250);
    return view.k / before;
    """
    assert browser.execute_script(pinch) == pytest.approx(2.0, rel=0.1)


# --- the controls -------------------------------------------------------------------------------------------------


@in_a_browser
def test_keys_buttons_slider_and_list_all_lead_to_the_same_steps(page: Callable[..., Any]) -> None:
    browser = page(neuron())
    last = steps(browser) - 1

    def now() -> Any:
        return int(browser.execute_script("return Number(document.getElementById('slider').value)"))

    def click(selector: str) -> None:
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
def test_space_plays_and_pauses(page: Callable[..., Any]) -> None:
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
def test_the_active_node_and_its_edges_are_lit(page: Callable[..., Any]) -> None:
    browser = page(shared())
    look = """
    const view = document.getElementById("scene");
    return [".node.forward", ".node.backward", ".node.reached", ".edge.forward", ".edge.backward"].map(
      (selector) => view.querySelectorAll(selector).length);
    """
    press(browser, key("ARROW_RIGHT"))
    assert browser.execute_script(look) == [1, 0, 0, 2, 0]  # b = a + a
    press(browser, key("END"), key("ARROW_LEFT"))
    assert browser.execute_script(look) == [0, 1, 1, 0, 2]


@in_a_browser
def test_a_screen_reader_finds_names_positions_and_the_current_step(page: Callable[..., Any]) -> None:
    browser = page(neuron())
    press(browser, key("ARROW_RIGHT"))
    names = browser.execute_script(
        "return [...document.querySelectorAll('button, input, select')].map((e) => e.getAttribute('aria-label') || "
        "(e.closest('label') || e).innerText)"
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
    named = "svg[role=group][aria-label='The graph of v7: five leaves, seven operations']"
    assert browser.find_elements("css selector", named)


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
def test_the_page_is_readable_on_every_screen_in_light_and_dark(
    page: Callable[..., Any], size: tuple[Any, ...], dark: bool
) -> None:
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
    browser.execute_script("go(7)")
    assert browser.execute_script(INSIDE)


@in_a_browser
def test_buttons_are_large_enough_for_a_thumb(page: Callable[..., Any]) -> None:
    browser = page(neuron(), PHONE)
    buttons = browser.find_elements("css selector", "#controls button, td button")
    sizes = [button.size["height"] for button in buttons]
    assert min(sizes) >= 44


@in_a_browser
@pytest.mark.parametrize("motion", [True, False])
def test_nothing_moves_where_that_is_not_wanted(page: Callable[..., Any], motion: bool) -> None:
    browser = page(neuron(), motion=motion)
    press(browser, key("ARROW_RIGHT"))
    name = "return getComputedStyle(document.querySelector('.edge.forward path')).animationName"
    assert browser.execute_script(name) == ("flow" if motion else "none")


@in_a_browser
def test_labels_do_no_harm(page: Callable[..., Any], tmp_path: Path) -> None:
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
def test_a_notebook_embeds_the_page(page: Callable[..., Any], tmp_path: Path) -> None:
    made = mg.explore(neuron(), path=None)
    (tmp_path / "notebook.html").write_text(f"<!doctype html><p>{made._repr_html_()}", encoding="utf-8")
    browser = page(tmp_path / "notebook.html")
    browser.switch_to.frame(browser.find_element("css selector", "iframe"))
    browser.execute_script("go(2)")
    assert text(browser, "#now h2") == "Forward: v2"
    browser.switch_to.default_content()


# --- the file -----------------------------------------------------------------------------------------------------


def test_the_file_refers_to_nothing_outside(tmp_path: Path) -> None:
    path = tmp_path / "backward.html"
    made = mg.explore(neuron(), path)
    text = path.read_text(encoding="utf-8")
    assert made.html == text
    assert made.path == str(path)
    assert repr(made) == f"<Page of 17 steps, written to {path}>"
    assert not re.search(r"(?:src|href)\s*=\s*[\"']?(?!data:)\w|url\((?!#)|@import|https?://", text)
    assert "{{" not in text
    assert os.listdir(tmp_path) == ["backward.html"]


def test_exploring_reads_and_changes_no_grad(tmp_path: Path) -> None:
    x = Value(3.0, "x")
    x.grad = 5.0
    made = mg.explore(x * x, path=None)
    assert x.grad == 5.0
    assert made.html == mg.explore(x * x, path=None).html
    assert os.listdir(tmp_path) == []


def test_the_page_needs_no_graphviz_and_no_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "graphviz", None)
    mg.explore(neuron(), tmp_path / "page.html")
    assert os.listdir(tmp_path) == ["page.html"]


def test_where_the_page_goes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert mg.explore(neuron()).path == "explore.html"
    assert capsys.readouterr().out == "explore: the page is in explore.html\n"
    assert mg.explore(neuron(), "new/folder/page.html").path == os.path.join("new", "folder", "page.html")
    assert mg.explore(neuron(), path=None).path is None
    monkeypatch.setitem(sys.modules, "ipykernel", object())
    assert mg.explore(neuron()).path is None
    assert capsys.readouterr().out == ""
    assert sorted(os.listdir()) == ["explore.html", "new"]
    with pytest.raises(OSError, match=r"explore\.html/page\.html"):
        mg.explore(neuron(), "explore.html/page.html")


def test_a_page_opens_in_a_browser_from_a_file_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    page = mg.explore(neuron(), path=None)
    page.open()
    assert page.path
    assert opened == [Path(page.path).as_uri()]
    assert Path(page.path).read_text("utf-8") == page.html


@pytest.mark.parametrize("label", ["\ud800", "a\udfffb", "\x00", "\\", "</script><b>", "{{program}}", "→ 𝒳"])
def test_a_page_with_any_label_is_text_that_can_be_written(label: str, tmp_path: Path) -> None:
    page = mg.explore(Value(1.0, label) * 2.0, tmp_path / "page.html", title=label)
    assert (tmp_path / "page.html").read_text("utf-8") == page.html.replace("\r", "\n")
    plain = label.encode("utf-8", "backslashreplace").decode()
    assert html.escape(plain) in page.html
    page._repr_html_().encode()


def test_what_cannot_be_explored() -> None:
    number: Any = 3
    with pytest.raises(TypeError, match="explore takes a Value, not 3"):
        mg.explore(number)
    many = sum((ops.sin(Value(1.0)) for _ in range(333)), Value(0.0))
    with pytest.raises(ValueError, match="1,000 nodes are more than anyone steps through"):
        mg.explore(many, path=None, max_nodes=999)
    x, y = Value(1.0, "x"), Value(2.0, "y")
    with pytest.raises(ValueError, match="number_format is such as"):
        mg.explore(x, path=None, number_format=",d")
    with pytest.raises(ValueError, match=r"examples names .* which is no leaf of this graph"):
        mg.explore(x + 1.0, path=None, examples={y: [1.0]})
    with pytest.raises(ValueError, match=r"parameters names .* which is no leaf of this graph"):
        mg.explore(x + y, path=None, parameters=[x * y])
    with pytest.raises(ValueError, match="columns of examples are of one length"):
        mg.explore(x + y, path=None, examples={x: [1.0], y: [1.0, 2.0]})


def test_a_title_of_one_s_own() -> None:
    assert "<h1>A &lt;neuron&gt;</h1>" in mg.explore(neuron(), path=None, title="A <neuron>").html
