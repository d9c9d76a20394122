"use strict";
(() => {
  // Node number -> [name, file and line, number of the source line].
  const origins = JSON.parse(document.getElementById("origins").textContent);
  const inspector = document.getElementById("inspector");
  const byOrigin = new Map(); // everything of a node, in every column
  const bySource = new Map(); // source line -> its nodes
  const sourceLines = new Map(); // source line -> its element
  let marked = []; // [element, class] of what is marked now
  let shown = ""; // what they are for
  let held = false;
  const current = new Map(); // column -> the line that the keyboard is at

  const numbers = (element) => (element.dataset.o || "").split(" ").filter(Boolean).map(Number);

  for (const element of document.querySelectorAll("[data-o]")) {
    for (const number of numbers(element)) {
      const known = byOrigin.get(number);
      if (known) known.push(element); else byOrigin.set(number, [element]);
    }
  }
  origins.forEach(([, , line], number) => {
    if (line < 0) return;
    const known = bySource.get(line);
    if (known) known.push(number); else bySource.set(line, [number]);
  });
  for (const element of document.querySelectorAll("[data-s]")) {
    sourceLines.set(Number(element.dataset.s), element);
  }

  function mark(element, name) {
    element.classList.add(name);
    marked.push([element, name]);
  }

  function clear() {
    for (const [element, name] of marked) element.classList.remove(name);
    marked = [];
    shown = "";
    tell([]);
  }

  function tell(nodes, value) {
    inspector.replaceChildren();
    const add = (tag, text, name) => {
      const element = document.createElement(tag);
      element.textContent = text;
      if (name) element.className = name;
      inspector.append(element);
    };
    if (!nodes.length && !value) { add("span", "Nothing is selected", "what"); return; }
    if (value) add("b", value);
    const [node, place, line] = origins[nodes[0]] || ["", "", -1];
    const others = nodes.length > 1 ? ` and ${nodes.length - 1} more` : "";
    if (node) add("span", `of ${node}${others}`);
    if (place) add("span", place, "what");
    const source = sourceLines.get(line);
    if (source) add("span", source.textContent.trim());
    if (held) add("span", "held: Esc lets go", "held");
  }

  // Marks all that belongs to what is pointed at: the same value in its column, its nodes and their
  // source lines everywhere.
  function show(target) {
    const value = target.closest("[data-v]");
    const place = target.closest("[data-o], [data-s]");
    if (!place) return;
    const column = target.closest(".column");
    const own = value || place;
    const nodes = place.dataset.s ? bySource.get(Number(place.dataset.s)) || [] : numbers(own);
    const name = `${column ? column.dataset.stage : ""}|${value ? value.dataset.v : ""}|${nodes}`;
    if (name === shown) return;
    clear();
    shown = name;
    for (const number of nodes) {
      for (const element of byOrigin.get(number) || []) mark(element, "kin");
      const source = sourceLines.get(origins[number][2]);
      if (source) mark(source, "kin");
    }
    if (value && column) {
      for (const same of column.querySelectorAll(`[data-v="${value.dataset.v}"]`)) mark(same, "same");
    }
    tell(nodes, value && value.textContent);
  }

  // Brings the first mark of every other open column into its middle.
  function reveal(from) {
    const own = from.closest(".column");
    for (const column of document.querySelectorAll(".column:not(.folded)")) {
      const line = column !== own && column.querySelector(".l.kin");
      if (line) centre(column.querySelector(".code"), line);
    }
  }

  function centre(box, line) {
    const [outer, inner] = [box.getBoundingClientRect(), line.getBoundingClientRect()];
    if (inner.top >= outer.top && inner.bottom <= outer.bottom) return;
    box.scrollTop += inner.top - outer.top - (outer.height - inner.height) / 2;
  }

  function hold(target) {
    held = false;
    shown = "";
    show(target);
    held = marked.length > 0;
    if (!held) return;
    reveal(target);
    const note = document.createElement("span");
    note.className = "held";
    note.textContent = "held: Esc lets go";
    inspector.append(note);
  }

  function release() {
    held = false;
    clear();
  }

  function fold(button) {
    const column = button.closest(".column");
    const folded = column.classList.toggle("folded");
    button.setAttribute("aria-expanded", String(!folded));
  }

  function walk(box, by) {
    const lines = box.querySelectorAll(".l");
    if (!lines.length) return;
    const old = current.has(box) ? current.get(box) : by > 0 ? -1 : lines.length;
    const place = Math.min(Math.max(old + by, 0), lines.length - 1);
    if (lines[old]) lines[old].classList.remove("here");
    lines[place].classList.add("here");
    current.set(box, place);
    centre(box, lines[place]);
    if (!held) { clear(); show(lines[place]); }
  }

  // A program begins where it makes its first node, not with its imports.
  const first = sourceLines.values().next().value;
  if (first) {
    const box = first.closest(".code");
    box.scrollTop += first.getBoundingClientRect().top - box.getBoundingClientRect().top
      - 4 * first.offsetHeight;
  }

  document.addEventListener("mouseover", (event) => {
    if (held) return;
    if (event.target.closest("[data-o], [data-s]")) show(event.target); else clear();
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest(".column h3 button");
    if (button) { fold(button); return; }
    if (event.target.closest("summary, a, button")) return;
    if (!event.target.closest("[data-o], [data-s]")) { release(); return; }
    if (String(window.getSelection()) === "") hold(event.target);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { release(); return; }
    const box = event.target.closest(".code");
    if (!box) return;
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 20, PageUp: -20 }[event.key];
    if (step) {
      walk(box, step);
      event.preventDefault();
    } else if (event.key === "Enter" && current.has(box)) {
      hold(box.querySelectorAll(".l")[current.get(box)]);
    }
  });
})();
