"use strict";

/* Draw zones on a camera's picture. Corners are fractions of its width and height. */

(() => {
  const root = document.getElementById("zones");
  if (!root) return;
  const SVG = "http://www.w3.org/2000/svg";
  const WIDTH = 1000; // of the drawing, whose height follows the picture's
  const PERIOD_MS = 1000;
  const STEP = 0.01, FAR = 0.05, OFFSET = 0.1;
  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const id = (name) => document.getElementById(name);
  const stage = id("stage"), drawing = id("drawing"), form = id("zone-form");
  const canvas = stage.querySelector("canvas"), still = id("still");
  const fields = form.elements;
  const edges = root.dataset.edges.split(" ").map((edge) => edge.split(",").map(Number));
  const zones = [...document.querySelectorAll("[data-zone]")];
  let size = [Number(root.dataset.width), Number(root.dataset.height)];
  let corners = [], closed = false, current = -1;

  /* --- the drawing --------------------------------------------------------------- */

  function make(name, parent, attributes) {
    const node = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    parent.append(node);
    return node;
  }

  const height = () => (WIDTH * size[1]) / size[0];
  const pixel = () => WIDTH / (stage.clientWidth || WIDTH);
  const place = ([x, y]) => [x * WIDTH, y * height()];
  const points = (list) => list.map((corner) => place(corner).join(",")).join(" ");
  const saved = make("g", drawing, {});
  const outline = make("polyline", drawing, { class: "draft" });
  const handles = make("g", drawing, {});

  function drawSaved() {
    saved.replaceChildren();
    for (const zone of zones) {
      if (zone.dataset.zone && zone.dataset.zone === fields.zone.value) continue;
      const list = JSON.parse(zone.dataset.polygon);
      make("polygon", saved, { points: points(list), class: `kind-${zone.dataset.kind}` });
      const [x, y] = place([0, 1].map((k) => list.reduce((sum, c) => sum + c[k], 0) / list.length));
      const label = make("text", saved, { x, y, "text-anchor": "middle", "font-size": 14 * pixel() });
      label.textContent = zone.dataset.name;
    }
  }

  function render() {
    drawing.setAttribute("viewBox", `0 0 ${WIDTH} ${height()}`);
    stage.style.aspectRatio = `${size[0]} / ${size[1]}`;
    drawSaved();
    const ring = closed ? [...corners, ...corners.slice(0, 1)] : corners;
    outline.setAttribute("points", points(ring));
    outline.setAttribute("class", `draft kind-${fields.kind.value}${closed ? " closed" : ""}`);
    while (handles.children.length > corners.length) handles.lastChild.remove();
    while (handles.children.length < corners.length) addHandle();
    corners.forEach((corner, index) => {
      const [x, y] = place(corner);
      const handle = handles.children[index];
      handle.setAttribute("aria-label", root.dataset.corner.replace("{number}", index + 1));
      handle.setAttribute("class", index === current ? "corner current" : "corner");
      [20, 7].forEach((radius, k) => {
        handle.children[k].setAttribute("cx", x);
        handle.children[k].setAttribute("cy", y);
        handle.children[k].setAttribute("r", radius * pixel());
      });
    });
    fields.polygon.value = JSON.stringify(corners);
    const text = closed ? root.dataset.closed : root.dataset.open;
    id("zone-state").textContent = corners.length ? text.replace("{count}", corners.length) : "";
    id("close-zone").disabled = closed || corners.length < 3;
    id("remove-corner").disabled = !corners.length;
    const kind = fields.kind.selectedOptions[0];
    id("kind-note").textContent = kind ? kind.dataset.note : "";
    id("form-title").textContent = fields.zone.value ? root.dataset.changed : root.dataset.new;
  }

  function addHandle() {
    const handle = make("g", handles, { tabindex: 0, role: "button" });
    make("circle", handle, { class: "reach" });
    make("circle", handle, { class: "dot" });
    handle.addEventListener("focus", () => {
      current = indexOf(handle);
      render();
    });
    handle.addEventListener("pointerdown", (event) => drag(handle, event));
  }

  const indexOf = (handle) => [...handles.children].indexOf(handle);

  /* --- changes --------------------------------------------------------------------- */

  const bounded = (value) => Math.round(Math.min(1, Math.max(0, value)) * 10000) / 10000;

  function under(event) {
    const box = stage.getBoundingClientRect();
    return [
      bounded((event.clientX - box.left) / box.width),
      bounded((event.clientY - box.top) / box.height),
    ];
  }

  function choose(index) {
    current = Math.max(-1, Math.min(index, corners.length - 1));
    render();
    if (current >= 0) handles.children[current].focus({ preventScroll: true });
    else stage.focus({ preventScroll: true });
  }

  function addCorner() {
    if (!corners.length) corners.push([0.4, 0.4]);
    else if (closed) {
      const from = Math.max(current, 0);
      const [a, b] = [corners[from], corners[(from + 1) % corners.length]];
      corners.splice(from + 1, 0, [bounded((a[0] + b[0]) / 2), bounded((a[1] + b[1]) / 2)]);
      choose(from + 1);
      return;
    } else {
      const [x, y] = corners[corners.length - 1];
      corners.push([bounded(x + OFFSET > 1 ? x - OFFSET : x + OFFSET), y]);
    }
    choose(corners.length - 1);
  }

  function removeCorner() {
    corners.splice(current < 0 ? corners.length - 1 : current, 1);
    if (corners.length < 3) closed = false;
    choose(Math.min(Math.max(current, 0), corners.length - 1));
  }

  function close() {
    if (corners.length < 3) return;
    closed = true;
    render();
    fields.name.focus();
  }

  function load(zone) {
    fields.zone.value = zone ? zone.dataset.zone : "";
    fields.name.value = zone ? zone.dataset.name : "";
    fields.kind.value = zone ? zone.dataset.kind : "include";
    corners = zone ? JSON.parse(zone.dataset.polygon) : [];
    closed = corners.length > 0;
    for (const one of zones) one.classList.toggle("selected", one === zone);
    choose(zone ? 0 : -1);
  }

  function drag(handle, down) {
    if (down.button) return;
    down.preventDefault();
    handle.focus({ preventScroll: true });
    let moved = false;
    const index = indexOf(handle);
    const start = [down.clientX, down.clientY];
    const move = (event) => {
      moved ||= Math.hypot(event.clientX - start[0], event.clientY - start[1]) > 3;
      if (!moved) return;
      corners[index] = under(event);
      render();
    };
    const end = (event) => {
      handle.removeEventListener("pointermove", move);
      handle.removeEventListener("pointerup", end);
      handle.removeEventListener("pointercancel", end);
      if (event.type === "pointerup" && !moved && index === 0 && !closed) close();
    };
    handle.setPointerCapture(down.pointerId);
    handle.addEventListener("pointermove", move);
    handle.addEventListener("pointerup", end);
    handle.addEventListener("pointercancel", end);
  }

  stage.addEventListener("click", (event) => {
    if (closed || event.target.closest(".corner")) return;
    corners.push(under(event));
    choose(corners.length - 1);
  });

  stage.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const arrow = ARROWS[event.key];
    if (arrow && current >= 0) {
      const step = event.shiftKey ? FAR : STEP;
      corners[current] = corners[current].map((value, k) => bounded(value + step * arrow[k]));
      render();
    } else if (event.key === " " || event.key === "Insert") addCorner();
    else if (event.key === "Enter") close();
    else if (event.key === "Escape") load(null);
    else if ((event.key === "Delete" || event.key === "Backspace") && corners.length) removeCorner();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });

  id("add-corner").addEventListener("click", addCorner);
  id("remove-corner").addEventListener("click", removeCorner);
  id("close-zone").addEventListener("click", close);
  id("cancel-zone").addEventListener("click", () => load(null));
  fields.kind.addEventListener("change", render);
  for (const zone of zones) {
    const edit = zone.querySelector("[data-edit]");
    if (!edit) continue;
    edit.addEventListener("click", () => {
      load(zone);
      stage.scrollIntoView({ block: "nearest" });
    });
  }
  for (const one of document.querySelectorAll("form[data-confirm]")) {
    one.addEventListener("submit", (event) => {
      if (!confirm(one.dataset.confirm)) event.preventDefault();
    });
  }

  /* --- the picture ------------------------------------------------------------------- */

  if (still) still.addEventListener("error", () => still.remove());

  async function refresh() {
    if (!document.hidden) {
      let all = null;
      try {
        const answer = await fetch("/api/cameras", { headers: { Accept: "application/json" } });
        all = answer.ok ? await answer.json() : null;
      } catch (error) {
        all = null;
      }
      id("no-answer").hidden = all !== null;
      const camera = (all || []).find((one) => one.name === root.dataset.camera);
      if (camera) show(camera);
    }
    setTimeout(refresh, PERIOD_MS);
  }

  function show(camera) {
    draw(canvas, camera, edges, still !== null && still.isConnected);
    if (camera.size && String(camera.size) !== String(size)) {
      size = camera.size;
      render();
    }
  }

  try {
    corners = JSON.parse(fields.polygon.value).filter((c) => c.length === 2 && c.every(isFinite));
  } catch (error) {
    corners = [];
  }
  closed = corners.length >= 3;
  new ResizeObserver(render).observe(stage);
  render();
  refresh();
})();
