// How the page asks the server: JSON there, events back, a key where one is wanted.

const KEY = "codecria-key";

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export const useKey = (key) => sessionStorage.setItem(KEY, key);

function headers() {
  const key = sessionStorage.getItem(KEY);
  return key ? { authorization: `Bearer ${key}` } : {};
}

async function asked(path, options) {
  let answer;
  try {
    answer = await fetch(path, { ...options, headers: { ...headers(), ...options.headers } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The server does not answer");
  }
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => null);
  throw new Refused(answer.status, told?.error?.message ?? `Status ${answer.status}`);
}

export async function model() {
  return (await asked("page/model", {})).json();
}

// Asks for a text. `onText` is given its pieces; the result is the figures, or null where the stream broke off.
export async function write(path, body, signal, onText) {
  const options = { method: "POST", body: JSON.stringify(body), signal, headers: { "content-type": "application/json" } };
  const answer = await asked(path, options);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let left = "";
  let figures = null;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return figures;
    const events = (left + value).split("\n\n");
    left = events.pop();
    for (const event of events) {
      const told = JSON.parse(event.slice("data: ".length));
      if (told.error) throw new Refused(told.error.code, told.error.message);
      if (told.text) onText(told.text);
      figures = told.figures ?? figures;
    }
  }
}
