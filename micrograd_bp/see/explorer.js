const $ = (id) => document.getElementById(id);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const P = JSON.parse($("program").textContent);
const WORDS = {inf: Infinity, "-inf": -Infinity, nan: NaN};
const number = (x) => (typeof x === "string" ? WORDS[x] : x);
const still = matchMedia("(prefers-reduced-motion: reduce)");
const PLAY = "M5 2.5v15l12-7.5z", PAUSE = "M4 3h4v14H4zM12 3h4v14h-4z";
const LETTER = 7.9, LINE = 17, READABLE = 0.7;  // of a monospaced face of 13 px; smaller letters are worse than panning
const nodes = P.nodes, leaves = nodes.flatMap((node, k) => (node.args ? [] : [k]));
const interior = nodes.flatMap((node, k) => (node.args ? [k] : []));
const examples = Object.entries(P.examples).map(([leaf, column]) => [Number(leaf), column.map(number)]);
const rows = examples.length ? examples[0][1].length : 0;
const unpack = (node) => { node.args = (node.args || []).map((x) => (Array.isArray(x) ? {constant: number(x[0])} : {node: x})); };
nodes.forEach(unpack);

// --- numbers ---------------------------------------------------------------------------------------------------------

function shown(x) {  // a number in the format that the page was made with, as Python writes it
  const {sign, digits, kind} = P.format;
  if (!Number.isFinite(x)) return Number.isNaN(x) ? `${sign}nan` : x < 0 ? "-inf" : `${sign}inf`;
  const power = (text) => text.replace(/e([+-])(\d)$/, "e$10$2");
  let text;
  if (kind === "f") text = Math.abs(x) < 1e21 ? x.toFixed(digits) : BigInt(x) + (digits ? `.${"0".repeat(digits)}` : "");
  else if (kind === "e") text = power(x.toExponential(digits));
  else {
    const figures = Math.max(digits, 1), [mantissa, exponent] = x.toExponential(figures - 1).split("e");
    const short = (t) => (t.includes(".") ? t.replace(/\.?0+$/, "") : t);
    const plain = exponent >= -4 && exponent < figures;
    text = plain ? short(x.toFixed(Math.max(figures - 1 - exponent, 0))) : `${short(mantissa)}${power(`e${exponent}`)}`;
  }
  if (Object.is(x, -0) && text[0] !== "-") text = `-${text}`;
  return x > 0 || Object.is(x, 0) ? sign + text : text;
}

const exact = (x) => (Object.is(x, -0) ? "-0" : Number.isNaN(x) ? "nan" : String(x).replace("Infinity", "inf"));
const product0 = (g, p) => (g === 0 || p === 0 ? 0 : g * p);  // in the chain rule 0 wins

function evaluate(numbers, among = nodes) {  // the leaves' numbers by their places -> the graph's data and local derivatives
  const data = [], partials = [], failed = new Set();
  among.forEach((node, k) => {
    if (!node.op) { data[k] = numbers[k]; return; }
    const args = node.args.map((x) => (x.node === undefined ? x.constant : data[x.node]));
    data[k] = R[node.op](...args);
    partials[k] = D[node.op](data[k], ...args);
    if (!Number.isFinite(data[k]) && args.every(Number.isFinite)) failed.add(k);
  });
  return {data, partials, failed};
}

function differentiate({partials}, output, among = nodes) {  // the adjoints, and what each node sends to its operands, in order
  const adjoints = among.map((_, k) => (k === output ? 1 : 0)), sent = among.map(() => []);
  for (let k = among.length - 1; k >= 0; k--) {
    if (adjoints[k] === 0) continue;
    among[k].args.forEach((x, place) => {
      if (x.node === undefined) return;
      const partial = partials[k][place], total = adjoints[x.node] + product0(adjoints[k], partial);
      adjoints[x.node] = total;
      sent[k].push({operand: x.node, place, adjoint: adjoints[k], partial, total});
    });
  }
  return {adjoints, sent};
}

const recorded = {
  data: nodes.map((node) => number(node.data)),
  partials: nodes.map((node) => (node.partials || []).map(number)),
  failed: new Set(),
};
let output = P.outputs[0], example = 0, state = recorded, back = differentiate(recorded, output);
let now = 0, timer = null, steps = [], losses = [];
const moved = new Set(P.moved), numbers = [...recorded.data];

const uses = [];  // every use of a node as an operand; an edge has its number
const useOf = nodes.map((node, k) => node.args.map((x, place) => (x.node === undefined ? -1 : uses.push([k, place]) - 1)));
const count = nodes.map(() => 0);
for (const [k, place] of uses) count[nodes[k].args[place].node]++;

// --- steps and their words ---------------------------------------------------------------------------------------------

