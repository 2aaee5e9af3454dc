// The conversation: questions, answers as they are written, code that can go into the editor.

import { write } from "./server.js";

const find = (id) => document.getElementById(id);

function codeBlock(text, insert) {
  const block = document.createElement("div");
  block.className = "code";
  const code = document.createElement("pre");
  code.textContent = text.replace(/\n$/, "");
  code.tabIndex = 0;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "plain";
  button.textContent = "Insert";
  button.title = "Insert at the editor's cursor";
  button.addEventListener("click", () => insert(code.textContent));
  block.append(code, button);
  return block;
}

function prose(text) {
  const paragraph = document.createElement("p");
  paragraph.append(
    ...text.split(/(`[^`\n]+`|\*\*[^*\n]+\*\*)/).map((part, place) => {
      if (place % 2 === 0) return part;
      const marked = document.createElement(part[0] === "`" ? "code" : "strong");
      marked.textContent = part[0] === "`" ? part.slice(1, -1) : part.slice(2, -2);
      return marked;
    }),
  );
  return paragraph;
}

// Text between fences becomes code; all else stays as it is, text and never HTML.
function render(into, text, insert) {
  const parts = text.split(/^```[^\n]*\n?/m);
  into.replaceChildren(
    ...parts.flatMap((part, place) => {
      if (!part.trim()) return [];
      if (place % 2) return [codeBlock(part, insert)];
      return [prose(part.trim())];
    }),
  );
}

export function startChat({ onFigures, onProblem, insert }) {
  const messages = [];
  let running = null;

  function entry(role, name) {
    const article = document.createElement("article");
    article.className = role;
    const title = document.createElement("h3");
    title.textContent = name;
    const body = document.createElement("div");
    article.append(title, body);
    find("log").append(article);
    return body;
  }

  function busy(is) {
    find("send").textContent = is ? "Stop" : "Send";
    find("log").ariaBusy = String(is);
    find("clear").hidden = !messages.length;
  }

  async function answer() {
    const control = (running = new AbortController());
    const body = entry("assistant", "Model");
    let text = "";
    busy(true);
    try {
      const figures = await write("page/chat", { messages }, control.signal, (piece) => {
        text += piece;
        render(body, text, insert);
        find("log").scrollTop = find("log").scrollHeight;
      });
      if (figures) onFigures(figures);
    } catch (error) {
      if (error.name !== "AbortError") {
        const told = document.createElement("p");
        told.className = "problem";
        told.textContent = error.message;
        body.append(told);
        onProblem(error);
      }
    }
    if (running !== control) return; // cleared meanwhile
    running = null;
    if (text) messages.push({ role: "assistant", content: text });
    else {
      messages.pop(); // a question without an answer is not asked again with the next one
      if (!body.hasChildNodes()) body.textContent = "(no answer)";
    }
    busy(false);
  }

  find("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    if (running) return running.abort();
    const content = find("question").value.trim();
    if (!content) return;
    find("question").value = "";
    messages.push({ role: "user", content });
    entry("user", "You").textContent = content;
    answer();
  });
  find("question").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    if (!running) find("ask").requestSubmit();
  });
  find("clear").addEventListener("click", () => {
    running?.abort();
    running = null;
    messages.length = 0;
    find("log").replaceChildren();
    busy(false);
    find("question").focus();
  });
}
