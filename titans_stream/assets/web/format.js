// Numbers and times as people read them.

export function number(value, digits = 5) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e9)) return value.toExponential(Math.max(0, digits - 3));
  const text = Number(value.toPrecision(digits));
  return text.toLocaleString("en", { maximumSignificantDigits: digits, useGrouping: size >= 1e4 });
}

export function band(lower, upper) {
  return lower === null || upper === null || lower === undefined ? "–" : `${number(lower, 4)} … ${number(upper, 4)}`;
}

/** How far over the budget: `12×`; beyond 1,000 it only says so. */
export function times(over) {
  if (over === null || over === undefined) return "";
  if (over >= 1000) return ">1000×";
  return `${over >= 99.5 ? Math.round(over / 10) * 10 : Number(over.toPrecision(2))}×`;
}

export function span(seconds) {
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60]]) {
    if (seconds >= 2 * size) return `${Number((seconds / size).toPrecision(2))} ${unit}`;
  }
  return seconds >= 1 || seconds <= 0 ? `${Math.round(Math.max(0, seconds))} s` : `${Number(seconds.toPrecision(2))} s`;
}

export function often(perDay) {
  if (perDay === null || perDay === undefined || perDay <= 0) return "–";
  if (perDay >= 1) return `${Number(perDay.toPrecision(3))} a day`;
  const days = 1 / perDay;
  if (days < 60) return `once in ${Number(days.toPrecision(2))} days`;
  const years = days / 365.25;
  if (years < 2) return `once in ${Number((days / 30.44).toPrecision(2))} months`;
  return years < 100 ? `once in ${Number(years.toPrecision(2))} years` : "once in more than 100 years";
}

export function ago(text, now = Date.now()) {
  if (!text) return "–";
  const seconds = (now - Date.parse(text)) / 1000;
  return seconds < 0 ? `in ${span(-seconds)}` : `${span(seconds)} ago`;
}

const two = (n) => String(n).padStart(2, "0");

/** Local time; the day is left out where it is today's. */
export function when(text, full = false) {
  if (!text) return "–";
  const t = new Date(text);
  const clock = `${two(t.getHours())}:${two(t.getMinutes())}:${two(t.getSeconds())}`;
  const day = `${t.getFullYear()}-${two(t.getMonth() + 1)}-${two(t.getDate())}`;
  return !full && t.toDateString() === new Date().toDateString() ? clock : `${day} ${clock}`;
}

export function bytes(count) {
  for (const [unit, size] of [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]]) {
    if (count >= size) return `${Number((count / size).toPrecision(3))} ${unit}`;
  }
  return `${count} bytes`;
}

export const count = (n) => n.toLocaleString("en");