const NUMBERS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
const several = (n, word) => `${NUMBERS[n] || n} ${word}${n === 1 ? "" : "s"}`;
const listed = (names) => names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names[names.length - 1]}`;
const math = (text) => `<math><mrow>${text}</mrow></math>`;  // only of text that was written as MathML, escaped
const letter = (k) => { const [base, ...below] = nodes[k].name.match(/[^\W\d_]+|\d+/gu) || [nodes[k].name];
  const mi = (x) => (/^\d+$/.test(x) ? `<mn>${x}</mn>` : `<mi>${escaped(x)}</mi>`);
  return below.length ? `<msub>${mi(base)}<mrow>${below.map(mi).join("<mo>,</mo>")}</mrow></msub>` : mi(base); };
const escaped = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const slope = (a, b) => `<mfrac><mrow><mo>∂</mo>${letter(a)}</mrow><mrow><mo>∂</mo>${letter(b)}</mrow></mfrac>`;

function kind(node) {  // in words: what a sum, a product, a function answers to its operands with
  if (node.symbol === "+") return "A sum answers to each of its terms one to one, so it hands its grad on unchanged.";
  if (node.symbol === "Σ") return "A unit's net input answers to a weight as strongly as its input is large, and to an input as strongly as its weight; its grad is the unit's delta.";
  if (node.symbol === "-") return node.args.length > 1 ? "A difference hands its grad on, with the sign turned for what is subtracted." : "A minus sign turns the sign of the grad.";
  if (node.symbol === "*") return "A product answers to one factor as strongly as the other factor is large: the other factor is the local derivative.";
  const rule = node.row ? ` (the table has it as ${node.row}, where out is the result)` : "";
  return `${node.call} answers to a small change by its slope there, the local derivative on the edge${rule}.`;
}

function forward(k) {
  const node = nodes[k], operands = [...new Set(node.args.flatMap((x) => (x.node === undefined ? [] : [nodes[x.node].name])))];
  const words = [], calculus = [];
  if (state.failed.has(k)) words.push(["wrong", `There ${node.expression} has no value: Python raises an error here, and all that follows is without meaning.`]);
  const known = operands.length ? `${listed(operands)} ${operands.length > 1 ? "are" : "is"} known by now` : "its operands are constants";
  words.push(["note", `${node.name} can be computed: ${known}.${count[k] > 1 ? ` It feeds ${several(count[k], "place")}: on the way back as many contributions meet here, and are added.` : ""}`]);
  calculus.push(`${letter(k)}<mo>=</mo>${node.math}`);
  const seen = new Set();
  node.args.forEach((x, place) => {
    if (x.node === undefined || seen.has(x.node)) return;
    seen.add(x.node);
    calculus.push(`${slope(k, x.node)}<mo>=</mo>${node.args.filter((y) => y.node === x.node).length > 1 ? `${node.slopes[place]}<mtext> (first use)</mtext>` : node.slopes[place]}`);
  });
  return {words, calculus};
}

function backward(k, arrived) {
  const node = nodes[k], words = [], calculus = [], sent = back.sent[k];
  if (!sent.length) return {words: [["note", back.adjoints[k] === 0 ? `${node.name}.grad is 0, so it passes nothing on.` : "Only constants lie behind it, so the way ends here."]], calculus};
  words.push(["note", kind(node)]);
  const met = [...new Set(sent.map(({operand}) => operand))].filter((x) => count[x] > 1);
  for (const x of met.slice(0, 4)) words.push(["note", `${nodes[x].name} feeds ${several(count[x], "place")}, so ${several(count[x], "contribution")} are added: ${arrived[x]} of ${count[x]} ${arrived[x] === 1 ? "is" : "are"} in.`]);
  for (const {operand, place} of sent.slice(0, 6)) {
    calculus.push(`${slope(output, operand)}<mo>←</mo>${slope(output, operand)}<mo>+</mo>${slope(output, k)}<mo>·</mo>${slope(k, operand)}<mtext>,&nbsp;&nbsp;</mtext>${slope(k, operand)}<mo>=</mo>${node.slopes[place]}`);
  }
  return {words, calculus};
}

function plan() {  // what the page shows at each step: title, equations (rule, numbers, result), what becomes known, why
  const loss = nodes[output].name, list = [];
  const step = (phase, node, title, more) => list.push({phase, node, title, edges: [], lines: [], set: [], words: [], calculus: [], ...more});
  step("start", null, "Start", {
    set: leaves.map((k) => [k, "data", state.data[k]]),
    words: [["note", "The leaves hold their data. Everything else is computed from them, in topological order: each node after what it is computed from."]],
  });
  for (const k of interior) {
    const node = nodes[k], value = (x) => (x.node === undefined ? x.constant : state.data[x.node]);
    const tight = node.symbol === "**" || node.args.length === 1;  // a sign before or a power after wants brackets
    const worked = node.worked.replace(/\ue000(\d+)\ue001/g, (_, place) => {
      const text = shown(value(node.args[place]));
      return tight && text[0] === "-" && node.worked.length > 3 && !node.worked.endsWith(")") ? `(${text})` : text;
    });
    step("forward", k, `Forward: ${node.name}`, {
      edges: useOf[k].filter((use) => use >= 0), set: [[k, "data", state.data[k]]],
      lines: [[`${node.name} = ${node.expression}`, `${node.name} = ${worked}`, shown(state.data[k])]], ...forward(k),
    });
  }
  step("seed", output, "Backward: the seed", {
    set: nodes.map((_, k) => [k, "grad", k === output ? 1 : 0]), lines: [["", `${loss}.grad = 1`, ""]],
    words: [["note", `A change of ${loss} changes ${loss} by just as much. All other grads start from 0. On the edges stand the local derivatives.`]],
    calculus: [`${slope(output, output)}<mo>=</mo><mn>1</mn>`],
  });
  const arrived = nodes.map(() => 0);
  for (const k of [...interior].reverse()) {
    const lines = [], set = [];
    for (const {operand, place, adjoint, partial, total} of back.sent[k]) {
      const name = nodes[operand].name;
      arrived[operand]++;
      lines.push([`${name}.grad += ${nodes[k].terms[place] || 0}`, `${name}.grad += ${shown(adjoint)} * ${shown(partial)}`, shown(total)]);
      set.push([operand, "grad", total]);
    }
    step("backward", k, `Backward: ${nodes[k].name}`, {
      lines, set, edges: back.sent[k].map(({place}) => useOf[k][place]), ...backward(k, arrived),
    });
  }
  const ends = leaves.filter((k) => count[k] || k === output);
  step("done", null, "Done: the gradient", {
    lines: ends.slice(0, 8).map((k) => ["", `${nodes[k].name}.grad = ${shown(back.adjoints[k])}`, ""]),
    words: [["note", (ends.length > 8 ? `And ${ends.length - 8} more leaves, in the list. ` : "") +
      `Where a leaf is raised by a little, ${loss} rises by its grad times as much: to lower ${loss}, move each leaf against its grad.`],
      ...(P.rounding && state === recorded ? [["note", P.rounding]] : [])],
  });
  steps = list;
  $("slider").max = steps.length - 1;
}

// --- the graph -------------------------------------------------------------------------------------------------------

const SVG = $("canvas").namespaceURI;
function draw(tag, attributes, ...children) {
  const e = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) e.setAttribute(name, value);
  e.append(...children);
  return e;
}

const folded = new Set();
const around = P.groups.map((group, g) => { const list = []; for (let k = g; k !== null; k = P.groups[k].parent) list.unshift(k); return list; });
const longest = () => Math.max(...[...state.data, ...back.adjoints].map((x) => shown(x).length)) + 5;
let widest = 0;  // letters of the longest number, with what stands before it
const home = (k) => (nodes[k].group === undefined ? [] : around[nodes[k].group]);
const standsFor = (k) => { const g = home(k).find((group) => folded.has(group)); return g === undefined ? k : `g${g}`; };
let boxes = new Map(), listRows = new Map(), edgeGroups = [], size = {w: 1, h: 1}, centre = new Map(), downwards = false;

function short(k, text) {  // within a frame that is open, without the names that stand on the frame
  const open = home(k).filter((g) => !folded.has(g)), prefix = open.length ? P.groups[open[open.length - 1]].prefix : "";
  return prefix && !folded.has(home(k)[0]) ? text.split(prefix).join("") : text;
}

function titleOf(k) {
  const node = nodes[k], name = short(k, node.label || node.name);
  const rest = (node.label ? ` (${short(k, node.name)})` : "") + (node.symbol === "Σ" ? " = Σ" : node.expression ? ` = ${short(k, node.expression)}` : "");
  const cut = (text, length) => (text.length <= length ? text : `${text.slice(0, length - 1)}…`);
  return [cut(name, 24), cut(rest, 30), node.label && node.label !== node.name ? `${node.label} (${node.name})` : node.name];
}

function render() {  // lays the graph out anew and draws it
  widest = longest();
  const items = new Map(), tree = {key: "root", children: []}, frames = new Map();
  nodes.forEach((node, k) => {
    const key = standsFor(k);
    if (items.has(key)) { items.get(key).inside.push(k); return; }
    let parent = tree;
    for (const g of home(k)) {
      if (`g${g}` === key) break;
      if (!frames.has(g)) { frames.set(g, {key: `f${g}`, children: []}); parent.children.push(frames.get(g)); }
      parent = frames.get(g);
    }
    const item = {key, inside: [k]};
    items.set(key, item);
    parent.children.push(item);
  });
  for (const item of items.values()) {
    const group = typeof item.key === "string" ? P.groups[Number(item.key.slice(1))] : null;
    const exits = group ? item.inside.filter((k) => k === output || uses.some(([user, place]) => nodes[user].args[place].node === k && standsFor(user) !== item.key)) : item.inside;
    item.of = exits.length === 1 ? exits[0] : null;
    item.title = group ? [group.title, "", group.title] : titleOf(item.inside[0]);
    item.counts = group ? `${item.inside.filter((k) => !nodes[k].op).length} leaves, ${item.inside.filter((k) => nodes[k].op).length} operations` : "";
    item.w = Math.max((item.title[0] + item.title[1]).length, item.of === null ? 0 : widest, item.counts.length) * LETTER + 20;
    item.h = (1 + (item.counts ? 1 : 0) + (item.of === null ? 0 : 2)) * LINE + 14;
  }
  const joined = new Map();  // from box to box, with the uses that an edge stands for
  uses.forEach(([k, place], use) => {
    const ends = [standsFor(nodes[k].args[place].node), standsFor(k)];
    if (ends[0] === ends[1]) return;
    const key = ends.some((end) => typeof end === "string") ? ends.join(">") : `${use}`;
    joined.set(key, {ends, uses: [...(joined.get(key) || {uses: []}).uses, use]});
  });
  const edges = [...joined.values()], pane = $("graph").getBoundingClientRect();
  const ways = [false, true].map((way) => nested(tree, edges.map((edge) => edge.ends), way));
  const room = ({w, h}) => Math.min(pane.width / w, (pane.height - TOOLS) / h);
  const place = ways[0] && room(ways[0]) >= 0.8 * room(ways[1]) ? ways[0] : ways[1];
  downwards = place === ways[1];
  size = {w: place.w, h: place.h};
  const scene = $("scene"), drawn = [];
  edgeGroups = [];
  for (const {key, x, y, w, h} of place.frames) {
    const g = Number(key.slice(1)), title = P.groups[g].title;
    const e = draw("g", {class: "frame", "data-group": g, tabindex: 0, role: "button", "aria-label": `Fold ${title}`},
      draw("rect", {x, y, width: w, height: h, rx: 10}), draw("text", {x: x + 10, y: y + 15}, `▾ ${title}`));
    drawn.push(e);
  }
  edges.forEach((edge, number) => {
    const [a, b] = edge.ends.map((end) => place.placed.get(end)), spans = place.routes[number];
    const single = edge.uses.length === 1 && typeof edge.ends[1] !== "string" ? edge.uses[0] : null;
    const [user, spot] = uses[edge.uses[0]], inputs = nodes[user].args.length;
    const spread = single === null || inputs < 2 ? 0 : (spot - (inputs - 1) / 2) * Math.min(15, ((downwards ? b.w : b.h) - 12) / inputs);
    const from = downwards ? [a.y + a.h, a.x + a.w / 2] : [a.x + a.w, a.y + a.h / 2];
    const to = downwards ? [b.y, b.x + b.w / 2 + spread] : [b.x, b.y + b.h / 2 + spread];
    const point = ([u, v]) => (downwards ? `${v.toFixed(1)} ${u.toFixed(1)}` : `${u.toFixed(1)} ${v.toFixed(1)}`);
    let path = `M${point(from)}`, last = from;
    const curve = (end) => { const bend = Math.max(Math.abs(end[0] - last[0]) / 2, 14);
      path += `C${point([last[0] + bend, last[1]])} ${point([end[0] - bend, end[1]])} ${point(end)}`; last = end; };
    let middle = [(from[0] + to[0]) / 2, (from[1] + to[1]) / 2];
    for (const [start, end, level] of spans) { curve([start, level]); path += `L${point([end, level])}`; last = [end, level]; }
    if (spans.length) middle = [(last[0] + to[0]) / 2, (last[1] + to[1]) / 2];
    curve(to);
    const [tx, ty] = downwards ? [middle[1], middle[0]] : middle;
    const e = draw("g", {class: "edge", "data-edge": edge.uses.join(" ")}, draw("path", {d: path}));
    if (single !== null) e.append(draw("text", {x: tx.toFixed(1), y: (ty + 4 + (downwards ? 0 : spread / 2)).toFixed(1)}));
    edgeGroups.push([e, edge.uses, single]);
    drawn.push(e);
  });
  boxes = new Map(nodes.map((_, k) => [k, []]));
  centre = new Map();
  for (const item of items.values()) {
    const {x, y, w, h} = place.placed.get(item.key), group = typeof item.key === "string";
    const first = group ? null : item.inside[0];
    const kinds = group ? "fold" : P.outputs.includes(first) ? "output" : nodes[first].op ? "interior" : "leaf";
    const e = draw("g", {class: `node ${kinds}`, transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})`},
      draw("title", {}, item.title[2]), draw("rect", {class: "box", width: w.toFixed(1), height: h, rx: 9}));
    const name = draw("text", {x: 10, y: LINE + 2}, draw("tspan", {class: "name"}, `${group ? "▸ " : ""}${item.title[0]}`), item.title[1]);
    e.append(name);
    let line = 2;
    if (item.counts) e.append(draw("text", {class: "key", x: 10, y: line++ * LINE + 2}, item.counts));
    if (item.of !== null) for (const what of ["data", "grad"]) {
      const level = line++ * LINE + 2;
      e.append(draw("text", {class: "key", x: 10, y: level}, what),
        draw("text", {class: `${what}${what === "data" && !group && !nodes[first].op && !P.obstacle ? " number" : ""}`, x: w - 10, y: level, "text-anchor": "end"}));
    }
    if (group) for (const [name, value] of Object.entries({"data-group": item.key.slice(1), role: "button", tabindex: 0, "aria-label": `Unfold ${item.title[0]}`})) e.setAttribute(name, value);
    if (item.of !== null) { e.dataset.node = item.of; }
    for (const k of item.inside) { boxes.get(k).push([e, k === item.of]); centre.set(k, {x: x + w / 2, y: y + h / 2, w, h}); }
    drawn.push(e);
  }
  scene.replaceChildren(...drawn);
  $("canvas").setAttribute("aria-label", `The graph of ${nodes[output].name}: ${several(leaves.length, "leaf").replace("leafs", "leaves")}, ${several(interior.length, "operation")}`);
  $("canvas").setAttribute("role", "group");
  $("fold").hidden = !P.groups.length;
  $("fold").textContent = folded.size ? "Unfold all" : "Fold all";
  drawMap([...items.values()].map((item) => place.placed.get(item.key)));
  look();
}

