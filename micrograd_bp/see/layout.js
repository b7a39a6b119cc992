// Places for boxes in ranks: operands before what is computed from them, frames laid out within, each like a box.
const GAP = 26, BETWEEN = 40, PAD = 12, HEAD = 22;  // pixels between boxes, between ranks, around and above a frame

// children: [{key, w, h}] in their order; edges: [[key, key]]; the same with w and h exchanged lays out downwards.
function ranked(children, edges) {
  const at = new Map(children.map((child, k) => [child.key, k])), n = children.length;
  const out = children.map(() => []), into = children.map(() => []), seen = new Set();
  const state = new Array(n).fill(0), pairs = [];
  for (const [a, b] of edges) {
    const pair = at.get(a) * n + at.get(b);
    if (a !== b && !seen.has(pair)) { seen.add(pair); pairs.push([at.get(a), at.get(b)]); }
  }
  const forward = children.map(() => []);
  for (const [a, b] of pairs) forward[a].push(b);
  for (let root = 0; root < n; root++) {  // an edge back to a box on the way to it closes a circle, and is left out
    const stack = state[root] ? [] : [[root, 0]];
    if (stack.length) state[root] = 1;
    while (stack.length) {
      const top = stack[stack.length - 1], next = forward[top[0]][top[1]++];
      if (next === undefined) { state[top[0]] = 2; stack.pop(); continue; }
      if (state[next] !== 1) { out[top[0]].push(next); into[next].push(top[0]); }
      if (!state[next]) { state[next] = 1; stack.push([next, 0]); }
    }
  }
  const rank = new Array(n).fill(0), waiting = into.map((list) => list.length);
  const order = children.map((_, k) => k).filter((k) => !waiting[k]);
  for (const k of order) for (const next of out[k]) {
    rank[next] = Math.max(rank[next], rank[k] + 1);
    if (!--waiting[next]) order.push(next);
  }
  for (const k of [...order].reverse()) {  // what nothing leads to stands just before its first use
    if (!into[k].length && out[k].length) rank[k] = Math.min(...out[k].map((next) => rank[next])) - 1;
  }

  const boxes = children.map((child, k) => ({...child, rank: rank[k], into: [], out: [], order: k}));
  const bends = new Map();  // the places through which an edge runs that is longer than from one rank to the next
  for (let a = 0; a < n; a++) for (const b of out[a]) {
    const chain = [boxes[a]];
    for (let r = rank[a] + 1; r < rank[b]; r++) {
      const dummy = {key: null, w: 0, h: 10, rank: r, into: [], out: [], order: (a + b) / 2};
      boxes.push(dummy);
      chain.push(dummy);
    }
    chain.push(boxes[b]);
    for (let k = 1; k < chain.length; k++) { chain[k - 1].out.push(chain[k]); chain[k].into.push(chain[k - 1]); }
    bends.set(`${children[a].key}>${children[b].key}`, chain.slice(1, -1));
  }
  const columns = Array.from({length: Math.max(0, ...rank) + 1}, () => []);
  for (const box of boxes) columns[box.rank].push(box);
  const number = () => columns.forEach((column) => column.forEach((box, k) => { box.place = k; }));
  columns.forEach((column) => column.sort((a, b) => a.order - b.order));
  number();
  const crossings = () => {
    let count = 0;
    for (const column of columns) {
      const ends = column.flatMap((box) => box.out.map((next) => [box.place, next.place]));
      for (let i = 0; i < ends.length; i++) for (let j = 0; j < i; j++) {
        if ((ends[i][0] - ends[j][0]) * (ends[i][1] - ends[j][1]) < 0) count++;
      }
    }
    return count;
  };
  let least = crossings(), best = columns.map((column) => [...column]);
  for (let sweep = 0; sweep < 8 && least; sweep++) {  // each box to the middle of its neighbours in the rank before
    const side = sweep % 2 ? "out" : "into";
    for (const column of sweep % 2 ? [...columns].reverse() : columns) {
      for (const box of column) {
        const near = box[side];
        box.wanted = near.length ? near.reduce((sum, other) => sum + other.place, 0) / near.length : box.place;
      }
      column.sort((a, b) => a.wanted - b.wanted || a.place - b.place);
      column.forEach((box, k) => { box.place = k; });
    }
    const count = crossings();
    if (count < least) { least = count; best = columns.map((column) => [...column]); }
  }
  columns.splice(0, columns.length, ...best);
  number();

  let x = 0;
  for (const column of columns) {
    const width = Math.max(...column.map((box) => box.w));
    let y = 0;
    for (const box of column) { box.x = x + (width - box.w) / 2; box.y = y; y += box.h + GAP; }
    column.left = x;
    column.width = width;
    x += width + BETWEEN;
  }
  for (let sweep = 0; sweep < 10; sweep++) {
    for (const column of sweep % 2 ? [...columns].reverse() : columns) settle(column, sweep < 8 ? (sweep % 2 ? "out" : "into") : null);
  }
  const top = Math.min(...boxes.map((box) => box.y)), height = Math.max(...boxes.map((box) => box.y + box.h)) - top;
  for (const box of boxes) box.y -= top;
  const through = new Map([...bends].map(([key, chain]) => [key, chain.map((dummy) => {
    const column = columns[dummy.rank];
    return [column.left, column.left + column.width, dummy.y + dummy.h / 2];
  })]));
  return {boxes: boxes.filter((box) => box.key !== null), through, w: x - BETWEEN, h: height};
}

