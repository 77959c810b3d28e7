"use strict";
(() => {
const CHUNK = 40;
const byId = (id) => document.getElementById(id);
const { classes, figure_size: [figureWidth, figureHeight] } = JSON.parse(byId("data").textContent);
const collator = new Intl.Collator("en", { numeric: true });
const controls = { class: byId("class"), defect: byId("defect"), sort: byId("sort"),
  wrong: byId("wrong"), drawn: byId("drawn") };
const dialog = byId("dialog");
const list = byId("cards");
const more = byId("more");
let shown = [];
let large = -1;

// Names come from folders: they reach the page as text only, never as markup.
function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

// ---- data ---------------------------------------------------------------------------------

// Scores of different classes share no scale, their ranks within the class do. The doubt of an
// image is how far its rank leans to the other kind; it orders images that are equally misranked.
function setDoubt(images) {
  const order = images.filter((image) => image.score !== null).sort((a, b) => a.score - b.score);
  images.forEach((image) => { image.doubt = -1; });
  order.forEach((image, position) => {
    const rank = order.length > 1 ? position / (order.length - 1) : 0.5;
    image.doubt = image.label ? 1 - rank : rank;
  });
}

// Bytes of a name that are not UTF-8 are written out, as in the table.
const readable = (text) => text.replace(/[\ud800-\udfff]/gu,
  (half) => "\\u" + half.charCodeAt(0).toString(16));

const images = [];
classes.forEach((group, index) => {
  group.name = readable(group.name);
  setDoubt(group.images);
  for (const image of group.images) {
    image.path = readable(image.path);
    image.defect = readable(image.defect);
    image.group = group;
    image.index = index;
    image.wrong = image.misranked !== null && image.misranked > 0;
    image.title = [group.name, image.defect, image.path.split("/").pop()].join(" / ");
    images.push(image);
  }
});

const byName = (a, b) => collator.compare(a.group.name, b.group.name) || a.index - b.index ||
  collator.compare(a.path, b.path);
// Images that lack the number in question come last, whichever way the order goes.
const descending = (x, y) => (x === y ? 0 : x === null ? 1 : y === null ? -1 : y - x);
const ascending = (x, y) => (x === null || y === null ? descending(x, y) : x - y);
const orders = {
  worst: (a, b) => descending(a.misranked, b.misranked) || b.doubt - a.doubt || byName(a, b),
  high: (a, b) => descending(a.score, b.score) || byName(a, b),
  low: (a, b) => ascending(a.score, b.score) || byName(a, b),
  name: byName,
};

function scoreText(score) {
  if (score === null) return "\u2013";
  return Math.abs(score) >= 1e5 ? score.toFixed(0) : score.toPrecision(5);
}

function rankText(image) {
  const others = image.label ? image.group.good : image.group.defective;
  const kind = (image.label ? "good image" : "defective image") + (others === 1 ? "" : "s");
  if (image.misranked === null) return `no ${kind} to rank it against`;
  if (image.misranked === 0) {
    return `scores ${image.label ? "above" : "below"} all ${others} ${kind}`;
  }
  const beaten = Math.round(image.misranked * others * 2) / 2;
  const ties = Number.isInteger(beaten) ? "" : ", a tie counts half";
  const share = (100 * image.misranked).toFixed(image.misranked < 0.1 ? 1 : 0);
  return `scores ${image.label ? "below" : "above"} ${beaten} of ${others} ${kind} ` +
    `(${share}%${ties})`;
}

// ---- addresses ----------------------------------------------------------------------------

// A byte of a file name that is not UTF-8 arrives as U+DC80 to U+DCFF, which encodeURIComponent
// refuses; the address wants the byte itself.
function encodeSegment(segment) {
  return Array.from(segment, (character) => {
    const code = character.codePointAt(0);
    if (code >= 0xdc80 && code <= 0xdcff) return "%" + (code - 0xdc00).toString(16).toUpperCase();
    return encodeURIComponent(code >= 0xd800 && code <= 0xdfff ? "\ufffd" : character);
  }).join("");
}
const address = (path) => path.split("/").map(encodeSegment).join("/");

// ---- cards --------------------------------------------------------------------------------

function caption(image) {
  const box = make("div", "caption");
  const name = make("p", "name");
  name.append(make("span", "", image.title));
  if (image.wrong) name.append(make("span", "badge", "wrongly ranked"));
  box.append(name, make("p", "rank", `score ${scoreText(image.score)}, ${rankText(image)}`));
  return box;
}

function strip(image, lazy) {
  if (image.figure === null) return make("span", "absent", "no figure drawn");
  const picture = make("img");
  if (lazy) picture.loading = "lazy";
  picture.width = figureWidth;
  picture.height = figureHeight;
  picture.alt = lazy ? "" : `Image, ground truth, anomaly map, mask, outlines: ${image.title}`;
  picture.addEventListener("error", () => {
    picture.replaceWith(make("span", "absent", `figure not found: ${readable(image.figure)}`));
  });
  picture.src = address(image.figure);
  return picture;
}

function card(image, position) {
  const item = make("li", "card");
  const open = make("button", "open");
  open.type = "button";
  open.dataset.position = position;
  open.setAttribute("aria-label", `Enlarge ${image.title}`);
  open.append(strip(image, true));
  item.append(open, caption(image));
  return item;
}

function showMore(atLeast = list.childElementCount + CHUNK) {
  const end = Math.min(shown.length, atLeast);
  const batch = document.createDocumentFragment();
  for (let i = list.childElementCount; i < end; i += 1) batch.append(card(shown[i], i));
  list.append(batch);
  more.hidden = end >= shown.length;
}

// Cards are made as the reader nears the end of the list. Observing anew after each batch makes
// the observer report again where a batch did not fill the window.
const observer = new IntersectionObserver((entries) => {
  if (!entries.some((entry) => entry.isIntersecting)) return;
  showMore();
  observer.unobserve(more);
  if (!more.hidden) observer.observe(more);
}, { rootMargin: "1500px 0px" });

more.addEventListener("click", () => {
  const next = list.childElementCount;
  showMore();
  focusCard(next);
});

list.addEventListener("click", (event) => {
  const open = event.target.closest(".open");
  if (open) enlarge(Number(open.dataset.position));
});

// ---- choice -------------------------------------------------------------------------------

function option(select, value, text) {
  const element = make("option", "", text);
  element.value = value;
  select.append(element);
}

function ofClass() {
  const value = controls.class.value;
  return value === "" ? images : images.filter((image) => image.index === Number(value));
}

function fillDefects(wanted) {
  const kinds = new Map();
  const pool = ofClass();
  for (const image of pool) {
    if (image.label) kinds.set(image.defect, (kinds.get(image.defect) || 0) + 1);
  }
  const defective = pool.filter((image) => image.label).length;
  controls.defect.replaceChildren();
  option(controls.defect, "all", `all (${pool.length})`);
  option(controls.defect, "good", `good (${pool.length - defective})`);
  option(controls.defect, "defective", `all defective (${defective})`);
  // The prefix keeps a folder called "all" or "good" apart from the choices above.
  for (const kind of [...kinds.keys()].sort(collator.compare)) {
    option(controls.defect, `kind:${kind}`, `${kind} (${kinds.get(kind)})`);
  }
  choose(controls.defect, wanted, "all");
}

function choose(select, value, fallback) {
  const known = Array.from(select.options).some((element) => element.value === value);
  select.value = known ? value : fallback;
}

function fits(image) {
  const defect = controls.defect.value;
  if (controls.wrong.checked && !image.wrong) return false;
  if (controls.drawn.checked && image.figure === null) return false;
  if (defect === "all") return true;
  if (defect === "good") return !image.label;
  return Boolean(image.label) && (defect === "defective" || defect === `kind:${image.defect}`);
}

function update() {
  const pool = ofClass();
  shown = pool.filter(fits).sort(orders[controls.sort.value]);
  const wrong = shown.filter((image) => image.wrong).length;
  const part = shown.length === pool.length ? "" : `${shown.length} of `;
  byId("count").textContent = shown.length === 0
    ? `No image of ${pool.length} fits this choice.`
    : `${part}${pool.length} ${pool.length === 1 ? "image" : "images"}, ${wrong} wrongly ranked`;
  const mixed = controls.class.value === "" && classes.length > 1;
  byId("hint").textContent = mixed && ["high", "low"].includes(controls.sort.value)
    ? "Scores of different classes are not on one scale." : "";
  list.replaceChildren();
  observer.unobserve(more);
  showMore(CHUNK);
  if (!more.hidden) observer.observe(more);
}

// The choice is kept in the address, so that a view can be bookmarked.
function hash() {
  const state = new URLSearchParams();
  if (controls.class.value !== "") state.set("class", classes[controls.class.value].name);
  if (controls.defect.value !== "all") state.set("defect", controls.defect.value);
  if (controls.sort.value !== "worst") state.set("sort", controls.sort.value);
  if (controls.wrong.checked) state.set("wrong", "1");
  if (controls.drawn.checked) state.set("drawn", "1");
  return state.toString();
}

function saveHash() {
  const state = hash();
  try {
    history.replaceState(null, "", state ? `#${state}` : location.href.split("#")[0]);
  } catch {
    // Some browsers forbid it for local files.
    location.replace(`#${state || "class="}`);
  }
}

function loadHash() {
  const text = location.hash.slice(1);
  if (text !== "" && !text.includes("=")) return false;  // a heading of this page
  const state = new URLSearchParams(text);
  const index = classes.findIndex((group) => group.name === state.get("class"));
  controls.class.value = index < 0 ? "" : String(index);
  fillDefects(state.get("defect"));
  choose(controls.sort, state.get("sort"), "worst");
  controls.wrong.checked = state.get("wrong") === "1";
  controls.drawn.checked = state.get("drawn") === "1";
  return true;
}

function changed() {
  update();
  saveHash();
}

byId("controls").addEventListener("submit", (event) => event.preventDefault());
byId("controls").addEventListener("change", (event) => {
  if (event.target === controls.class) fillDefects(controls.defect.value);
  changed();
});
byId("controls").addEventListener("reset", (event) => {
  event.preventDefault();
  choose(controls.class, "", "");
  fillDefects("all");
  controls.sort.value = "worst";
  controls.wrong.checked = controls.drawn.checked = false;
  changed();
});
addEventListener("hashchange", () => {
  if (location.hash.slice(1) !== hash() && loadHash()) {
    large = -1;
    dialog.close();
    update();
  }
});

// ---- large view ---------------------------------------------------------------------------

function enlarge(position) {
  large = position;
  const image = shown[position];
  byId("pane").replaceChildren(strip(image, false));
  const text = caption(image);
  text.firstChild.id = "large-name";
  text.append(make("p", "rank", `${image.group.name}/${image.path}`));
  byId("large-caption").replaceChildren(...text.childNodes);
  byId("position").textContent = `${position + 1} of ${shown.length}`;
  byId("previous").setAttribute("aria-disabled", String(position === 0));
  byId("next").setAttribute("aria-disabled", String(position === shown.length - 1));
  byId("file").hidden = image.figure === null;
  if (image.figure !== null) byId("file").href = address(image.figure);
  if (!dialog.open) dialog.showModal();
}

function stepLarge(by) {
  if (shown[large + by]) enlarge(large + by);
}

byId("previous").addEventListener("click", () => stepLarge(-1));
byId("next").addEventListener("click", () => stepLarge(1));
byId("close").addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
dialog.addEventListener("close", () => {
  byId("pane").replaceChildren();
  focusCard(large);
});

// ---- keys ---------------------------------------------------------------------------------

function focusCard(position) {
  if (!shown[position]) return;
  showMore(Math.max(position + 1, list.childElementCount));
  const item = list.children[position];
  item.firstChild.focus({ preventScroll: true });
  item.scrollIntoView({ block: "nearest" });
}

function stepCard(by) {
  const focused = document.activeElement.closest(".card");
  if (focused) {
    focusCard(Array.prototype.indexOf.call(list.children, focused) + by);
    return;
  }
  // Without a focused card start from what the reader sees.
  const items = Array.from(list.children);
  const visible = items.findIndex((item) => item.getBoundingClientRect().top >= 0);
  focusCard(visible < 0 ? items.length - 1 : visible);
}

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) {
    return;
  }
  const by = { ArrowRight: 1, j: 1, ArrowLeft: -1, k: -1 }[event.key];
  if (!by) return;
  if (dialog.open) {
    stepLarge(by);
  } else if (event.target.closest("input, select, textarea, .scroll")) {
    return;  // the keys belong to the control or to the table, which scrolls sideways
  } else {
    stepCard(by);
  }
  event.preventDefault();
});

