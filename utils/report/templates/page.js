"use strict";
// The script of every page. Names come from folders: they reach a page as text, never as markup.
(() => {
const CHUNK = 12;  // cards that are made at once
const BARS = 60;
const DASH = "\u2013";
const byId = (id) => document.getElementById(id);
const all = (selector, root = document) => Array.from(root.querySelectorAll(selector));
const collator = new Intl.Collator("en", { numeric: true });

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

// A name that may be broken behind its separators.
function makeName(tag, className, text) {
  const element = make(tag, className);
  text.split(/(?<=[/_])/).forEach((piece, i) => element.append(...(i ? [make("wbr"), piece] : [piece])));
  return element;
}

function makeSvg(tag, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

// Bytes of a name that are not UTF-8 are written out, as in the tables.
const readable = (text) => text.replace(/[\ud800-\udfff]/gu,
  (half) => "\\u" + half.charCodeAt(0).toString(16));

// Such a byte is U+DC80 to U+DCFF here, which encodeURIComponent refuses; an address wants the byte.
function encodeSegment(segment) {
  return Array.from(segment, (character) => {
    const code = character.codePointAt(0);
    if (code >= 0xdc80 && code <= 0xdcff) return "%" + (code - 0xdc00).toString(16).toUpperCase();
    return encodeURIComponent(code >= 0xd800 && code <= 0xdfff ? "\ufffd" : character);
  }).join("");
}
const fileUrl = (path) => path.split("/").map(encodeSegment).join("/");

function plural(count, one, many = `${one}s`) {
  return `${count} ${count === 1 ? one : many}`;
}

// ---- the address: what is shown is kept in it, so that Back, reload and a link restore it --------

const address = {
  timer: 0,
  pending: null,
  read: () => new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : ""),
  href: (text) => (text ? `#${text}` : location.href.split("#")[0]),

  push(text, mark = null) {
    address.flush();
    if (location.hash.slice(1) === text) return;
    try {
      history.pushState(mark, "", address.href(text));
    } catch {
      location.hash = text;  // some browsers forbid the other for local files
    }
  },

  replace(text, mark = history.state) {
    clearTimeout(address.timer);
    address.pending = null;
    try {
      history.replaceState(mark, "", address.href(text));
    } catch {
      location.replace(`#${text || "show="}`);
    }
  },

  // Browsers count the changes of an address: while a key repeats, only the last one is written.
  replaceSoon(text) {
    clearTimeout(address.timer);
    address.pending = text;
    address.timer = setTimeout(address.flush, 300);
  },

  flush() {
    if (address.pending !== null) address.replace(address.pending);
  },

  // Calls back when the address was changed by Back, Forward or the reader.
  follow(callback) {
    addEventListener("popstate", () => {
      clearTimeout(address.timer);
      address.pending = null;
      callback();
    });
  },
};

// ---- one Tab stop for many: arrow keys move inside ------------------------------------------------

function rove(items, previousKey, nextKey) {
  items.forEach((item, index) => {
    item.tabIndex = index ? -1 : 0;
    item.addEventListener("focus", () => {
      for (const other of items) other.tabIndex = -1;
      item.tabIndex = 0;
    });
    item.addEventListener("keydown", (event) => {
      const step = { [previousKey]: -1, [nextKey]: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const visible = items.filter((other) => other.isConnected);
      visible.sort((a, b) => (a.compareDocumentPosition(b) & 4 ? -1 : 1));
      const next = visible[visible.indexOf(item) + step];
      if (next) next.focus();
    });
  });
}

// ---- tables -------------------------------------------------------------------------------------

// What lacks the number in question comes last, whichever way the order goes.
const descending = (x, y) => (x === y ? 0 : x === null ? 1 : y === null ? -1 : y - x);
const ascending = (x, y) => (x === null || y === null ? descending(x, y) : x - y);

function cellValue(row, column) {
  const cell = row.cells[column];
  if (column === 0) return cell.textContent;
  return cell.dataset.value === undefined ? null : Number(cell.dataset.value);
}

function compareRows(column, direction) {
  if (column === 0) {
    const sign = direction === "ascending" ? 1 : -1;
    return (a, b) => sign * collator.compare(cellValue(a, 0), cellValue(b, 0));
  }
  const numbers = direction === "ascending" ? ascending : descending;
  return (a, b) => numbers(cellValue(a, column), cellValue(b, column));
}

function sortTable(heads, column, body, original) {
  const next = { ascending: "descending", descending: "" }[heads[column].getAttribute("aria-sort")];
  const direction = next === undefined ? "ascending" : next;
  for (const head of heads) head.removeAttribute("aria-sort");
  const rows = original.slice();
  if (direction) {
    heads[column].setAttribute("aria-sort", direction);
    rows.sort(compareRows(column, direction));
  }
  body.append(...rows);
}

function makeSortable(table) {
  const body = table.tBodies[0];
  const heads = Array.from(table.tHead.rows[0].cells);
  const original = Array.from(body.rows);
  const buttons = heads.map((head, column) => {
    const button = make("button");
    button.type = "button";
    const label = head.querySelector(".label");
    button.append(...makeName("span", "", label.textContent).childNodes);
    label.replaceChildren(button);
    button.addEventListener("click", () => sortTable(heads, column, body, original));
    return button;
  });
  rove(buttons, "ArrowLeft", "ArrowRight");
}

// A table that is cut says so: a shade at the edge, and a line below.
function markScroll(region) {
  const frame = region.parentElement;
  const hint = make("p", "scroll-hint", "The table goes on: scroll it sideways.");
  hint.hidden = true;
  frame.append(hint);
  function update() {
    const rest = region.scrollWidth - region.clientWidth;
    frame.classList.toggle("scrolls", rest > 1);
    frame.classList.toggle("more-left", rest > 1 && region.scrollLeft > 1);
    frame.classList.toggle("more-right", rest > 1 && region.scrollLeft < rest - 1);
    hint.hidden = rest <= 1;
    const first = region.querySelector("th");
    if (first) frame.style.setProperty("--first", `${first.offsetWidth}px`);
  }
  region.addEventListener("scroll", update, { passive: true });
  new ResizeObserver(update).observe(region);
  update();
}

function startTables() {
  for (const region of all(".scroll")) {
    const table = region.querySelector("table.sortable");
    if (table) {
      makeSortable(table);
      region.removeAttribute("tabindex");  // its buttons scroll it
    }
    markScroll(region);
  }
}

// ---- the gallery: data --------------------------------------------------------------------------

// Scores of different classes share no scale, their ranks within the class do. The doubt of an
// image is how far its rank leans to the other kind; it orders images that are equally misranked.
function setDoubt(images) {
  const order = images.slice().sort((a, b) => a.score - b.score);
  order.forEach((image, position) => {
    const rank = order.length > 1 ? position / (order.length - 1) : 0.5;
    image.doubt = image.label === 1 ? 1 - rank : rank;
  });
}

function readGallery(data) {
  const images = [];
  data.classes.forEach((group, index) => {
    group.name = readable(group.name);
    group.index = index;
    group.good = group.images.filter((image) => image.label === 0).length;
    group.defective = group.images.filter((image) => image.label === 1).length;
    if (!(group.threshold > 0)) group.threshold = null;
    setDoubt(group.images);
    for (const image of group.images) {
      image.group = group;
      image.path = readable(image.path);
      image.defect = readable(image.defect);
      image.isLabelled = image.label !== null;
      image.title = image.isLabelled
        ? [group.name, image.defect, image.path.split("/").pop()].join(" / ") : image.path;
      image.id = image.isLabelled ? `${group.name}/${image.path}` : image.path;
      image.searched = `${group.name}/${image.path}`.toLowerCase();
      images.push(image);
    }
  });
  images.slice().sort((a, b) => a.group.index - b.group.index || collator.compare(a.path, b.path))
    .forEach((image, position) => { image.byName = position; });
  images.forEach((image, position) => { image.given = position; });
  return images;
}

// ---- the gallery: decisions at the threshold, times the factor that is explored -------------------

const START = { class: "", show: "all", defect: "all", sort: "worst", name: "", factor: 1,
  drawn: false, plain: false, image: "" };

function limitOf(group, factor) {
  return factor === 1 ? group.threshold : group.threshold * factor;
}

function isFlagged(image, factor) {
  return image.group.threshold === null ? null : image.score > limitOf(image.group, factor);
}

function mistakeOf(image, factor) {
  const flagged = isFlagged(image, factor);
  if (flagged === null || !image.isLabelled) return "";
  if (image.label === 1) return flagged ? "" : "missed";
  return flagged ? "false" : "";
}

// The kinds of an image that the choice "show" goes by.
function fitsShow(image, show, factor) {
  if (show === "all") return true;
  if (show === "misranked") return image.misranked > 0;
  if (show === "defective") return isFlagged(image, factor) === true;
  if (show === "normal") return isFlagged(image, factor) === false;
  return mistakeOf(image, factor) === show;
}

function fitsDefect(image, defect) {
  if (defect === "all") return true;
  if (defect === "good") return image.label === 0;
  return image.label === 1 && (defect === "defective" || defect === `kind:${image.defect}`);
}

// How far an image is on the wrong side of the threshold, as a factor; below 1 it is right.
function wrongBy(image) {
  if (image.group.threshold === null || !image.isLabelled) return 0;
  const ratio = image.score / image.group.threshold;
  return image.label === 1 ? 1 / ratio : ratio;
}

function worstFirst(factor) {
  const isWrong = (image) => (mistakeOf(image, factor) ? 1 : 0);
  return (a, b) => {
    if (!a.isLabelled) return a.given - b.given;
    const wrong = isWrong(b) - isWrong(a);
    if (wrong) return wrong;
    if (isWrong(a)) return wrongBy(b) - wrongBy(a) || a.byName - b.byName;
    return descending(a.misranked, b.misranked) || b.doubt - a.doubt || a.byName - b.byName;
  };
}

function orderOf(state) {
  const byName = (a, b) => a.byName - b.byName;
  return {
    worst: worstFirst(state.factor),
    high: (a, b) => b.score - a.score || byName(a, b),
    low: (a, b) => a.score - b.score || byName(a, b),
    name: byName,
  }[state.sort];
}

function scoreText(score) {
  return Math.abs(score) >= 1e5 ? score.toFixed(0) : String(Number(score.toPrecision(4)));
}

function rankText(image) {
  if (!image.isLabelled) return "";
  const others = image.label ? image.group.good : image.group.defective;
  const kind = (image.label ? "good image" : "defective image") + (others === 1 ? "" : "s");
  if (image.misranked === null) return `no ${kind} to rank it against`;
  if (image.misranked === 0) {
    return `scores ${image.label ? "above" : "below"} all ${others} ${kind}`;
  }
  const beaten = Math.round(image.misranked * others * 2) / 2;
  const ties = Number.isInteger(beaten) ? "" : ", a tie counts half";
  return `scores ${image.label ? "below" : "above"} ${beaten} of ${others} ${kind}${ties}`;
}

function decisionText(image, factor) {
  return { true: "defective", false: "normal", null: "" }[isFlagged(image, factor)];
}

// ---- the gallery: histograms --------------------------------------------------------------------

// In units of the threshold if there is one: a scale that classes share.
function position(image) {
  return image.group.threshold === null ? image.score : image.score / image.group.threshold;
}

// From just below the lowest score to well above the threshold; what is higher is in the last bar.
function rangeOf(images) {
  let low = Infinity;
  let high = -Infinity;
  let highestGood = 0;
  for (const image of images) {
    const x = position(image);
    low = Math.min(low, x);
    high = Math.max(high, x);
    if (image.label === 0) highestGood = Math.max(highestGood, x);
  }
  if (!images.length) return { low: 0, high: 1, isCut: false };
  const hasThreshold = images[0].group.threshold !== null;
  if (hasThreshold) low = Math.min(low, 0.9);
  const end = hasThreshold ? Math.max(2.2, 1.15 * highestGood) : high;
  const isCut = high > end;
  high = Math.max(Math.min(high, end), hasThreshold ? 1.1 : low);
  return { low, high: high > low ? high : low + 1, isCut };
}

// Two counts a bar: images that `isSecond` does not hold for, and those that it does.
function countBars(images, range, isSecond) {
  const counts = [Array(BARS).fill(0), Array(BARS).fill(0)];
  for (const image of images) {
    const share = (position(image) - range.low) / (range.high - range.low);
    counts[isSecond(image) ? 1 : 0][Math.max(0, Math.min(BARS - 1, Math.floor(share * BARS)))] += 1;
  }
  return counts;
}

// Stacked bars from a line at `middle`; `sign` is -1 upwards.
function drawBars(svg, counts, names, sign, middle) {
  const highest = Math.max(1, ...counts[0].map((count, i) => count + counts[1][i]));
  const room = middle > 50 ? 90 : 44;
  const paths = ["", ""];
  for (let i = 0; i < BARS; i += 1) {
    let from = middle;
    for (const kind of [0, 1]) {
      if (!counts[kind][i]) continue;
      const height = Math.max(1.5, (counts[kind][i] / highest) * room);
      paths[kind] += `M${i + 0.06} ${from}v${sign * height}h.88v${-sign * height}z`;
      from += sign * height;
    }
  }
  paths.forEach((d, kind) => svg.append(makeSvg("path", { class: `bar ${names[kind]}`, d })));
}

function drawMark(box, range, factor, className) {
  const share = (factor - range.low) / (range.high - range.low);
  if (share < 0 || share > 1) return;
  const mark = make("div", `mark ${className}`);
  mark.style.left = `calc(${(100 * share).toFixed(3)}% - 1px)`;
  box.append(mark);
}

function histogram(images, range, factor) {
  const box = make("div", "histogram");
  const isLabelled = images.some((image) => image.isLabelled);
  const middle = isLabelled ? 50 : 97;
  const svg = makeSvg("svg", { viewBox: `0 0 ${BARS} 100`, preserveAspectRatio: "none",
    "aria-hidden": "true" });
  const bars = (kind) => countBars(images.filter((image) => image.label === kind), range,
    (image) => (isLabelled ? mistakeOf(image, factor) !== "" : isFlagged(image, factor)));
  if (isLabelled) {
    drawBars(svg, bars(0), ["good", "wrong"], -1, middle);
    drawBars(svg, bars(1), ["defective", "wrong"], 1, middle);
  } else {
    drawBars(svg, bars(null), ["good", "defective"], -1, middle);
  }
  svg.append(makeSvg("path", { class: "middle", d: `M0 ${middle}H${BARS}` }));
  box.append(svg);
  if (images.some((image) => image.group.threshold !== null)) {
    if (factor !== 1) drawMark(box, range, 1, "honest");
    drawMark(box, range, factor, factor === 1 ? "" : "moved");
  }
  return box;
}

function countMistakes(images, factor) {
  const counts = { good: 0, defective: 0, missed: 0, false: 0, misranked: 0, flagged: 0 };
  for (const image of images) {
    if (image.label === 1) counts.defective += 1;
    if (image.label === 0) counts.good += 1;
    if (image.misranked > 0) counts.misranked += 1;
    if (isFlagged(image, factor)) counts.flagged += 1;
    const mistake = mistakeOf(image, factor);
    if (mistake) counts[mistake] += 1;
  }
  return counts;
}

function mistakesText(counts) {
  return `${counts.missed} of ${plural(counts.defective, "defect")} missed, ` +
    `${counts.false} of ${plural(counts.good, "good image")} flagged`;
}

function niceStep(span) {
  const power = 10 ** Math.floor(Math.log10(span / 4));
  return [1, 2, 2.5, 5, 10].map((step) => step * power).find((step) => span / step <= 6);
}

function drawTicks(host, range, unit) {
  host.replaceChildren();
  // A scale that is cut says so at its end, which takes room.
  const last = range.isCut ? 1 - 90 / Math.max(host.clientWidth, 180) : 0.97;
  const step = niceStep((range.high - range.low) * unit);
  for (let k = Math.ceil((range.low * unit) / step); k * step <= range.high * unit; k += 1) {
    const value = k * step;
    const share = (value / unit - range.low) / (range.high - range.low);
    if (share > last || share < 0.02) continue;
    const tick = make("span", "", String(Number(value.toPrecision(6))));
    tick.style.left = `${100 * share}%`;
    host.append(tick);
  }
  if (!range.isCut) return;
  const end = make("span", "", "and above");
  end.style.cssText = "right: 0; transform: none";
  host.append(end);
}

// ---- the gallery: cards -------------------------------------------------------------------------

const PANEL_NAMES = ["image", "ground truth", "anomaly map", "predicted mask", "outlines"];

// A figure is one file; each panel of it is cut out of the same picture.
function cropOf(image, index, panels, isLazy) {
  const crop = make("span", "crop");
  const picture = make("img");
  if (isLazy) picture.loading = "lazy";
  const edge = 1;  // pixel, which scaling mixes with the paper around the panel
  const percent = (pixels) => `${(100 * pixels) / (panels.side - 2 * edge)}%`;
  picture.style.width = percent(panels.width);
  picture.style.left = `-${percent(panels.lefts[index] + edge)}`;
  picture.style.top = `-${percent(panels.top + edge)}`;
  picture.width = panels.width;
  picture.height = panels.height;
  picture.alt = isLazy ? "" : `${PANEL_NAMES[index]} of ${image.title}`;
  picture.src = fileUrl(image.picture);
  crop.append(picture);
  return crop;
}

function panelStrip(image, panels, isLazy) {
  const box = make("span", "panels");
  const shown = PANEL_NAMES.map((_, index) => index).filter((index) => image.label || index !== 1);
  box.classList.toggle("four", shown.length === 4);
  for (const index of shown) {
    const panel = make("span", index === 4 ? "panel main" : "panel");
    const name = index === 4 && !isLazy ? "outlines: predicted orange, true blue" : PANEL_NAMES[index];
    panel.append(cropOf(image, index, panels, isLazy), make("span", "panel-name", name));
    box.append(panel);
  }
  return box;
}

function wholePicture(image, isPlain, isLazy) {
  const picture = make("img", "whole");
  if (isLazy) picture.loading = "lazy";
  const path = isPlain && image.original !== null ? image.original : image.picture;
  picture.alt = isLazy ? "" : `${path === image.original ? "Image" : "Overlay of"} ${image.title}`;
  picture.src = fileUrl(path);
  return picture;
}

function pictureOf(image, isPlain, isLazy) {
  const { panels } = image.group;
  if (image.picture === null) return make("span", "absent", "no picture drawn");
  const box = panels ? panelStrip(image, panels, isLazy) : wholePicture(image, isPlain, isLazy);
  const pictures = panels ? all("img", box) : [box];
  pictures[0].addEventListener("error", () => {
    box.replaceWith(make("span", "absent", `not found: ${readable(image.picture)}`));
  });
  return box;
}

function badgesOf(image, factor) {
  const badges = [];
  const mistake = mistakeOf(image, factor);
  const words = { missed: "missed defect", false: "false alarm" }[mistake];
  if (words) badges.push(make("span", "badge wrong decided", words));
  const decision = decisionText(image, factor);
  if (decision && !image.isLabelled) {
    badges.push(make("span", `badge decided${decision === "defective" ? " wrong" : ""}`, decision));
  }
  if (image.misranked > 0) badges.push(make("span", "badge", "wrongly ranked"));
  return badges;
}

function detailText(image, factor) {
  const decision = image.isLabelled && decisionText(image, factor);
  const explored = factor === 1 ? "" : " at the explored threshold";
  const p = image.p_value === null ? DASH : image.p_value.toFixed(4);
  return [decision && `judged ${decision}${explored}`, `score\u00a0${scoreText(image.score)}`, `p\u2011value\u00a0${p}`,
    rankText(image)].filter(Boolean).join(" \u00b7 ");
}

function captionOf(image, factor) {
  const name = make("p", "name");
  name.append(makeName("span", "", image.title), ...badgesOf(image, factor));
  return [name, make("p", "detail", detailText(image, factor))];
}

function cardOf(image, index, state) {
  const item = make("li", "card");
  item.classList.toggle("mistake", mistakeOf(image, state.factor) !== "");
  const open = make("button", "open");
  open.type = "button";
  open.tabIndex = -1;
  open.dataset.position = index;
  open.setAttribute("aria-label", `Enlarge ${image.title}`);
  open.append(pictureOf(image, state.plain, true));
  const caption = make("div", "caption");
  caption.append(...captionOf(image, state.factor));
  item.append(open, caption);
  return item;
}

// ---- the gallery: export ------------------------------------------------------------------------

function csvCell(value) {
  const text = value === null ? "" : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
}

function csvOf(images, factor) {
  const isLabelled = images.some((image) => image.isLabelled);
  const columns = isLabelled
    ? ["class", "path", "defect", "label", "score", "p_value", "threshold", "decision"]
    : ["path", "score", "p_value", "threshold", "decision"];
  const lines = images.map((image) => {
    const threshold = image.group.threshold === null ? null : limitOf(image.group, factor);
    const values = { ...image, class: image.group.name, threshold, decision: decisionText(image, factor) };
    return columns.map((column) => csvCell(values[column])).join(",");
  });
  return `${[columns.join(","), ...lines].join("\n")}\n`;
}

function download(text, name) {
  const link = make("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// ---- the gallery: everything together ------------------------------------------------------------

class Gallery {
  constructor(data) {
    this.classes = data.classes;
    this.images = readGallery(data);
    this.byId = new Map(this.images.map((image) => [image.id, image]));
    this.nAll = data.all;
    this.isLabelled = this.images.some((image) => image.isLabelled);
    this.state = { ...START };
    this.shown = [];
    this.at = 0;  // of the card that a Tab comes to
    this.list = byId("cards");
    this.dialog = byId("dialog");
    // Cards are made as the reader nears the end of the list. Observing anew after each batch
    // makes the observer report again where a batch did not fill the window.
    this.observer = new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      this.showMore();
      this.observer.unobserve(byId("more"));
      if (!byId("more").hidden) this.observer.observe(byId("more"));
    }, { rootMargin: "1200px 0px" });
  }

  start() {
    this.list.classList.toggle("single", this.classes.every((group) => group.panels === null));
    this.fillClasses();
    byId("drawn-label").hidden = this.images.every((image) => image.picture !== null);
    byId("plain-label").hidden = this.images.every((image) => image.original === null);
    byId("gallery").hidden = false;
    this.listen();
    this.restore();
    const { image } = this.state;
    // A link to an image gets a page to go back to below it.
    if (image && !(history.state && history.state.opened)) {
      address.replace(this.hash({ ...this.state, image: "" }), null);
      address.push(this.hash(), { opened: true });
    }
  }

  // -- state

  hash(state = this.state) {
    const text = new URLSearchParams();
    for (const [name, value] of Object.entries(state)) {
      if (value !== START[name]) text.set(name, value === true ? "1" : value);
    }
    return text.toString();
  }

  restore() {
    const text = address.read();
    const state = { ...START };
    for (const name of Object.keys(START)) {
      const value = text.get(name);
      if (value === null) continue;
      if (typeof START[name] === "boolean") state[name] = value === "1";
      else if (name === "factor") state.factor = Number(value) > 0 ? Number(value) : 1;
      else state[name] = value;
    }
    if (!this.classes.some((group) => group.name === state.class)) state.class = "";
    if (!all("option", byId("sort")).some((option) => option.value === state.sort)) state.sort = "worst";
    if (!all('[name="show"]').some((radio) => radio.value === state.show)) state.show = "all";
    if (!this.byId.has(state.image)) state.image = "";
    const hasOtherCards = this.hash({ ...state, image: "" }) !== this.hash({ ...this.state, image: "" });
    this.state = state;
    if (hasOtherCards || !this.list.childElementCount) this.update();
    this.showDialog();
  }

  // Takes a choice of the reader over; the one before can be gone back to.
  choose(changes) {
    Object.assign(this.state, changes);
    this.fillDefects();
    address.push(this.hash());  // before the page is changed: a browser settles the page first
    this.update();
  }

  // The same while a slider is dragged or a name is typed: all of it is one step to go back.
  preview(control, changes) {
    Object.assign(this.state, changes);
    this.update();
    if (history.state && history.state.preview === control) address.replaceSoon(this.hash());
    else address.push(this.hash(), { preview: control });
  }

  // -- the choice, and what follows from it

  pool() {
    const { name, drawn } = this.state;
    const searched = name.toLowerCase();
    return this.images.filter((image) => (this.state.class === "" || image.group.name === this.state.class) &&
      (!searched || image.searched.includes(searched)) && (!drawn || image.picture !== null));
  }

  update() {
    const { state } = this;
    this.fillDefects();
    const pool = this.pool().filter((image) => fitsDefect(image, state.defect));
    this.shown = pool.filter((image) => fitsShow(image, state.show, state.factor)).sort(orderOf(state));
    this.at = 0;
    this.showControls();
    this.showCounts(pool);
    this.showThreshold();
    this.list.replaceChildren();
    this.observer.unobserve(byId("more"));
    this.showMore(CHUNK);
    if (!byId("more").hidden) this.observer.observe(byId("more"));
  }

  fillClasses() {
    const select = byId("class");
    select.append(new Option(`all (${this.images.length})`, ""));
    for (const group of this.classes) {
      select.append(new Option(`${group.name} (${group.images.length})`, group.name));
    }
    byId("class-label").hidden = this.classes.length < 2;
  }

  fillDefects() {
    const kinds = new Map();
    const pool = this.pool();
    for (const image of pool) {
      if (image.label) kinds.set(image.defect, (kinds.get(image.defect) || 0) + 1);
    }
    const defective = pool.filter((image) => image.label).length;
    const options = [["all", "all", pool.length], ["good", "good", pool.length - defective],
      ["defective", "all defective", defective]];
    // The prefix keeps a folder called "all" or "good" apart from the choices above.
    for (const kind of [...kinds.keys()].sort(collator.compare)) {
      options.push([`kind:${kind}`, kind, kinds.get(kind)]);
    }
    if (!options.some(([value]) => value === this.state.defect)) this.state.defect = "all";
    byId("defect").replaceChildren(...options.map(([value, text, n]) => new Option(`${text} (${n})`, value)));
  }

  showControls() {
    const { state } = this;
    byId("class").value = state.class;
    byId("defect").value = state.defect;
    byId("sort").value = state.sort;
    if (byId("search").value !== state.name) byId("search").value = state.name;
    byId("drawn").checked = state.drawn;
    byId("plain").checked = state.plain;
    for (const radio of all('[name="show"]')) radio.checked = radio.value === state.show;
  }

  showCounts(pool) {
    const { state, shown } = this;
    for (const badge of all("[data-count]")) {
      badge.textContent = pool.filter((image) => fitsShow(image, badge.dataset.count, state.factor)).length;
    }
    const counts = countMistakes(pool, state.factor);
    const part = shown.length === this.images.length ? "" : `${shown.length} of `;
    const ofAll = this.nAll > this.images.length ? ` on this page, ${this.nAll} judged` : "";
    const mistakes = this.isLabelled && this.classes.some((group) => group.threshold !== null)
      ? `: ${mistakesText(counts)}` : "";
    byId("count").textContent = shown.length === 0 ? `No image of ${this.images.length} fits this choice.`
      : `${part}${plural(this.images.length, "image")}${ofAll}${mistakes}`;
    const isMixed = state.class === "" && this.classes.length > 1;
    byId("hint").textContent = isMixed && ["high", "low"].includes(state.sort)
      ? "Scores of different classes are not on one scale." : "";
  }

  // -- the threshold

  showThreshold() {
    const { state } = this;
    const drawn = JSON.stringify([state.class, state.factor]);
    if (drawn === this.drawnThreshold) return;  // no filter changes the histograms
    this.drawnThreshold = drawn;
    const groups = this.classes.filter((group) => state.class === "" || group.name === state.class);
    const known = groups.filter((group) => group.threshold !== null);
    const judged = known.length ? known : groups.length === 1 ? groups : [];
    const images = judged.flatMap((group) => group.images);
    byId("threshold").hidden = images.length === 0;
    byId("slider").hidden = known.length === 0;
    this.showExplored(known);
    if (!images.length) return;
    const range = rangeOf(images);
    const single = judged.length === 1 ? judged[0] : null;
    const box = histogram(images, range, state.factor);
    if (this.isLabelled) box.append(make("span", "side up", "good"), make("span", "side down", "defective"));
    box.setAttribute("role", "img");
    box.setAttribute("aria-label", this.histogramLabel(images, known));
    byId("histogram").replaceChildren(box);
    const unit = single && single.threshold !== null ? single.threshold : 1;
    drawTicks(byId("ticks"), range, unit);
    this.showSlider(range, known);
    this.showMultiples(judged, range);
  }

  histogramLabel(images, known) {
    const label = `Histogram of ${plural(images.length, "score")}`;
    if (!known.length) return label;
    const counts = countMistakes(images, this.state.factor);
    const said = this.isLabelled ? mistakesText(counts) : `${counts.flagged} judged defective`;
    return `${label}, ${this.thresholdText(known)}: ${said}`;
  }

  thresholdText(known) {
    const { factor } = this.state;
    const times = Number(factor.toPrecision(3));
    if (known.length > 1) return factor === 1 ? "each class at its threshold" : `${times} times each threshold`;
    const value = scoreText(limitOf(known[0], factor));
    return factor === 1 ? `threshold ${value}` : `threshold ${value}, ${times} times the one from training images`;
  }

  showSlider(range, known) {
    const slider = byId("slider");
    const text = byId("threshold-text");
    if (!known.length) {
      text.textContent = "No threshold: the model has no calibration.";
      return;
    }
    const step = (range.high - range.low) / 400;  // a grid that 1, the honest threshold, lies on
    slider.min = Math.max(1 - Math.round((1 - range.low) / step) * step, step);
    slider.max = 1 + Math.round((range.high - 1) / step) * step;
    slider.step = step;
    slider.value = this.state.factor;
    slider.setAttribute("aria-valuetext", this.thresholdText(known));
    const scale = known.length > 1 ? "Scores are divided by the threshold of their class. " : "";
    const what = this.isLabelled ? "Red: judged wrongly. " : "Ochre: judged defective. ";
    text.textContent = `${scale}${what}${this.state.factor === 1
      ? `The line is the threshold from training images${known.length === 1 ? `, ${scoreText(known[0].threshold)}` : ""}; drag it to explore others.`
      : "The dashed line is the threshold from training images."}`;
  }

  showExplored(known) {
    const isExploring = this.state.factor !== 1 && known.length > 0;
    byId("gallery").classList.toggle("exploring", isExploring);
    byId("explored").hidden = !isExploring;
    if (isExploring) byId("explored-text").textContent = `${this.thresholdText(known)}; not a result.`;
  }

  showMultiples(groups, range) {
    const boxes = groups.length < 2 ? [] : groups.map((group) => {
      const box = make("div", "multiple");
      const counts = countMistakes(group.images, this.state.factor);
      box.append(make("p", "multiple-name", group.name), histogram(group.images, range, this.state.factor),
        make("p", "detail", mistakesText(counts)));
      return box;
    });
    byId("multiples").replaceChildren(...boxes);
  }

  // -- cards

  showMore(atLeast = this.list.childElementCount + CHUNK) {
    const end = Math.min(this.shown.length, atLeast);
    const batch = document.createDocumentFragment();
    for (let i = this.list.childElementCount; i < end; i += 1) {
      batch.append(cardOf(this.shown[i], i, this.state));
    }
    this.list.append(batch);
    byId("more").hidden = end >= this.shown.length;
    this.markStop(this.at);
  }

  // One card is a Tab stop: that of the last focus.
  markStop(position) {
    const before = this.list.children[this.at];
    if (before) before.firstChild.tabIndex = -1;
    this.at = position;
    const now = this.list.children[position];
    if (now) now.firstChild.tabIndex = 0;
  }

  focusCard(position) {
    if (!this.shown[position]) return;
    this.showMore(Math.max(position + 1, this.list.childElementCount));
    this.markStop(position);
    const item = this.list.children[position];
    item.firstChild.focus({ preventScroll: true });
    item.scrollIntoView({ block: "nearest" });
  }

  columns() {
    const items = Array.from(this.list.children);
    const next = items.findIndex((item) => item.offsetTop > items[0].offsetTop);
    return next < 0 ? items.length : next;
  }

  stepCard(key, isInList) {
    const step = { ArrowRight: 1, j: 1, ArrowLeft: -1, k: -1 }[key];
    if (!isInList) {  // start from what the reader sees
      const items = Array.from(this.list.children);
      const visible = items.findIndex((item) => item.getBoundingClientRect().top >= 0);
      this.focusCard(visible < 0 ? items.length - 1 : visible);
      return;
    }
    const by = step || { ArrowDown: 1, ArrowUp: -1 }[key] * this.columns();
    this.focusCard(this.at + by);
  }

  // -- the large view

  open(image) {
    this.state.image = image.id;
    address.push(this.hash(), { opened: true });
    this.showDialog();
  }

  step(by) {
    const next = this.shown[this.shown.indexOf(this.byId.get(this.state.image)) + by];
    if (!next) return;
    this.state.image = next.id;
    address.replace(this.hash());
    this.showDialog();
  }

  close() {
    if (this.isClosing) return;
    if (history.state && history.state.opened) {
      this.isClosing = true;
      history.back();
      return;
    }
    this.state.image = "";
    address.replace(this.hash());
    this.showDialog();
  }

  showDialog() {
    const image = this.byId.get(this.state.image);
    if (!image) {
      this.isClosing = false;
      if (this.dialog.open) this.dialog.close();
      return;
    }
    const position = this.shown.indexOf(image);
    const { factor, plain } = this.state;
    byId("pane").replaceChildren(pictureOf(image, plain, false));
    byId("large-caption").replaceChildren(...captionOf(image, factor), make("p", "detail", this.largeDetail(image)));
    byId("large-caption").firstChild.firstChild.id = "large-name";
    byId("position").textContent = position < 0 ? "not in the present choice" : `${position + 1} of ${this.shown.length}`;
    byId("previous").setAttribute("aria-disabled", String(position <= 0));
    byId("next").setAttribute("aria-disabled", String(position < 0 || position === this.shown.length - 1));
    const path = plain && image.original !== null ? image.original : image.picture;
    byId("file").hidden = path === null;
    if (path !== null) byId("file").href = fileUrl(path);
    if (byId("swap")) {
      byId("swap").hidden = image.original === null;
      byId("swap").setAttribute("aria-pressed", String(plain));
    }
    this.large = image;
    if (!this.dialog.open) this.dialog.showModal();
  }

  largeDetail(image) {
    const { group } = image;
    const path = image.id === image.title ? [] : [image.id];
    if (group.threshold === null) return path.join("");
    const honest = this.state.factor === 1 ? "" : `, explored; from training images ${scoreText(group.threshold)}`;
    return [`threshold ${scoreText(limitOf(group, this.state.factor))}${honest}`, ...path].join(" \u00b7 ");
  }

  swap() {
    if (this.images.every((image) => image.original === null)) return;
    const at = this.at;
    const isInList = this.list.contains(document.activeElement);
    this.choosePlain(!this.state.plain);
    if (isInList) this.focusCard(at);
  }

  // Overlays and originals change places where they are: nothing else moves.
  choosePlain(plain) {
    const { at } = this;
    const count = this.list.childElementCount;
    this.state.plain = plain;
    this.update();
    this.showMore(count);
    this.markStop(at);
    address.replace(this.hash());
    if (this.dialog.open) this.showDialog();
  }

  // -- events

  listen() {
    byId("controls").addEventListener("submit", (event) => event.preventDefault());
    byId("controls").addEventListener("change", (event) => this.changed(event.target));
    byId("controls").addEventListener("reset", (event) => {
      event.preventDefault();
      this.choose({ ...START });
    });
    byId("search").addEventListener("input", () => this.preview("search", { name: byId("search").value }));
    byId("slider").addEventListener("input", () => {
      this.preview("slider", { factor: Number(Number(byId("slider").value).toFixed(4)) });
    });
    byId("honest").addEventListener("click", () => {
      this.choose({ factor: 1 });
      byId("slider").focus({ preventScroll: true });
    });
    byId("save").addEventListener("click", () => download(csvOf(this.shown, this.state.factor), "selection.csv"));
    byId("more").addEventListener("click", () => {
      const next = this.list.childElementCount;
      this.showMore();
      this.focusCard(next);
    });
    this.list.addEventListener("click", (event) => {
      const open = event.target.closest(".open");
      if (open) this.open(this.shown[Number(open.dataset.position)]);
    });
    this.list.addEventListener("focusin", (event) => {
      const open = event.target.closest(".open");
      if (open) this.markStop(Number(open.dataset.position));
    });
    this.listenToDialog();
    this.listenToLinks();
    document.addEventListener("keydown", (event) => this.pressed(event));
    address.follow(() => {
      if (address.read().toString() !== this.hash()) this.restore();
    });
  }

  listenToDialog() {
    byId("previous").addEventListener("click", () => this.step(-1));
    byId("next").addEventListener("click", () => this.step(1));
    byId("close").addEventListener("click", () => this.close());
    if (byId("swap")) byId("swap").addEventListener("click", () => this.swap());
    this.dialog.addEventListener("cancel", (event) => {
      event.preventDefault();
      this.close();
    });
    this.dialog.addEventListener("close", () => {
      if (this.state.image) this.close();  // the browser closed it by itself
      byId("pane").replaceChildren();
      this.focusCard(this.shown.indexOf(this.large));
    });
  }

  // Links to a part of the page leave the address to the choice of images.
  listenToLinks() {
    for (const link of all("[data-show]")) {
      link.addEventListener("click", (event) => {
        event.preventDefault();
        this.choose({ ...START, factor: this.state.factor, show: link.dataset.show });
        byId("images").scrollIntoView();
        this.focusCard(0);
      });
    }
    for (const cell of all("[data-class]")) this.linkClass(cell);
    rove(all("[data-class] button"), "ArrowUp", "ArrowDown");
  }

  linkClass(cell) {
    const button = make("button", "", cell.textContent);
    button.type = "button";
    button.title = `Show the images of ${cell.textContent}`;
    cell.replaceChildren(button);
    button.addEventListener("click", () => {
      this.choose({ class: this.classes[Number(cell.dataset.class)].name });
      byId("images").focus({ preventScroll: true });
      byId("images").scrollIntoView();
    });
  }

  changed(control) {
    if (control.name === "show") this.choose({ show: control.value });
    if (control.id === "class") this.choose({ class: control.value });
    if (control.id === "defect") this.choose({ defect: control.value });
    if (control.id === "sort") this.choose({ sort: control.value });
    if (control.id === "drawn") this.choose({ drawn: control.checked });
    if (control.id === "plain") this.choosePlain(control.checked);
  }

  pressed(event) {
    if (event.defaultPrevented || event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
    const { key, target } = event;
    const isInList = this.list.contains(target);
    const isControl = target.closest("input, select, textarea, .scroll, pre, summary");
    if (key === "o" && byId("swap") && !isControl) {
      this.swap();
    } else if (this.dialog.open) {
      const by = { ArrowRight: 1, j: 1, ArrowLeft: -1, k: -1 }[key];
      if (!by) return;
      this.step(by);
    } else if (isControl) {
      return;
    } else if (["j", "k", "ArrowRight", "ArrowLeft"].includes(key) ||
        (isInList && ["ArrowDown", "ArrowUp"].includes(key))) {
      this.stepCard(key, isInList);
    } else {
      return;
    }
    event.preventDefault();
  }
}

// ---- links to the sections of a page --------------------------------------------------------------

function startSections() {
  for (const link of all('nav a[href^="#"]')) {
    link.addEventListener("click", (event) => {
      const heading = byId(link.getAttribute("href").slice(1));
      if (!heading) return;
      event.preventDefault();
      heading.focus({ preventScroll: true });
      heading.scrollIntoView();
    });
  }
}

// ---- the page of all runs -------------------------------------------------------------------------

function showDifferences(table, run) {
  const heads = all("thead th .label", table).map((label) => label.textContent);
  const column = run ? heads.indexOf(run) : -1;
  for (const row of all("tbody tr, tfoot tr", table)) {
    const theirs = column < 0 ? null : cellValue(row, column);
    Array.from(row.cells).slice(1).forEach((cell, index) => {
      for (const old of all(".difference", cell)) old.remove();
      const ours = cellValue(row, index + 1);
      if (theirs === null || ours === null || index + 1 === column) return;
      const shown = (ours - theirs).toFixed(3);
      const sign = Number(shown) > 0 ? "+" : "";
      cell.append(make("span", "difference", `${sign}${shown.replace(/^-0\.000$/, "0.000").replace("-", "\u2212")}`));
    });
  }
}

function startRuns() {
  const form = byId("comparison");
  const metric = byId("metric");
  const against = byId("against");
  const choose = (select, value) => {
    select.value = all("option", select).some((option) => option.value === value) ? value : select.options[0].value;
  };
  function update() {
    for (const block of all("[data-metric]")) {
      block.hidden = block.dataset.metric !== metric.value;
      if (!block.hidden) showDifferences(block.querySelector("table"), against.value);
    }
  }
  function restore() {
    const state = address.read();
    choose(metric, state.get("metric"));
    choose(against, state.get("against"));
    update();
  }
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("change", () => {
    update();
    address.push(new URLSearchParams({ metric: metric.value, against: against.value }).toString());
  });
  address.follow(restore);
  form.hidden = false;
  restore();
}

// ---- start ------------------------------------------------------------------------------------------

startTables();
startSections();
if (byId("gallery")) new Gallery(JSON.parse(byId("data").textContent)).start();
if (byId("comparison")) startRuns();
})();
