"use strict";

const token = document.body.dataset.token;

function toast(text) {
  const box = document.getElementById("toast");
  box.textContent = text;
  box.classList.add("shown");
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => box.classList.remove("shown"), 2500);
}

/* --- new events ---------------------------------------------------------------- */

if (document.body.dataset.stream) {
  const stream = new EventSource(document.body.dataset.stream);
  stream.addEventListener("new", (message) => {
    const event = JSON.parse(message.data);
    const link = document.getElementById("banner-link");
    link.textContent = event.text;
    link.href = `/events/${encodeURIComponent(event.id)}`;
    document.getElementById("banner").hidden = false;
  });
  window.addEventListener("pagehide", () => stream.close());
}

/* --- cameras ------------------------------------------------------------------- */

const PERIOD_MS = 500;
const MIN_SCORE = 0.3;
const cameras = document.getElementById("cameras");

function color(id) {
  return id < 0 ? "#c8c8c8" : `hsl(${(id * 137.508) % 360} 85% 65%)`;
}

function draw(canvas, camera, edges, isClear = false) {
  const [width, height] = camera.size || [640, 360];
  const scale = Math.min(1, 960 / Math.max(width, height)) || 1;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const pen = canvas.getContext("2d");
  if (!isClear) {
    pen.fillStyle = "#000";
    pen.fillRect(0, 0, canvas.width, canvas.height);
  }
  if (camera.state !== "streaming") {
    pen.fillStyle = "#8a97a6";
    pen.font = `${Math.round(canvas.height / 12)}px sans-serif`;
    pen.textAlign = "center";
    pen.fillText(camera.state_name, canvas.width / 2, canvas.height / 2);
  }
  pen.lineCap = "round";
  pen.lineWidth = Math.max(2, canvas.height / 120);
  for (const person of camera.people) {
    pen.strokeStyle = pen.fillStyle = color(person.id);
    for (const [from, to] of edges) {
      const [a, b] = [person.points[from], person.points[to]];
      if (a[2] < MIN_SCORE || b[2] < MIN_SCORE) continue;
      pen.beginPath();
      pen.moveTo(a[0] * scale, a[1] * scale);
      pen.lineTo(b[0] * scale, b[1] * scale);
      pen.stroke();
    }
    for (const [x, y, score] of person.points) {
      if (score < MIN_SCORE) continue;
      pen.beginPath();
      pen.arc(x * scale, y * scale, pen.lineWidth, 0, 2 * Math.PI);
      pen.fill();
    }
  }
}

function show(card, camera, edges) {
  const field = (name) => card.querySelector(`[data-field="${name}"]`);
  const state = field("state");
  state.textContent = camera.state_name;
  state.className = `badge state-${camera.state}`;
  field("fps").textContent = camera.fps.toFixed(1);
  field("people").textContent = camera.state === "streaming" ? camera.people.length : "–";
  field("drops").textContent = camera.drops;
  field("reconnects").textContent = camera.reconnects;
  field("age").textContent = camera.age_s === null
    ? cameras.dataset.never
    : cameras.dataset.ago.replace("{seconds}", camera.age_s);
  const error = camera.last_error;
  field("last_error").textContent = error ? error.text : "";
  field("error_message").textContent = error ? error.message : "";
  card.querySelector(".last-error").hidden = !error;
  draw(card.querySelector("canvas"), camera, edges);
}

async function refresh(cards, edges) {
  if (!document.hidden) {
    let reached = false;
    try {
      const answer = await fetch("/api/cameras", { headers: { Accept: "application/json" } });
      if (answer.status === 401) location.reload();
      reached = answer.ok;
      if (reached) {
        for (const camera of await answer.json()) {
          if (cards.has(camera.name)) show(cards.get(camera.name), camera, edges);
        }
      }
    } catch (error) {
      reached = false;
    }
    document.getElementById("no-answer").hidden = reached;
  }
  setTimeout(refresh, PERIOD_MS, cards, edges);
}

if (cameras && cameras.children.length) {
  const cards = new Map();
  for (const card of cameras.children) cards.set(card.dataset.camera, card);
  refresh(cards, cameras.dataset.edges.split(" ").map((edge) => edge.split(",").map(Number)));
}

/* --- reviews by key ------------------------------------------------------------- */

const VERDICTS = { c: "confirmed", f: "false_alarm", u: "unsure" };
const rows = [...document.querySelectorAll("main > .scroll .events tbody tr")];
const single = document.getElementById("event");
let selected = -1;

function select(index) {
  if (index < 0 || index >= rows.length) return;
  if (selected >= 0) rows[selected].classList.remove("selected");
  selected = index;
  rows[index].classList.add("selected");
  rows[index].scrollIntoView({ block: "nearest" });
}

async function showDecisions() {
  const answer = await fetch(location.href);
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  document.getElementById("decisions").replaceWith(page.getElementById("decisions"));
}

async function review(place, verdict) {
  const fields = new URLSearchParams({ verdict });
  const note = document.querySelector(".review input[name=note]");
  if (note && note.value) fields.set("note", note.value);
  try {
    const answer = await fetch(`/events/${encodeURIComponent(place.dataset.event)}/review`, {
      method: "POST",
      body: fields,
      headers: { Accept: "application/json", "X-CSRF-Token": token },
    });
    if (!answer.ok) throw new Error(answer.status);
    const done = await answer.json();
    const badge = place.querySelector("[data-verdict]");
    badge.textContent = done.name;
    badge.className = `badge verdict-${done.verdict}`;
    toast(`${document.body.dataset.saved}: ${done.name}`);
    if (single) showDecisions().catch(console.warn); // saved all the same
  } catch (error) {
    toast(document.body.dataset.notSaved);
  }
}

function move(step) {
  if (single) {
    const link = document.getElementById(step > 0 ? "older" : "newer");
    if (link) link.click();
  } else if (rows.length) {
    select(selected < 0 ? 0 : selected + step);
  }
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (/^(INPUT|SELECT|TEXTAREA|VIDEO)$/.test(event.target.tagName)) return;
  const place = single || rows[selected];
  if (event.key === "j" || event.key === "k") {
    move(event.key === "j" ? 1 : -1);
  } else if (event.key === "Enter" && !single && place && event.target === document.body) {
    place.querySelector("a").click();
  } else if (VERDICTS[event.key] && place && (document.querySelector(".review") || !single)) {
    review(place, VERDICTS[event.key]);
  } else {
    return;
  }
  event.preventDefault();
});

for (const row of document.querySelectorAll(".events tbody tr")) {
  row.addEventListener("click", (event) => {
    if (event.target.tagName !== "A" && !getSelection().toString()) row.querySelector("a").click();
  });
}