// ---- table --------------------------------------------------------------------------------

function makeSortable(table) {
  const body = table.tBodies[0];
  const heads = Array.from(table.tHead.rows[0].cells);
  const original = Array.from(body.rows);
  const value = (row, column) => {
    const cell = row.cells[column];
    if (column === 0) return cell.textContent;
    return cell.dataset.value === undefined ? null : Number(cell.dataset.value);
  };
  heads.forEach((head, column) => {
    const button = make("button");
    button.type = "button";
    button.append(...head.querySelector(".label").childNodes);
    head.querySelector(".label").replaceWith(button);
    button.addEventListener("click", () => {
      const next = { ascending: "descending", descending: "" }[head.getAttribute("aria-sort")];
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      const direction = next === undefined ? "ascending" : next;
      const rows = original.slice();
      if (direction) {
        head.setAttribute("aria-sort", direction);
        const numbers = direction === "ascending" ? ascending : descending;
        const sign = direction === "ascending" ? 1 : -1;
        rows.sort((a, b) => (column === 0
          ? sign * collator.compare(value(a, 0), value(b, 0))
          : numbers(value(a, column), value(b, column))));
      }
      body.append(...rows);
    });
  });
}

function linkClasses(table) {
  for (const cell of table.querySelectorAll("[data-class]")) {
    const button = make("button", "", cell.textContent);
    button.type = "button";
    button.title = `Show the figures of ${cell.textContent}`;
    cell.replaceChildren(button);
    button.addEventListener("click", () => {
      controls.class.value = cell.dataset.class;
      fillDefects(controls.defect.value);
      changed();
      byId("figures").focus({ preventScroll: true });
      byId("figures").scrollIntoView();
    });
  }
}

// ---- start --------------------------------------------------------------------------------

option(controls.class, "", `all (${images.length})`);
classes.forEach((group, index) => {
  option(controls.class, String(index), `${group.name} (${group.images.length})`);
});
byId("drawn-label").hidden = images.every((image) => image.figure !== null);
byId("viewer").hidden = false;
if (!loadHash()) fillDefects("all");
update();
makeSortable(byId("table"));
linkClasses(byId("table"));
})();
