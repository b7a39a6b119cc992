"""The pictures of the README and the notebooks: python notebooks/pictures/make.py (the page's takes chromium)."""

import base64
import json
import random
import shutil
import tempfile
from pathlib import Path

import micrograd_bp as mg
from micrograd_bp import Value, nn

HERE = Path(__file__).parent
COVERS = {  # the cell of each notebook whose picture stands in the index
    "01_nudge": 20,
    "02_every_path_one_sweep": 18,
    "03_forward_or_reverse": 14,
    "04_backpropagation_appears": 13,
    "05_descending": 9,
    "06_iris": 18,
    "07_moons": 11,
    "08_through_time": 13,
    "09_trouble": 3,
    "10_compiled": 13,
    "11_names": 19,
    "12_fitting_things": 20,
    "13_further_derivatives": 12,
    "14_a_heap_of_scalars": 10,
}


def cover(name: str) -> bytes:
    """The picture that a notebook shows in the index, as its cell has it."""
    cell = json.loads((HERE.parent / f"{name}.ipynb").read_text("utf-8"))["cells"][COVERS[name]]
    data = next(output["data"]["image/png"] for output in cell["outputs"] if "image/png" in output.get("data", ()))
    return base64.b64decode("".join(data))


def neuron() -> Value:
    """A neuron with two inputs, and half the squared distance of its output from 1."""
    x1, x2, w1, w2 = Value(2.0, "x1"), Value(0.5, "x2"), Value(-3.0, "w1"), Value(1.0, "w2")
    out = (x1 * w1 + x2 * w2 + Value(6.7, "b")).tanh()
    out.label = "out"
    loss = 0.5 * (out - 1.0) ** 2
    loss.label = "loss"
    loss.backward()
    return loss


def network() -> tuple[nn.MLP, Value]:
    model = nn.MLP(2, [4, 4, 1], activation="tanh", rng=random.Random(1))
    loss = (model([Value(1.0, "x1"), Value(-2.0, "x2")]) - 1.0) ** 2
    loss.label = "loss"
    loss.backward()
    return model, loss


def screenshot(page: Path, step: int, path: Path) -> None:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for switch in ("headless=new", "no-sandbox", "disable-gpu", "window-size=1280,800", "hide-scrollbars"):
        options.add_argument(f"--{switch}")
    with tempfile.TemporaryDirectory() as profile:
        options.add_argument(f"--user-data-dir={profile}")
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
        try:
            screen = {"width": 1280, "height": 760, "deviceScaleFactor": 1, "mobile": False}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
            reduced = [{"name": "prefers-reduced-motion", "value": "reduce"}]
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": reduced})
            driver.get(page.as_uri())
            driver.execute_script("go(arguments[0]); centred(whole(), {x: 0, y: 0})", step)
            driver.save_screenshot(str(path))
        finally:
            driver.quit()


if __name__ == "__main__":
    for name in COVERS:
        (HERE.parent / "images" / f"{name}.png").write_bytes(cover(name))
    loss = neuron()
    mg.draw(loss, derivatives=True).render(outfile=HERE / "graph.svg", cleanup=True)
    model, output = network()
    mg.draw(output, model=model, depth=1).render(outfile=HERE / "layers.svg", cleanup=True)
    mg.draw(output, model=model, depth=2, shade=True).render(outfile=HERE / "neurons.svg", cleanup=True)
    mg.draw_network(model, [1.0, -2.0]).save(HERE / "network.svg")
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "backward.html"
        mg.explore(loss, page)
        screenshot(page, 15, HERE / "explorer.png")
