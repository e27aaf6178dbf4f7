"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("offsky-data").textContent);
  const [ny, nx] = data.shape;
  const [rows, columns] = data.blocks;
  const bin = data.bin;
  const NAMES = ["before", "after", "average", "kept", "flags"];
  const MISSING = 4095, CENTRE = 2176;
  const NAN_COLOUR = [213, 94, 0];
  const CAUSES = { target: 0x10, background: 0x20, unusable: 0x40, uncovered: 0x80 };
  const canvas = byId("canvas");
  const context = canvas.getContext("2d");
  const readout = byId("readout");
  const still = window.matchMedia("(prefers-reduced-motion: reduce)");
  const decoded = new Map(); // name -> promise of {codes, values, picture}
  const state = { plane: null, x: Math.floor(columns / 2), y: Math.floor(rows / 2), zoom: 0, cx: columns / 2, cy: rows / 2, swipe: false, timer: 0 };

  // --- planes -------------------------------------------------------------

  async function inflate(id) {
    const text = byId(id).textContent;
    const binary = atob(text);
    const bytes = new Uint8Array(binary.length);
    for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  function valueOf(scale, code) {
    if (code === MISSING) return NaN;
    const place = (code - scale.centre) * scale.step;
    return scale.zero + (scale.width ? scale.width * Math.sinh(place / scale.width) : place);
  }

  function stepAt(scale, code) {
    if (!scale.width || code === MISSING) return scale.step;
    const here = valueOf(scale, code);
    return Math.max(Math.abs(valueOf(scale, code + 1) - here), Math.abs(here - valueOf(scale, code - 1)));
  }

  function plane(name) {
    if (!decoded.has(name)) decoded.set(name, decode(name));
    return decoded.get(name);
  }

  async function decode(name) {
    const about = data.planes[name];
    const [low, high, ...others] = await Promise.all([
      inflate(`${name}-low`), inflate(`${name}-high`), ...(about.plus || []).map(plane)]);
    const table = new Float64Array(MISSING + 1);
    for (let code = 0; code <= MISSING; code++) table[code] = valueOf(about.scale, code);
    const n = rows * columns;
    const codes = new Uint16Array(n);
    const values = new Float64Array(n);
    for (let i = 0; i < n; i++) {
      let code = low[i] | (high[i] << 8);
      // A row tells what is left beside what its neighbours let expect.
      if (about.filter !== "none") {
        let expected = i < columns ? 0 : codes[i - columns];
        if (about.filter === "average") expected = (expected + (i % columns ? codes[i - 1] : 0)) >> 1;
        code = (code - CENTRE + expected) & 0xfff;
      }
      codes[i] = code;
      values[i] = about.causes ? 0 : table[code];
    }
    for (const other of others) {
      for (let i = 0; i < n; i++) if (!Number.isNaN(other.values[i])) values[i] += other.values[i];
    }
    if (about.causes) shares(codes, values);
    return { name, codes, values, about, picture: null, drawn: "", sample: sampleOf(values) };
  }

  // Blocks at the ends have fewer pixels.
  function shares(codes, values) {
    for (let i = 0; i < codes.length; i++) {
      const y = Math.floor(i / columns), x = i % columns;
      const n = Math.min(bin, ny - y * bin) * Math.min(bin, nx - x * bin);
      values[i] = Math.min(1, (codes[i] & 0xf) / (bin * bin > 15 ? 15 : n));
    }
  }

  function sampleOf(values) {
    const step = Math.max(1, Math.floor(values.length / 20000));
    const found = [];
    for (let i = step >> 1; i < values.length; i += step) if (!Number.isNaN(values[i])) found.push(values[i]);
    return Float64Array.from(found).sort();
  }

  // --- stretch --------------------------------------------------------------

  const at = (sorted, share) => sorted.length ? sorted[Math.min(sorted.length - 1, Math.max(0, Math.round(share * (sorted.length - 1))))] : 0;

  // Limits about a line through the sorted values, as IRAF's zscale has them.
  function zscale(sorted) {
    const n = sorted.length;
    if (n < 5) return [at(sorted, 0), at(sorted, 1)];
    let kept = Array.from(sorted, (value, i) => [i - n / 2, value]);
    let slope = 0, level = at(sorted, 0.5);
    for (let pass = 0; pass < 5; pass++) {
      let sx = 0, sy = 0, sxx = 0, sxy = 0;
      for (const [x, y] of kept) { sx += x; sy += y; sxx += x * x; sxy += x * y; }
      const m = kept.length;
      slope = (m * sxy - sx * sy) / (m * sxx - sx * sx || 1);
      level = (sy - slope * sx) / m;
      let square = 0;
      for (const [x, y] of kept) square += (y - level - slope * x) ** 2;
      const limit = 2.5 * Math.sqrt(square / m);
      const rest = kept.filter(([x, y]) => Math.abs(y - level - slope * x) <= limit);
      if (rest.length === m || rest.length < n / 2) break;
      kept = rest;
    }
    const middle = at(sorted, 0.5), reach = slope / 0.25 * n / 2;
    return [Math.max(sorted[0], middle - reach), Math.min(sorted[n - 1], middle + reach)];
  }

  function ownLimits(sorted) {
    const how = byId("limits").value;
    let [low, high] = how === "zscale" ? zscale(sorted) : [at(sorted, (1 - how / 100) / 2), at(sorted, 1 - (1 - how / 100) / 2)];
    if (!(high > low)) { low -= 0.5 * Math.abs(low) || 0.5; high += 0.5 * Math.abs(high) || 0.5; }
    return [low, high];
  }

  async function limitsOf(one) {
    if (one.name === "flags") return [0, 1];
    if (one.name === "kept") return [Math.min(0, at(one.sample, 0)), Math.max(1, at(one.sample, 1))];
    const shared = byId("shared").value;
    if (shared === "separate" || one.name === "after" || !data.planes.after) return ownLimits(one.sample);
    const after = await plane("after");
    const [low, high] = ownLimits(after.sample);
    if (shared === "range" && one.name === "before") return [low, high];
    const apart = at(one.sample, 0.5) - at(after.sample, 0.5);
    return one.name === "average" && shared === "range" ? ownLimits(one.sample) : [low + apart, high + apart];
  }

  function shade(place) {
    const t = Math.min(1, Math.max(0, place));
    return byId("curve").value === "asinh" ? Math.asinh(10 * t) / Math.asinh(10) : t;
  }

  function causeColour(code) {
    const count = code & 0xf;
    if (code & CAUSES.uncovered) return [0, 158, 115];
    if (!count && !(code & (CAUSES.target | CAUSES.background))) return [24, 24, 24];
    const both = (code & CAUSES.target) && (code & CAUSES.background);
    const colour = both ? [204, 121, 167] : code & CAUSES.background ? [230, 159, 0] : [86, 180, 233];
    const strength = code & CAUSES.unusable ? 1 : 0.45;
    return colour.map((each) => Math.round(each * strength));
  }

  async function painted(one) {
    const limits = await limitsOf(one);
    const key = `${limits} ${byId("curve").value}`;
    if (one.drawn === key) return one;
    const image = new ImageData(columns, rows);
    const pixels = new Uint32Array(image.data.buffer);
    const packed = (r, g, b) => (255 << 24) | (b << 16) | (g << 8) | r; // little-endian, as all browsers' machines
    const missing = packed(...NAN_COLOUR);
    const [low, high] = limits;
    const LEVELS = 1024;
    const shades = new Uint32Array(LEVELS + 1);
    for (let i = 0; i <= LEVELS; i++) { const grey = Math.round(255 * shade(i / LEVELS)); shades[i] = packed(grey, grey, grey); }
    const causes = one.about.causes ? Uint32Array.from({ length: MISSING + 1 }, (_, code) => packed(...causeColour(code))) : null;
    const scale = LEVELS / (high - low);
    for (let row = 0; row < rows; row++) {
      const to = (rows - 1 - row) * columns, from = row * columns;
      for (let column = 0; column < columns; column++) {
        const value = one.values[from + column];
        if (causes) { pixels[to + column] = causes[one.codes[from + column]]; continue; }
        if (value !== value) { pixels[to + column] = missing; continue; }
        const place = (value - low) * scale;
        pixels[to + column] = shades[place < 0 ? 0 : place > LEVELS ? LEVELS : place | 0];
      }
    }
    if (!one.picture) { one.picture = document.createElement("canvas"); one.picture.width = columns; one.picture.height = rows; }
    one.picture.getContext("2d").putImageData(image, 0, 0);
    one.drawn = key;
    one.limits = limits;
    return one;
  }

  // --- drawing --------------------------------------------------------------

  const ratio = () => Math.min(2, window.devicePixelRatio || 1);

  function size() {
    // A strip needs no tall canvas.
    const tall = Math.max(180, Math.min(0.68 * window.innerHeight, canvas.clientWidth * rows / columns));
    canvas.style.height = `${Math.round(tall)}px`;
    const width = Math.max(1, Math.round(canvas.clientWidth * ratio()));
    const height = Math.max(1, Math.round(canvas.clientHeight * ratio()));
    if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
  }

  const fitting = () => Math.min(canvas.width / columns, canvas.height / rows) * 0.98;
  const scaleNow = () => state.zoom || fitting();

  let drawing = 0;
  async function draw() {
    const mine = ++drawing;
    const name = state.plane;
    const swiping = state.swipe && has("before") && has("after");
    const shown = await Promise.all((swiping ? ["before", "after"] : [name]).map(async (each) => painted(await plane(each))));
    if (mine !== drawing) return;
    size();
    const scale = scaleNow();
    const left = canvas.width / 2 - state.cx * scale;
    const top = canvas.height / 2 - (rows - state.cy) * scale;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = "#000";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.imageSmoothingEnabled = scale < 1;
    const split = Math.round(canvas.width * byId("split").value / 100);
    shown.forEach((one, i) => {
      context.save();
      if (swiping) { context.beginPath(); context.rect(i ? split : 0, 0, i ? canvas.width - split : split, canvas.height); context.clip(); }
      context.drawImage(one.picture, left, top, columns * scale, rows * scale);
      context.restore();
    });
    if (swiping) { context.fillStyle = "#fff"; context.fillRect(split - 1, 0, 2, canvas.height); }
    cross(left, top, scale);
    bar(shown[shown.length - 1]);
    const label = swiping ? "Before | After" : data.labels[name];
    byId("badge").textContent = label;
    canvas.setAttribute("aria-label", `Picture: ${label}, ${nx} by ${ny} pixels`);
    tell();
    requestAnimationFrame(() => { document.documentElement.dataset.offskyState = "ready"; });
  }

  function cross(left, top, scale) {
    const x = left + (state.x + 0.5) * scale, y = top + (rows - state.y - 0.5) * scale;
    const half = Math.max(scale / 2, 3), arm = half + 10 * ratio();
    for (const [colour, width] of [["#000", 4], ["#ffe14d", 2]]) {
      context.strokeStyle = colour;
      context.lineWidth = width;
      context.beginPath();
      for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        context.moveTo(x + dx * half, y + dy * half);
        context.lineTo(x + dx * arm, y + dy * arm);
      }
      context.stroke();
    }
  }

  function bar(one) {
    const target = byId("bar").getContext("2d");
    for (let i = 0; i < 256; i++) {
      const grey = Math.round(255 * shade(i / 255));
      target.fillStyle = `rgb(${grey},${grey},${grey})`;
      target.fillRect(i, 0, 1, 1);
    }
    byId("bar").hidden = Boolean(one.about.causes);
    byId("ends").textContent = one.about.causes
      ? "colours are told below"
      : `${short(one.limits[0])} to ${short(one.limits[1])} ${one.about.unit}; orange: no value`;
  }

  const short = (value) => Number.isNaN(value) ? "NaN" : String(Number(value.toPrecision(5)));

  async function tell() {
    const name = state.plane;
    const [one, kept] = await Promise.all([plane(name), has("kept") ? plane("kept") : null]);
    if (name !== state.plane) return;
    const i = state.y * columns + state.x;
    const value = one.values[i];
    const x = state.x * bin + 1, y = state.y * bin + 1;
    const step = stepAt(one.about.scale, one.codes[i]);
    Object.assign(readout.dataset, { plane: name, x, y, bin, value: String(value), step: String(step) });
    const parts = [`${data.labels[name]} at x ${x}, y ${y} (from 0: ${x - 1}, ${y - 1})`];
    if (bin > 1) parts.push(`mean of ${bin} x ${bin} pixels`);
    if (one.about.causes) {
      parts.push(`${short(100 * value)} % flagged`, causeWords(one.codes[i]));
    } else {
      parts.push(Number.isNaN(value) ? "NaN: no value" : `${short(value)} ${one.about.unit}, in steps of ${short(step)}`);
    }
    if (one.about.noise && name === "after" && !Number.isNaN(value)) parts.push(`${short(value / one.about.noise)} sigma`);
    else if (one.about.noise && !Number.isNaN(value)) parts.push(`${short((value - at(one.sample, 0.5)) / one.about.noise)} sigma from the median`);
    if (kept && name !== "kept") parts.push(`${short(kept.values[i])} sample${kept.values[i] === 1 ? "" : "s"} kept`);
    readout.textContent = parts.filter(Boolean).join("; ");
  }

  function causeWords(code) {
    const words = [];
    if (code & CAUSES.target) words.push("by the target");
    if (code & CAUSES.background) words.push("by backgrounds");
    if (code & CAUSES.unusable) words.push("DO_NOT_USE");
    if (code & CAUSES.uncovered) words.push("no background sample");
    return words.join(", ") || "no flag";
  }

  // --- state ----------------------------------------------------------------

  const has = (name) => name in data.planes;
  const clamp = (value, most) => Math.min(most, Math.max(0, value));

  function show(name, { keep = true } = {}) {
    if (!has(name)) return;
    state.plane = name;
    for (const button of byId("planes").children) button.setAttribute("aria-pressed", String(button.dataset.name === name));
    for (const caption of document.querySelectorAll("[data-caption]")) caption.hidden = caption.dataset.caption !== name;
    if (keep) remember();
    draw();
  }

  function remember() {
    const place = `#plane=${state.plane}&x=${state.x * bin + 1}&y=${state.y * bin + 1}`;
    if (location.hash !== place) history.replaceState(null, "", place);
  }

  function go(x, y, { centre = false } = {}) {
    state.x = clamp(x, columns - 1);
    state.y = clamp(y, rows - 1);
    if (centre && state.zoom) { state.cx = state.x + 0.5; state.cy = state.y + 0.5; }
  }

  function fromFragment() {
    const asked = new URLSearchParams(location.hash.slice(1));
    const number = (key) => { const value = Number.parseInt(asked.get(key), 10); return Number.isFinite(value) ? Math.floor((value - 1) / bin) : null; };
    const x = number("x"), y = number("y");
    if (x !== null || y !== null) go(x === null ? state.x : x, y === null ? state.y : y, { centre: true });
    const name = asked.get("plane");
    return NAMES.includes(name) && has(name) ? name : null;
  }

  function blink() { show(state.plane === "before" ? "after" : "before"); }

  function blinkAlone(on) {
    clearInterval(state.timer);
    state.timer = 0;
    if (on && still.matches) { readout.textContent = "Blinking by itself is off: this system asks for less motion. Press b to swap."; on = false; }
    if (on && has("before")) { blink(); state.timer = setInterval(blink, 1000); }
    byId("blinking").setAttribute("aria-pressed", String(Boolean(state.timer)));
  }

  function swipe(on) {
    state.swipe = on && has("before");
    byId("swipe").setAttribute("aria-pressed", String(state.swipe));
    byId("swiper").hidden = !state.swipe;
    draw();
  }

  function zoomBy(factor, x = canvas.width / 2, y = canvas.height / 2) {
    const before = scaleNow();
    const after = Math.min(64 * ratio(), Math.max(fitting() / 2, before * factor));
    const dx = (x - canvas.width / 2), dy = (y - canvas.height / 2);
    state.cx += dx / before - dx / after;
    state.cy -= dy / before - dy / after;
    state.zoom = after;
    hold();
    draw();
  }

  function hold() { state.cx = clamp(state.cx, columns); state.cy = clamp(state.cy, rows); }
  function fit() { state.zoom = 0; state.cx = columns / 2; state.cy = rows / 2; draw(); }
  function move(dx, dy) { const scale = scaleNow(); if (!state.zoom) state.zoom = scale; state.cx += dx / scale; state.cy += dy / scale; hold(); draw(); }

  function blockAt(event) {
    const box = canvas.getBoundingClientRect();
    const scale = scaleNow();
    const x = (event.clientX - box.left) * ratio(), y = (event.clientY - box.top) * ratio();
    return [Math.floor((x - canvas.width / 2) / scale + state.cx), Math.floor(state.cy - (y - canvas.height / 2) / scale), x, y];
  }

  // --- events ---------------------------------------------------------------

  const fingers = new Map();
  let dragged = false;

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
    dragged = fingers.size > 1;
  });
  canvas.addEventListener("pointermove", (event) => {
    const was = fingers.get(event.pointerId);
    if (!was) { const [x, y] = blockAt(event); if (x >= 0 && y >= 0 && x < columns && y < rows) { go(x, y); tell(); draw(); } return; }
    const now = [event.clientX, event.clientY];
    if (fingers.size === 1) {
      if (!dragged && Math.hypot(now[0] - was[0], now[1] - was[1]) < 4) return;
      dragged = true;
      move(-(now[0] - was[0]) * ratio(), (now[1] - was[1]) * ratio());
    } else {
      const other = [...fingers].find(([id]) => id !== event.pointerId)[1];
      const apart = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]);
      zoomBy(apart(now, other) / Math.max(1, apart(was, other)), ...blockAt({ clientX: (now[0] + other[0]) / 2, clientY: (now[1] + other[1]) / 2 }).slice(2));
    }
    fingers.set(event.pointerId, now);
  });
  const lift = (event) => {
    if (fingers.delete(event.pointerId) && !dragged && event.type === "pointerup") { go(...blockAt(event).slice(0, 2)); remember(); draw(); }
  };
  canvas.addEventListener("pointerup", lift);
  canvas.addEventListener("pointercancel", lift);
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const [, , x, y] = blockAt(event);
    zoomBy(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0015)), x, y);
  }, { passive: false });

  const KEYS = {
    b: blink, B: () => blinkAlone(!state.timer), s: () => swipe(!state.swipe), "+": () => zoomBy(1.5), "=": () => zoomBy(1.5),
    "-": () => zoomBy(1 / 1.5), 0: fit,
  };
  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
    const arrow = ARROWS[event.key];
    if (arrow) {
      if (document.activeElement !== canvas) return;
      if (event.shiftKey) { go(state.x + arrow[0], state.y + arrow[1], { centre: true }); remember(); draw(); } else move(arrow[0] * 60, arrow[1] * 60);
    } else if (event.key >= "1" && event.key <= "5") show(NAMES[event.key - 1]);
    else if (KEYS[event.key]) KEYS[event.key]();
    else return;
    event.preventDefault();
  });

  NAMES.forEach((name, i) => {
    if (!has(name)) return;
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.name = name;
    button.title = `Key ${i + 1}`;
    button.textContent = `${i + 1} ${data.labels[name]}`;
    button.addEventListener("click", () => show(name));
    byId("planes").append(button);
  });
  byId("blink").disabled = byId("blinking").disabled = byId("swipe").disabled = !has("before");
  byId("blink").addEventListener("click", blink);
  byId("blinking").addEventListener("click", () => blinkAlone(!state.timer));
  byId("swipe").addEventListener("click", () => swipe(!state.swipe));
  byId("in").addEventListener("click", () => zoomBy(1.5));
  byId("out").addEventListener("click", () => zoomBy(1 / 1.5));
  byId("fit").addEventListener("click", fit);
  byId("exact").addEventListener("click", () => { state.zoom = 1; state.cx = state.x + 0.5; state.cy = state.y + 0.5; draw(); });
  for (const id of ["limits", "curve", "shared"]) byId(id).addEventListener("change", draw);
  byId("split").addEventListener("input", draw);
  window.addEventListener("resize", draw);
  window.addEventListener("beforeprint", () => { for (const each of document.querySelectorAll("details")) each.open = true; });
  window.addEventListener("hashchange", () => { const name = fromFragment(); show(name || state.plane, { keep: false }); });

  for (const text of document.querySelectorAll(".copy")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copier";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      const range = document.createRange();
      range.selectNodeContents(text);
      const selection = getSelection();
      selection.removeAllRanges();
      selection.addRange(range);
      // Where the browser does not let a page copy, the text is selected at least.
      try { await navigator.clipboard.writeText(text.textContent); button.textContent = "Copied"; } catch { button.textContent = "Selected"; }
    });
    text.before(button);
  }

  if (!("DecompressionStream" in window)) {
    readout.textContent = "This browser is too old to unpack the picture; the small one below is all there is.";
    byId("captions").hidden = false;
    return;
  }
  byId("viewer").hidden = false;
  byId("static").hidden = true;
  show(fromFragment() || "after", { keep: false });
  // The others are unpacked while the reader looks.
  requestAnimationFrame(() => setTimeout(() => NAMES.filter(has).forEach((name) => plane(name)), 50));
})();
