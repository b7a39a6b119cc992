"use strict";
(() => {
  const EXAMPLES = {
    "an expression": `from micrograd_bp import Value, math

x1, x2 = Value(2.0, "x1"), Value(5.0, "x2")
y = math.log(x1) + x1 * x2 - math.sin(x2)
y.backward()
print("dy/dx1 =", x1.grad)
print("dy/dx2 =", x2.grad)
y`,
    "a square root by Newton": `from micrograd_bp import Value

a = Value(2.0, "a")
x = a
while abs(x * x - a) > 1e-12:
    x = (x + a / x) / 2
x.backward()
print(f"sqrt(a) = {x.data}, its derivative {a.grad}, 1 / (2 sqrt(a)) = {0.5 / x.data}")
x`,
    "a network": `import random
from micrograd_bp import Value, nn

model = nn.MLP(2, [3, 1], activation="tanh", rng=random.Random(0))
loss = (model([Value(1.0, "x1"), Value(-2.0, "x2")]) - 1.0) ** 2
loss.label = "loss"
loss.backward()
print(model)
loss`,
    "training": `import random
from micrograd_bp import datasets, losses, nn, optim, training

X, y, *_ = datasets.xor()
model = nn.MLP(2, [4, 1], activation="tanh", rng=random.Random(0))
optimizer = optim.Adam(model.parameters(), lr=0.2)
history = training.fit(model, losses.binary_cross_entropy, X, y, optimizer, epochs=100, rng=random.Random(0), progress=False)
print(training.curve(history["loss"]))
losses.binary_cross_entropy(model(X[1]), y[1])`,
  };
  const $ = (id) => document.getElementById(id);
  const place = new URL(".", document.currentScript.src);
  const STARTING = "Python is being loaded; a program can be run meanwhile";
  let worker = null;

  function start() {
    worker = new Worker(new URL("worker.js", place), {type: "module"});
    worker.onmessage = ({data}) => {
      if (data.ready) { if ($("status").textContent === STARTING) $("status").textContent = "ready"; return; }
      $("run").disabled = false;
      $("stop").disabled = true;
      $("status").textContent = data.error ? "" : `done in ${data.seconds.toFixed(2)} s`;
      $("printed").hidden = !(data.printed || data.error);
      $("printed").textContent = data.printed;
      if (data.error) $("printed").append(Object.assign(document.createElement("span"), {className: "error", textContent: data.error}));
      $("page").hidden = !data.page;
      if (data.page) $("page").srcdoc = data.page;
      $("trace").innerHTML = data.table;  // written by the library, escaped
    };
    worker.onerror = (event) => { $("status").textContent = `Python could not be started: ${event.message}`; };
  }

  function run() {
    if (!worker) start();
    $("run").disabled = true;
    $("stop").disabled = false;
    $("status").textContent = "running";
    worker.postMessage($("program").value);
  }

  for (const name of Object.keys(EXAMPLES)) $("examples").append(new Option(name));
  $("examples").addEventListener("change", () => { $("program").value = EXAMPLES[$("examples").value]; });
  $("program").value = EXAMPLES["an expression"];
  $("program").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); if (!$("run").disabled) run(); }
    event.stopPropagation();  // the theme has keys of its own
  });
  $("run").addEventListener("click", run);
  $("stop").addEventListener("click", () => {
    worker.terminate();
    worker = null;
    $("stop").disabled = true;
    $("run").disabled = false;
    $("status").textContent = "stopped";
  });
  $("status").textContent = STARTING;
  start();  // so that the first program need not wait for all of it
})();
