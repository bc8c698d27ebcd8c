// Requests to the API. What is refused is thrown with the server's words.

export class Refused extends Error {
  constructor(text, status) {
    super(text);
    this.status = status;
  }
}

export async function get(path, params = {}, signal = undefined) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    if (Array.isArray(value)) value.forEach((one) => query.append(name, one));
    else if (value !== null && value !== undefined && value !== "") query.set(name, value);
  }
  const text = query.toString();
  return answered(await fetch(`/v1${path}${text ? `?${text}` : ""}`, { signal, headers: { accept: "application/json" } }));
}

export async function post(path, body) {
  return answered(await fetch(`/v1${path}`, {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body),
  }));
}

async function answered(answer) {
  if (answer.status === 401) {
    location.assign(`/login?back=${encodeURIComponent(location.pathname + location.search)}`);
    throw new Refused("log in first", 401);
  }
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(body.error || `the server answered ${answer.status}`, answer.status);
  return body;
}

/** Calls `hear(status)` with each news, and `lost(true)` while the server does not answer. */
export function follow(hear, lost) {
  const source = new EventSource("/v1/events");
  source.addEventListener("status", (event) => { lost(false); hear(JSON.parse(event.data)); });
  source.addEventListener("error", () => {
    lost(true);
    // after an answer that is no stream, such as a proxy's while the server starts, the browser asks no more
    if (source.readyState === EventSource.CLOSED) setTimeout(() => again(hear, lost), 3000);
  });
}

/** Follow anew; who has to log in again is led there. */
async function again(hear, lost) {
  await get("/status").catch(() => {});
  follow(hear, lost);
}