// --- what is seen of it ----------------------------------------------------------------------------------------------

const view = {k: 1, x: 0, y: 0};
let followed = true;  // until the reader moves the picture

function look(glide) {
  const scene = $("scene");
  scene.classList.toggle("gliding", Boolean(glide));
  scene.style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.k})`;
  const pane = $("graph").getBoundingClientRect(), seen = $("map").querySelector(".seen");
  const all = view.x >= -1 && view.y >= TOOLS - 9 && view.x + size.w * view.k <= pane.width + 1 && view.y + size.h * view.k <= pane.height + 1;
  $("map").style.display = all ? "none" : "";
  if (seen) for (const [name, value] of Object.entries({x: -view.x / view.k, y: -view.y / view.k, width: pane.width / view.k, height: pane.height / view.k})) seen.setAttribute(name, value);
  $("fit").textContent = all && view.k < READABLE ? "Readable size" : "Whole graph";
}

function drawMap(places) {
  $("map").setAttribute("viewBox", `0 0 ${size.w} ${size.h}`);
  $("map").replaceChildren(...places.map(({x, y, w, h}) => draw("rect", {x, y, width: w, height: h})), draw("rect", {class: "seen"}));
}

const TOOLS = 46;  // the height of the buttons above
function whole() { const pane = $("graph").getBoundingClientRect(); return Math.min((pane.width - 8) / size.w, (pane.height - TOOLS - 8) / size.h, 1.25); }

function centred(k, at, glide) {  // the scale k, with this place of the graph in the middle (the whole, if it fits)
  const pane = $("graph").getBoundingClientRect(), slack = (room, length, middle) =>
    length * k <= room ? (room - length * k) / 2 : Math.min(Math.max(room / 2 - middle * k, room - length * k - 8), 8);
  Object.assign(view, {k, x: slack(pane.width, size.w, at.x), y: TOOLS + slack(pane.height - TOOLS, size.h, at.y)});
  look(glide);
}

function fit() { centred(Math.max(whole(), READABLE), focus() || {x: 0, y: 0}); followed = true; }
const focus = () => (steps[now] && steps[now].node !== null ? centre.get(steps[now].node) : null);

function zoom(factor, at) {
  const pane = $("graph").getBoundingClientRect(), [px, py] = at || [pane.width / 2, pane.height / 2];
  const k = Math.min(Math.max(view.k * factor, Math.min(whole(), 0.2) / 2), 4);
  Object.assign(view, {x: px - (px - view.x) * k / view.k, y: py - (py - view.y) * k / view.k, k});
  look();
}

function follow() {  // the active node and its row come into view, without moving the page
  const box = focus(), pane = $("graph").getBoundingClientRect();
  if (box && followed) {
    const left = (box.x - box.w / 2) * view.k + view.x, top = (box.y - box.h / 2) * view.k + view.y;
    if (left < 8 || top < TOOLS || left + box.w * view.k > pane.width - 8 || top + box.h * view.k > pane.height - 8) centred(view.k, box, true);
  }
  const scroll = document.querySelector("#order .scroll"), row = box && listRows.get(steps[now].node);
  if (scroll.scrollHeight > scroll.clientHeight) {
    scroll.scrollTo({top: row ? row.offsetTop - scroll.clientHeight / 2 : 0, behavior: still.matches ? "auto" : "smooth"});
  }
}

// --- the list --------------------------------------------------------------------------------------------------------

function element(tag, name, text) {
  const e = document.createElement(tag);
  if (name) e.className = name;
  if (text !== undefined) e.textContent = text;
  return e;
}

function writeList() {
  const body = document.querySelector("tbody");
  let part;
  nodes.forEach((node, k) => {
    if (P.groups.length && node.group !== part) {
      part = node.group;
      const head = element("tr", "part"), name = element("th", "", part === undefined ? "outside the model" : around[part].map((g) => P.groups[g].title.split(":")[0]).join(" › "));
      name.colSpan = 4;
      name.scope = "rowgroup";
      head.append(name);
      body.append(head);
    }
    const prefix = part === undefined || !P.groups.length ? "" : P.groups[part].prefix;
    const brief = (text) => (prefix ? text.split(prefix).join("") : text);
    const row = element("tr"), cell = element("td"), inner = element("div", "cell"), button = element("button"), data = element("td", "number");
    row.dataset.node = k;
    button.type = "button";
    button.append(element("span", "name", brief(node.label ? `${node.label} (${node.name})` : node.name)), node.expression ? ` = ${brief(node.expression)}` : "");
    button.title = node.expression ? `${node.name} = ${node.expression}` : node.name;
    button.addEventListener("click", () => jump(k));
    inner.append(button);
    cell.append(inner);
    if (node.op || P.obstacle) data.classList.add("data");
    else {
      const input = element("input", "data");
      Object.assign(input, {type: "text", inputMode: "decimal", autocomplete: "off"});
      input.setAttribute("aria-label", `${node.label || node.name}, its number`);
      input.addEventListener("focus", () => { input.value = input.dataset.exact; });
      input.addEventListener("blur", () => { input.removeAttribute("aria-invalid"); show(now); });
      input.addEventListener("change", () => typed(k, input));
      input.addEventListener("keydown", (event) => {
        if (event.key === "Enter") typed(k, input);
        if (event.key !== "ArrowUp" && event.key !== "ArrowDown") return;
        event.preventDefault();
        set(k, nudged(numbers[k], event.key === "ArrowUp" ? 1 : -1, numbers[k]));
        input.value = input.dataset.exact;
      });
      scrub(input, k);
      data.append(input);
      if (!examples.some(([leaf]) => leaf === k)) {
        const moves = element("input", "moves");
        Object.assign(moves, {type: "checkbox", checked: moved.has(k), title: "moves in descent"});
        moves.setAttribute("aria-label", `${node.label || node.name} moves in descent`);
        moves.addEventListener("change", () => { moves.checked ? moved.add(k) : moved.delete(k); tellMoved(); });
        inner.append(moves);
      }
    }
    row.append(cell, data, element("td", "number grad"), element("td", "number rounding"));
    body.append(row);
    listRows.set(k, row);
  });
}

// --- other numbers ---------------------------------------------------------------------------------------------------

function nudged(start, units, scale) {  // by hundredths of its size, in round steps
  const unit = 10 ** Math.floor(Math.log10(Math.max(Math.abs(scale), 0.1))) / 20;
  return Number((start + units * unit).toPrecision(12));
}

function typed(k, input) {
  const text = input.value.trim().replace("−", "-"), x = text === "" ? NaN : Number(text);
  input.setAttribute("aria-invalid", Number.isNaN(x));
  if (!Number.isNaN(x)) set(k, x);
}

function scrub(e, k) {  // dragged to the left and right, a number falls and rises
  let from = null;
  e.addEventListener("pointerdown", (event) => {
    if (document.activeElement === e) return;  // being typed
    from = {x: event.clientX, value: numbers[k], id: event.pointerId, live: false};
    e.setPointerCapture(from.id);
  });
  e.addEventListener("pointermove", (event) => {
    if (!from || event.pointerId !== from.id) return;
    const dx = event.clientX - from.x;
    if (!from.live && Math.abs(dx) > 4) { from.live = true; e.blur(); }
    if (from.live) { event.preventDefault(); set(k, nudged(from.value, Math.round(dx / 4), from.value)); }
  });
  for (const end of ["pointerup", "pointercancel"]) e.addEventListener(end, (event) => { if (from && from.live) { event.preventDefault(); e.blur(); } from = null; });
  e.style.touchAction = "pan-y";
}

function set(k, x) {
  numbers[k] = x;
  compute();
}

function compute() {  // the page's own evaluation and backward pass; the step stays where it is
  state = leaves.every((k) => Object.is(numbers[k], recorded.data[k])) ? recorded : evaluate(numbers);
  back = differentiate(state, output);
  plan();
  if (longest() > widest) render();
  show(now);
}

function pick(k) {  // an example's row
  example = k;
  for (const [leaf, column] of examples) numbers[leaf] = column[k];
  $("example").value = k;
}

function mean() {  // the loss and its gradient, over the examples
  const total = nodes.map(() => 0);
  let loss = 0, failed = false;
  for (let k = 0; k < Math.max(rows, 1); k++) {
    const at = [...numbers];
    for (const [leaf, column] of examples) at[leaf] = column[k];
    const found = evaluate(at), {adjoints} = differentiate(found, output);
    adjoints.forEach((g, node) => { total[node] += g / Math.max(rows, 1); });
    loss += found.data[output] / Math.max(rows, 1);
    failed = failed || found.failed.size > 0;
  }
  return {loss, gradient: total, failed: failed || !Number.isFinite(loss)};
}

function descend() {
  const rate = Number($("rate").value.replace("−", "-"));
  if ($("rate").value.trim() === "" || Number.isNaN(rate)) return stop("The rate is a number, 0.05 say.");
  const {loss, gradient, failed} = mean(), before = [...numbers];
  if (failed) return stop(`${nodes[output].name} has no value here; reset, or choose other numbers.`);
  if (!losses.length) losses.push(loss);
  for (const k of moved) numbers[k] -= rate * gradient[k];
  const after = mean();
  if (after.failed || ![...moved].every((k) => Number.isFinite(numbers[k]))) {
    numbers.splice(0, numbers.length, ...before);
    return stop("That step leads to where there is no value: try a smaller rate.");
  }
  losses.push(after.loss);
  $("message").textContent = "";
  compute();
  drawCurve();
  return true;
}

function stop(message) { run(false); $("message").textContent = message; return false; }
let running = null;
function run(on) {
  clearInterval(running);
  running = on ? setInterval(descend, 60) : null;
  $("run").textContent = on ? "Stop" : "Run";
}

function drawCurve() {
  const curve = $("curve"), low = Math.min(...losses), high = Math.max(...losses);
  const log = low > 0 && high / low >= 100, scale = (y) => (log ? Math.log(y) : y);
  const span = scale(high) - scale(low) || 1, x = (k) => 4 + 292 * k / Math.max(losses.length - 1, 1), y = (l) => 84 - 68 * (scale(l) - scale(low)) / span;
  const taken = losses.length - 1;
  curve.replaceChildren(draw("line", {x1: 0, x2: 300, y1: 88, y2: 88}), draw("path", {d: losses.map((l, k) => `${k ? "L" : "M"}${x(k).toFixed(1)} ${y(l).toFixed(1)}`).join("")}));
  curve.removeAttribute("hidden");
  curve.style.display = "";
  curve.setAttribute("aria-label", `${nodes[output].name} over ${several(taken, "step")}: from ${shown(losses[0])} to ${shown(losses[taken])}`);
  tellMoved();
}

function tellMoved() {
  const taken = losses.length - 1, name = nodes[output].name;
  $("moving").textContent = (taken > 0 ? `${several(taken, "step")[0].toUpperCase()}${several(taken, "step").slice(1)}: ${rows ? "mean " : ""}${name} from ${shown(losses[0])} to ${shown(losses[taken])}${Math.min(...losses) > 0 && Math.max(...losses) / Math.min(...losses) >= 100 ? ", on a logarithmic scale" : ""}. ` : "") +
    `${moved.size ? `A step moves ${several(moved.size, "leaf").replace("leafs", "leaves")} against ${rows ? "the mean gradient" : "the gradient"}` : "Nothing moves; tick leaves in the list"}.`;
}

// --- the step that is shown ----------------------------------------------------------------------------------------------

function show(k) {
  now = Math.min(Math.max(k, 0), steps.length - 1);
  const step = steps[now], level = Number($("level").value), known = {data: new Map(), grad: new Map(), swept: new Set()};
  for (const each of steps.slice(0, now + 1)) {
    for (const [node, what, x] of each.set) known[what].set(node, x);
    if (each.phase === "backward") each.edges.forEach((edge) => known.swept.add(edge));
  }
  const way = step.phase === "forward" ? "forward" : "backward";
  const reached = new Set(step.phase === "backward" ? step.set.map(([node]) => node) : []);
  nodes.forEach((node, k) => {
    const active = step.node === k, mark = (e) => {
      e.classList.toggle("forward", active && way === "forward");
      e.classList.toggle("backward", active && way === "backward");
      e.classList.toggle("reached", reached.has(k));
      e.classList.toggle("failed", state.failed.has(k) && known.data.has(k));
    };
    const write = (e) => {
      for (const what of ["data", "grad"]) {
        const cell = e.querySelector(`.${what}`), x = known[what].get(k);
        if (!cell) continue;
        const text = x === undefined ? "·" : shown(x);
        if (cell.tagName !== "INPUT") cell.textContent = text;
        else if (cell !== document.activeElement) cell.value = text;
        cell.classList.toggle("zero", !x);
        if (e.tagName === "TR") cell.title = x === undefined ? "" : exact(x);
        if (x === undefined) delete cell.dataset.exact; else cell.dataset.exact = exact(x);
      }
      e.classList.toggle("waiting", !known.data.has(k));
    };
    for (const [e, own] of boxes.get(k)) {
      if (own) write(e);
      if (own || e.dataset.node === undefined) { if (own || active || !e.dataset.lit) mark(e); }
    }
    const row = listRows.get(k);
    write(row);
    row.querySelector(".rounding").textContent = state === recorded ? node.rounding || "" : "";
    mark(row);
    row.classList.toggle("here", active);
    if (active) row.setAttribute("aria-current", "step"); else row.removeAttribute("aria-current");
  });
  const box = step.node === null ? null : boxes.get(step.node)[0][0];  // a folded part is lit for what is within it
  if (box) box.classList.add(way);
  for (const e of all(".fold", $("scene"))) if (e !== box) e.classList.remove("forward", "backward");
  for (const [e, own, single] of edgeGroups) {
    const lit = own.some((use) => step.edges.includes(use));
    e.classList.toggle("forward", lit && way === "forward");
    e.classList.toggle("backward", lit && way === "backward");
    e.classList.toggle("swept", own.some((use) => known.swept.has(use)));
    if (single !== null) { const [node, place] = uses[single]; e.querySelector("text").textContent = shown(state.partials[node][place]); }
  }
  const panel = $("now");
  panel.className = `panel ${step.phase}`;
  panel.replaceChildren(element("h2", "", step.title));
  for (const [rule, worked, result] of step.lines) {
    const line = element("div", "line code"), sum = element("div", "numbers", worked + (result ? " → " : ""));
    if (rule && level < 2) line.append(element("div", "rule", rule));
    if (result) sum.append(element("span", "result", result));
    line.append(sum);
    panel.append(line);
  }
  if (level > 1) for (const text of step.calculus) { const p = element("p", "note"); p.innerHTML = math(text); panel.append(p); }
  for (const [name, words] of step.words) if (level || name === "wrong") panel.append(element("p", name, words));
  $("slider").value = now;
  $("slider").setAttribute("aria-valuetext", `step ${now + 1} of ${steps.length}: ${step.title}`);
  $("count").textContent = `${now + 1} / ${steps.length}`;
  $("first").disabled = $("back").disabled = now === 0;
  $("next").disabled = $("last").disabled = now === steps.length - 1;
  if (now === steps.length - 1) pause();
  follow();
}

function pause() {
  clearInterval(timer);
  timer = null;
  $("play").setAttribute("aria-label", "Play");
  $("play").querySelector("path").setAttribute("d", PLAY);
}

function play() {
  if (timer) return pause();
  if (now === steps.length - 1) show(0);
  timer = setInterval(() => show(now + 1), Number($("speed").value));
  $("play").setAttribute("aria-label", "Pause");
  $("play").querySelector("path").setAttribute("d", PAUSE);
}

function go(k) { pause(); followed = true; show(k); }

function jump(node) {  // to the step at which the node is worked on, in the sweep that is under way
  const sweeping = steps[now].phase !== "start" && steps[now].phase !== "forward";
  const at = (phase) => steps.findIndex((step) => step.phase === phase && step.node === node);
  const [first, second] = sweeping ? ["backward", "forward"] : ["forward", "backward"];
  const k = at(first) < 0 ? at(second) : at(first);
  if (k >= 0) go(k);
}

function foldAll(on) { folded.clear(); if (on) for (const deepest of P.groups.keys()) if (!P.groups.some((g) => g.parent === deepest)) folded.add(deepest); }
function fold(g) {
  if (folded.has(g)) folded.delete(g); else { for (const other of [...folded]) if (around[other].includes(g)) folded.delete(other); folded.add(g); }
  refresh();
}
function refresh() { render(); fit(); show(now); }

// --- hands on --------------------------------------------------------------------------------------------------------

const fingers = new Map();
let moving = false;
$("graph").addEventListener("wheel", (event) => {
  event.preventDefault();
  const pane = $("graph").getBoundingClientRect();
  followed = false;
  zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0015)), [event.clientX - pane.left, event.clientY - pane.top]);
}, {passive: false});
$("canvas").addEventListener("pointerdown", (event) => {
  const number = event.target.closest(".number");
  fingers.set(event.pointerId, {x: event.clientX, y: event.clientY, leaf: number ? Number(number.closest(".node").dataset.node) : null});
  if (number) { const finger = fingers.get(event.pointerId); finger.from = finger.x; finger.value = numbers[finger.leaf]; }
  moving = false;
});
$("canvas").addEventListener("pointermove", (event) => {
  const finger = fingers.get(event.pointerId);
  if (!finger) return;
  const dx = event.clientX - finger.x, dy = event.clientY - finger.y;
  if (!moving && Math.hypot(dx, dy) < 4) return;
  if (!moving) { moving = true; $("canvas").setPointerCapture(event.pointerId); $("graph").classList.add("dragging"); }
  if (finger.leaf !== null && fingers.size === 1) {
    set(finger.leaf, nudged(finger.value, Math.round((event.clientX - finger.from) / 4), finger.value));
    return;
  }
  followed = false;
  if (fingers.size === 2) {  // both ends of a pinch: the scale by their distance, the place by their middle
    const other = [...fingers].find(([id]) => id !== event.pointerId)[1], pane = $("graph").getBoundingClientRect();
    const before = Math.hypot(finger.x - other.x, finger.y - other.y), after = Math.hypot(event.clientX - other.x, event.clientY - other.y);
    zoom(after / Math.max(before, 1), [(event.clientX + other.x) / 2 - pane.left, (event.clientY + other.y) / 2 - pane.top]);
    view.x += dx / 2; view.y += dy / 2;
  } else { view.x += dx; view.y += dy; }
  finger.x = event.clientX; finger.y = event.clientY;
  look();
});
for (const end of ["pointerup", "pointercancel"]) $("canvas").addEventListener(end, (event) => { fingers.delete(event.pointerId); if (!fingers.size) $("graph").classList.remove("dragging"); });
$("canvas").addEventListener("click", (event) => {
  if (moving) { moving = false; return; }
  const group = event.target.closest("[data-group]"), node = event.target.closest("[data-node]");
  if (group && !(event.target.tagName === "rect" && group.classList.contains("frame"))) fold(Number(group.dataset.group));
  else if (node) jump(Number(node.dataset.node));
});
const jumpOnMap = (event) => {
  if (!event.buttons && event.type !== "pointerdown") return;
  const at = new DOMPoint(event.clientX, event.clientY).matrixTransform($("map").getScreenCTM().inverse());
  followed = false;
  centred(view.k, at);
};
for (const kind of ["pointerdown", "pointermove"]) $("map").addEventListener(kind, jumpOnMap);

$("slider").addEventListener("input", () => go(Number($("slider").value)));
$("first").addEventListener("click", () => go(0));
$("back").addEventListener("click", () => go(now - 1));
$("play").addEventListener("click", play);
$("next").addEventListener("click", () => go(now + 1));
$("last").addEventListener("click", () => go(steps.length - 1));
$("closer").addEventListener("click", () => zoom(1.3));
$("farther").addEventListener("click", () => zoom(1 / 1.3));
$("fit").addEventListener("click", () => { if ($("fit").textContent === "Whole graph") centred(whole(), {x: 0, y: 0}, true); else fit(); });
$("fold").addEventListener("click", () => { foldAll(!folded.size); refresh(); });
$("speed").addEventListener("change", () => { if (timer) { pause(); play(); } });
$("level").addEventListener("change", () => show(now));
$("descend").addEventListener("click", () => { run(false); descend(); });
$("run").addEventListener("click", () => run(!running));
$("reset").addEventListener("click", () => {
  run(false);
  numbers.splice(0, numbers.length, ...recorded.data);
  losses = [];
  $("curve").style.display = "none";
  $("message").textContent = "";
  compute();
  tellMoved();
});
$("output").addEventListener("change", () => { output = Number($("output").value); losses = []; compute(); refresh(); tellMoved(); });
$("example").addEventListener("change", () => { pick(Number($("example").value)); compute(); });
document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || event.target.closest("select, input:not([type=range])")) return;
  const group = event.target.closest("[data-group]");
  if (group && (event.key === "Enter" || event.key === " ")) { event.preventDefault(); return fold(Number(group.dataset.group)); }
  const keys = {ArrowRight: () => go(now + 1), ArrowLeft: () => go(now - 1), Home: () => go(0), End: () => go(steps.length - 1),
                " ": play, "+": () => zoom(1.3), "=": () => zoom(1.3), "-": () => zoom(1 / 1.3), 0: () => centred(whole(), {x: 0, y: 0}, true)};
  if (!(event.key in keys)) return;
  if (event.key === " " && event.target.closest("button")) return;  // the button is what the key is for
  event.preventDefault();
  keys[event.key]();
});
addEventListener("resize", () => { render(); fit(); show(now); });

P.outputs.forEach((k) => $("output").append(Object.assign(element("option", "", nodes[k].label || nodes[k].name), {value: k})));
$("which").hidden = P.outputs.length < 2;
for (let k = 0; k < rows; k++) $("example").append(Object.assign(element("option", "", `${k + 1} of ${rows}`), {value: k}));
$("row").hidden = !rows;
if (P.obstacle) {
  $("editing").textContent = `Numbers are as recorded: ${P.obstacle}.`;
  $("descent").style.display = "none";
}
writeList();
if (rows) { pick(0); state = evaluate(numbers); back = differentiate(state, output); }
if (nodes.length > 60) foldAll(true);
tellMoved();
plan();
render();
fit();
show(0);