// The boxes of a rank as near as may be to the middle of their neighbours, in their order and apart (least squares).
function settle(column, side) {
  const blocks = [];
  let offset = 0;
  for (const box of column) {
    const near = side ? box[side] : [...box.into, ...box.out];
    const middle = near.length ? near.reduce((sum, other) => sum + other.y + other.h / 2, 0) / near.length : box.y + box.h / 2;
    blocks.push({sum: middle - box.h / 2 - offset, count: 1, boxes: [[box, offset]]});
    offset += box.h + GAP;
    for (let k = blocks.length - 1; k > 0 && blocks[k].sum / blocks[k].count < blocks[k - 1].sum / blocks[k - 1].count; k--) {
      const last = blocks.pop();
      blocks[k - 1].sum += last.sum;
      blocks[k - 1].count += last.count;
      blocks[k - 1].boxes.push(...last.boxes);
    }
  }
  for (const block of blocks) for (const [box, apart] of block.boxes) box.y = block.sum / block.count + apart;
}

// tree: {key, children: [tree or {key, w, h}]}; a tree with children is a frame; edges between the innermost boxes.
function nested(tree, edges, downwards) {
  const home = new Map();  // of each box the frames around it, from the outermost, and itself
  const walk = (item, above) => {
    const chain = [...above, item.key];
    if (item.children) item.children.forEach((child) => walk(child, chain));
    else home.set(item.key, chain);
  };
  walk(tree, []);
  const between = new Map();  // the edges within each frame, between what stands directly in it
  for (const [a, b] of edges) {
    const [from, to] = [home.get(a), home.get(b)];
    let depth = 0;
    while (from[depth + 1] !== undefined && from[depth + 1] === to[depth + 1]) depth++;
    if (from[depth + 1] === undefined || to[depth + 1] === undefined) continue;
    between.set(from[depth], [...(between.get(from[depth]) || []), [from[depth + 1], to[depth + 1]]]);
  }
  const placed = new Map(), frames = [], through = new Map();
  const turn = (box) => downwards ? {...box, w: box.h, h: box.w} : box;
  const size = (item) => {
    if (!item.children) return item;
    item.inner = ranked(item.children.map((child) => turn(size(child))), between.get(item.key) || []);
    const {w, h} = turn(item.inner);
    return {key: item.key, w: w + 2 * PAD, h: h + PAD + HEAD};
  };
  const put = (item, x, y) => {
    if (!item.children) { placed.set(item.key, {x, y, w: item.w, h: item.h}); return; }
    const {w, h} = turn(item.inner);
    frames.push({key: item.key, x, y, w: w + 2 * PAD, h: h + PAD + HEAD});
    const left = x + PAD, top = y + HEAD;
    for (const [key, spans] of item.inner.through) {
      through.set(key, spans.map(([a, b, c]) => downwards ? [top + a, top + b, left + c] : [left + a, left + b, top + c]));
    }
    const at = new Map(item.inner.boxes.map((box) => [box.key, box]));
    for (const child of item.children) {
      const box = at.get(child.key);
      put(child, left + (downwards ? box.y : box.x), top + (downwards ? box.x : box.y));
    }
  };
  const whole = size(tree);
  put(tree, 0, 0);
  const routes = edges.map(([a, b]) => {
    const [from, to] = [home.get(a), home.get(b)];
    let depth = 0;
    while (from[depth + 1] !== undefined && from[depth + 1] === to[depth + 1]) depth++;
    return through.get(`${from[depth + 1]}>${to[depth + 1]}`) || [];
  });
  return {placed, frames: frames.slice(1), routes, w: whole.w, h: whole.h};
}
