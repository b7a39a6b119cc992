"""The pictures of the README and the notebooks: python notebooks/pictures/make.py (the page's takes chromium)."""

import random
import shutil
import tempfile
from pathlib import Path

import micrograd_bp as mg
from micrograd_bp import Value, nn

HERE = Path(__file__).parent


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
    for switch in ("headless=new", "no-sandbox", "disable-gpu", "window-size=1180,760", "hide-scrollbars"):
        options.add_argument(f"--{switch}")
    with tempfile.TemporaryDirectory() as profile:
        options.add_argument(f"--user-data-dir={profile}")
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
        try:
            screen = {"width": 1180, "height": 700, "deviceScaleFactor": 1, "mobile": False}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
            reduced = [{"name": "prefers-reduced-motion", "value": "reduce"}]
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": reduced})
            driver.get(page.as_uri())
            driver.execute_script("go(arguments[0])", step)
            driver.save_screenshot(str(path))
        finally:
            driver.quit()


if __name__ == "__main__":
    loss = neuron()
    mg.draw(loss, derivatives=True).render(outfile=HERE / "graph.svg", cleanup=True)
    model, output = network()
    mg.draw(output, model=model, depth=1).render(outfile=HERE / "layers.svg", cleanup=True)
    mg.draw(output, model=model, depth=2, shade=True).render(outfile=HERE / "neurons.svg", cleanup=True)
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "backward.html"
        mg.explore(loss, page)
        screenshot(page, 15, HERE / "explorer.png")
