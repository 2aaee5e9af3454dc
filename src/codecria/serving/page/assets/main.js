// Puts the page together: the model's state, the choices, the two panes.

import { startChat } from "./chat.js";
import { LANGUAGES, startEditor } from "./editor.js";
import { showFigures } from "./figures.js";
import * as server from "./server.js";

const AGAIN_MS = 1000;
const find = (id) => document.getElementById(id);

function kept(name, usual) {
  try {
    return localStorage.getItem(`codecria-${name}`) ?? usual;
  } catch {
    return usual; // storage may be forbidden
  }
}

function keep(name, value) {
  try {
    localStorage.setItem(`codecria-${name}`, value);
  } catch {
    // then it lasts as long as the page
  }
}

function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
}

find("theme").value = kept("theme", "");
setTheme(find("theme").value);
find("theme").addEventListener("change", ({ target }) => {
  setTheme(target.value);
  keep("theme", target.value);
});

find("language").append(...Object.keys(LANGUAGES).map((name) => new Option(name)));
const language = kept("language", "Python") in LANGUAGES ? kept("language", "Python") : "Python";
find("language").value = language;
if (/Mac|iP(hone|ad)/.test(navigator.platform)) find("word-key").textContent = "⌥ →";

function onProblem(error) {
  if (error.status !== 401) return;
  find("key-form").hidden = false;
  find("key").focus();
}

const editor = startEditor({
  parent: find("editor"),
  language,
  nonce: document.querySelector("meta[name=nonce]").content,
  settings: () => ({ ends: find("ends").value, whileTyping: find("typing").checked }),
  onState: (state, spoken = "") => {
    find("state").textContent = state;
    find("spoken").textContent = spoken ? `Suggestion: ${spoken}` : "";
  },
  onFigures: showFigures,
  onProblem,
});
startChat({ onFigures: showFigures, onProblem, insert: editor.insert });

find("language").addEventListener("change", ({ target }) => {
  editor.setLanguage(target.value);
  keep("language", target.value);
});
find("typing").addEventListener("change", ({ target }) => {
  if (!target.checked) editor.dismiss();
});

function size(parameters) {
  return parameters >= 1e9 ? `${(parameters / 1e9).toFixed(1)} B` : `${Math.round(parameters / 1e6)} M`;
}

// Until the model is there the server answers 503, and is asked again.
async function connect() {
  const line = find("model");
  try {
    const model = await server.model();
    line.dataset.state = "ready";
    const facts = [model.name, `${size(model.parameters)} parameters`, `${model.context_tokens.toLocaleString("en")} tokens of context`];
    line.textContent = facts.join(" · ");
    find("key-form").hidden = true;
    if (!model.chats) {
      find("question").disabled = find("send").disabled = true;
      find("question").placeholder = "This model has no chat template";
    }
    editor.view.focus();
    if (find("typing").checked) editor.ask();
  } catch (error) {
    line.dataset.state = "waiting";
    line.textContent = error.status === 503 ? "Loading the model" : error.message;
    onProblem(error);
    if (error.status === 503 || error.status === 0) setTimeout(connect, AGAIN_MS);
  }
}

find("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  server.useKey(find("key").value);
  find("key").value = "";
  connect();
});
connect();
