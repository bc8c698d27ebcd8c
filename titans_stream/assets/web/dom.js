// Elements from values. Text is only ever set as text: nothing here makes HTML of it.

const SVG = "http://www.w3.org/2000/svg";

/** An element; `props` are attributes, `on*` listeners, `class`; children are nodes or text. */
export function h(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

export function svg(tag, props = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

/** Make `node` hold these and nothing else; nothing is shown of null, undefined and false. */
export function show(node, ...children) {
  node.replaceChildren();
  add(node, children);
  return node;
}

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on") && typeof value === "function") node.addEventListener(name.slice(2), value);
    else if (name === "value" && "value" in node) node.value = value;
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  add(node, children);
  return node;
}

function add(node, children) {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    if (Array.isArray(child)) add(node, child);
    else node.append(child instanceof Node ? child : String(child));
  }
}

/** Make `parent` hold one node per item; a node stays as it is while its item is the same. */
export function keyed(parent, items, key, render) {
  const old = new Map([...parent.children].map((node) => [node.dataset.key, node]));
  let place = parent.firstElementChild;
  for (const item of items) {
    const name = key(item);
    const text = JSON.stringify(item);
    let node = old.get(name);
    old.delete(name);
    if (!node || node.itemText !== text) {
      const made = render(item, node);
      made.dataset.key = name;
      made.itemText = text;
      if (node) {
        if (place === node) place = made;
        node.replaceWith(made);
      }
      node = made;
    }
    if (node === place) place = place.nextElementSibling;
    else parent.insertBefore(node, place);
  }
  for (const node of old.values()) node.remove();
}

/** A line through values, with what is missing left out, as a picture of `width` x `height`. */
export function sparkline(values, width = 96, height = 22, label = "") {
  const known = values.filter((value) => value !== null);
  const picture = svg("svg", {
    class: "spark", viewBox: `0 0 ${width} ${height}`, width, height, role: "img",
    "aria-label": label || "newest values",
  });
  if (known.length < 2) return picture;
  const low = Math.min(...known);
  const span = Math.max(...known) - low || 1;
  const step = (width - 4) / Math.max(values.length - 1, 1);
  let path = "";
  let pen = "M";
  values.forEach((value, i) => {
    if (value === null) { pen = "M"; return; }
    path += `${pen}${(1 + i * step).toFixed(1)} ${(height - 2 - ((value - low) / span) * (height - 4)).toFixed(1)}`;
    pen = "L";
  });
  picture.append(svg("path", { d: path }));
  const last = values[values.length - 1];
  if (last !== null) {
    picture.append(svg("circle", {
      cx: 1 + (values.length - 1) * step, cy: height - 2 - ((last - low) / span) * (height - 4), r: 1.8,
    }));
  }
  return picture;
}
