// What the last request took, and its prompt id by id.

const MOST = 4000; // ids shown; of longer prompts the beginning and the end
const SHOWN = { "\n": "↵", "\t": "⇥", " ": "·" };
const ENDS = { stop: "the model", "stop-string": "the rule", length: "its limit" };
const number = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function idItem([id, text, special], reused) {
  const shown = text.replace(/[\n\t ]/g, (each) => SHOWN[each]) || "∅";
  const kinds = [reused ? "reused" : "anew", ...(special ? ["special"] : [])];
  return element("li", { className: kinds.join(" ") }, element("code", { textContent: shown }), element("small", { textContent: id }));
}

function idItems(prompt, cached) {
  const items = prompt.map((each, place) => () => idItem(each, place < cached));
  if (items.length <= MOST) return items.map((make) => make());
  const gap = element("li", { className: "gap", textContent: `${number.format(items.length - MOST)} more` });
  const half = MOST / 2;
  return [...items.slice(0, half).map((make) => make()), gap, ...items.slice(-half).map((make) => make())];
}

function share(part, whole) {
  return whole ? `${Math.floor((100 * part) / whole)} %` : "";
}

export function showFigures(figures) {
  const { prompt, written, cached_tokens: cached, first_ms: first, tokens_per_s: rate } = figures;
  const rows = [
    ["First token", first === null ? "none" : number.format(first), "ms"],
    ["Speed", rate === null ? "–" : rate < 10 ? rate.toFixed(1) : number.format(rate), "tokens/s"],
    ["Prompt", number.format(prompt.length), "tokens"],
    ["Reused", number.format(cached), share(cached, prompt.length)],
    ["Written", number.format(written.length), "tokens"],
    ["Ended by", ENDS[figures.finish_reason] ?? figures.finish_reason ?? "nobody", ""],
  ];
  document.getElementById("figures").replaceChildren(
    ...rows.map(([name, value, unit]) =>
      element(
        "div",
        { className: unit || name === "Reused" ? "" : "words" },
        element("dt", { textContent: name }),
        element("dd", {}, element("b", { textContent: value }), " ", element("span", { textContent: unit })),
      ),
    ),
  );
  const ids = document.getElementById("ids");
  ids.replaceChildren(...idItems(prompt, cached));
  ids.scrollTop = ids.scrollHeight;
  const tasks = { infill: "infill", complete: "left to right: this model has no infill markers", chat: "chat" };
  document.getElementById("told-task").textContent = tasks[figures.task];
}
