"use strict";
// Draws the mesh at the time of the slider. `#t=12.5&node=3` in the address sets the time and the node that is shown alone.
(() => {
  const id = (name) => document.getElementById("mesh-" + name);
  const data = JSON.parse(id("data").textContent);
  const count = data.kinds.length;
  const RADIUS = 320;
  const place = (node, radius = RADIUS) => {
    const angle = (2 * Math.PI * node) / count - Math.PI / 2;
    return [radius * Math.cos(angle), radius * Math.sin(angle)];
  };
  const at = (point) => point[0].toFixed(1) + "," + point[1].toFixed(1);
  // A curve towards the middle: the further apart two nodes are, the more.
  const curve = (a, b) => {
    const [p, q] = [place(a), place(b)];
    return "M" + at(p) + "Q" + at([(p[0] + q[0]) * 0.22, (p[1] + q[1]) * 0.22]) + " " + at(q);
  };
  const seconds = (ms) => (ms / 1000).toFixed(2) + " s";
  const some = (count, one, many) => count + " " + (count === 1 ? one : many);

  // The state is that after the first `next` changes.
  let next, status, peers, calls, cuts;
  const reset = () => {
    next = 0;
    status = new Array(count).fill("absent");
    peers = new Set();
    calls = new Map();
    cuts = new Map();
  };
  const apply = ([, what, a, b, c]) => {
    const key = a * count + b;
    switch (what) {
      case "u": status[a] = "up"; break;
      case "d": status[a] = "left"; break;
      case "x": status[a] = "crashed"; break;
      case "p": peers.add(key); break;
      case "q": peers.delete(key); break;
      case "c": calls.set(key, (calls.get(key) || 0) + 1); break;
      case "e": calls.set(key, (calls.get(key) || 0) - 1); if (calls.get(key) <= 0) calls.delete(key); break;
      case "k": cuts.set(a, (cuts.get(a) || []).concat([[new Set(b), new Set(c)]])); break;
      case "h": cuts.delete(a); break;
    }
  };
  const advance = (ms) => {
    if (next > 0 && data.changes[next - 1][0] > ms) reset();
    while (next < data.changes.length && data.changes[next][0] <= ms) apply(data.changes[next++]);
  };

  // What is listed, and where the buttons go: all changes but those of connections.
  const name = { h: "node ", f: "node of another make ", x: "hostile node " };
  const node = (number) => name[data.kinds[number]] + number;
  const events = [];
  for (const [ms, what, a, b] of data.changes) {
    const words = {
      u: () => node(a) + " is up", d: () => node(a) + " has shut down", x: () => node(a) + " loses power",
      c: () => node(a) + " calls " + node(b), e: () => node(a) + " and " + b + " hang up",
    }[what];
    if (words) events.push([ms, words()]);
  }
  for (const [from, until, what] of data.troubles) events.push([from, "begin: " + what], [until, "end: " + what]);
  if (data.broken) events.push([data.broken[0], "broken: " + data.broken[1]]);
  events.sort((one, other) => one[0] - other[0]);

  const circles = [];
  id("picture").classList.toggle("dense", count > 60);
  const size = Math.max(2.5, Math.min(11, (0.36 * 2 * Math.PI * RADIUS) / count));
  const step = count <= 60 ? 1 : count <= 150 ? 5 : Math.ceil(count / 200) * 10;
  const create = (kind, attributes, parent) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", kind);
    for (const key in attributes) element.setAttribute(key, attributes[key]);
    return parent.appendChild(element);
  };
  for (let number = 0; number < count; number++) {
    const [x, y] = place(number);
    const circle = create("circle", { cx: x.toFixed(1), cy: y.toFixed(1), r: size.toFixed(1) }, id("nodes"));
    circle.addEventListener("click", () => choose(id("node").value === String(number) ? "" : String(number)));
    create("title", {}, circle).textContent = node(number);
    circles.push(circle);
    if (number % step === 0) {
      const [x, y] = place(number, RADIUS + size + 34);
      create("text", { x: x.toFixed(1), y: y.toFixed(1) }, id("nodes")).textContent = number;
    }
  }
  const strip = (from, until, kind) => {
    const x = (1000 * from) / data.end;
    create("rect", { x, y: 2, height: 10, width: Math.max(2, (1000 * (until - from)) / data.end), class: kind }, id("strip"));
  };
  data.troubles.forEach(([from, until]) => strip(from, Math.min(until, data.end), "trouble"));
  if (data.broken) strip(data.broken[0], data.broken[0], "bad");

  const isCut = (a, b) => {
    for (const list of cuts.values()) {
      for (const [from, to] of list) if ((from.has(a) && to.has(b)) || (from.has(b) && to.has(a))) return true;
    }
    return false;
  };
  const sides = () => {
    let path = "";
    let ring = 0;
    for (const list of cuts.values()) {
      const [from, to] = list[0];
      const side = from.size <= to.size ? from : to;
      const radius = RADIUS + size + 6 + 6 * (ring++ % 4);
      // In places of a node: as wide as the node, and never as wide as its place.
      const half = Math.min(0.42, (1.3 * size * count) / (2 * Math.PI * RADIUS));
      for (const number of side) {
        const [begin, end] = [place(number - half, radius), place(number + half, radius)];
        path += "M" + at(begin) + "A" + radius + "," + radius + " 0 0 1 " + at(end);
      }
    }
    return path;
  };

  const draw = () => {
    const ms = Math.round(1000 * Number(id("time").value));
    advance(ms);
    const only = id("node").value === "" ? null : Number(id("node").value);
    const paths = { links: "", halves: "", severed: "", focus: "" };
    let connections = 0;
    const near = [];
    for (const key of peers) {
      const [a, b] = [Math.floor(key / count), key % count];
      const isMutual = peers.has(b * count + a);
      if (isMutual && a > b) continue;
      connections += isMutual ? 1 : 0;
      if (a === only || b === only) near.push(a === only ? b : a);
      const kind = isCut(a, b) ? "severed" : isMutual ? "links" : "halves";
      paths[kind] += curve(a, b);
      if (a === only || b === only) paths.focus += curve(a, b);
    }
    for (const kind in paths) id(kind).setAttribute("d", paths[kind]);
    let talk = "";
    let talking = 0;
    for (const [key, number] of calls) {
      talk += curve(Math.floor(key / count), key % count);
      talking += number;
    }
    id("calls").setAttribute("d", talk);
    id("sides").setAttribute("d", sides());
    id("picture").classList.toggle("focused", only !== null);
    let up = 0;
    status.forEach((is, number) => {
      up += is === "up" ? 1 : 0;
      const chosen = number === only ? " chosen" : "";
      circles[number].setAttribute("class", is + " " + data.kinds[number] + chosen);
    });
    const now = data.troubles.filter(([from, until]) => from <= ms && ms <= Math.max(until, from + 500));
    const broken = data.broken && data.broken[0] <= ms ? ". Broken: " + data.broken[1] : "";
    id("now").textContent =
      seconds(ms) + ": " + up + " of " + some(count, "node", "nodes") + (up === 1 ? " is up, " : " are up, ") +
      some(connections, "connection", "connections") + ", " + some(talking, "call", "calls") +
      now.map(([, , what]) => "; " + what).join("") + broken;
    id("time").setAttribute("aria-valuetext", seconds(ms));
    id("about").textContent = only === null ? "Choose a node to see its connections alone." :
      node(only) + ": " + status[only] + ", " + some(near.length, "peer", "peers") +
      (near.length ? ": " + near.sort((one, other) => one - other).join(", ") : "");
    const past = events.filter(([when]) => when <= ms).slice(-8).reverse();
    id("log").replaceChildren(...past.map(([when, what]) => {
      const item = document.createElement("li");
      item.textContent = seconds(when) + " " + what;
      return item;
    }));
  };

  let playing = null;
  const stop = () => {
    clearInterval(playing);
    playing = null;
    id("play").textContent = "Play";
  };
  const go = (time) => {
    id("time").value = time;
    draw();
  };
  const choose = (number) => {
    id("node").value = number;
    draw();
  };
  id("play").addEventListener("click", () => {
    if (playing !== null) return stop();
    if (Number(id("time").value) >= data.end / 1000 - 0.05) go(0);
    id("play").textContent = "Pause";
    let time = Number(id("time").value);
    let last = performance.now();
    playing = setInterval(() => {
      const now = performance.now();
      time += ((now - last) / 1000) * Number(id("speed").value);
      last = now;
      go(Math.min(time, data.end / 1000));
      if (time >= data.end / 1000) stop();
    }, 40);
  });
  id("before").addEventListener("click", () => {
    stop();
    const now = 1000 * Number(id("time").value);
    const before = events.filter(([when]) => when < now - 50);
    go(before.length ? Math.floor(before[before.length - 1][0] / 50) / 20 : 0);
  });
  id("after").addEventListener("click", () => {
    stop();
    const now = 1000 * Number(id("time").value);
    const after = events.find(([when]) => when > now + 50);
    go(after ? Math.ceil(after[0] / 50) / 20 : data.end / 1000);
  });
  id("time").addEventListener("input", () => {
    stop();
    draw();
  });
  id("node").addEventListener("change", draw);
  const follow = () => {
    const wanted = new URLSearchParams(location.hash.slice(1));
    if (wanted.has("node") && Number(wanted.get("node")) < count) id("node").value = wanted.get("node");
    const time = Number(wanted.get("t"));
    stop();
    go(wanted.has("t") && Number.isFinite(time) ? time : data.broken ? data.broken[0] / 1000 : data.end / 2000);
  };
  window.addEventListener("hashchange", follow);
  reset();
  follow();
})();
