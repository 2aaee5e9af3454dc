// The editor: languages with a text to begin with, and when suggestions are asked for.

import {
  bracketMatching, classHighlighter, Compartment, cpp, csharp, defaultKeymap, EditorState, EditorView, go,
  highlightActiveLine, highlightActiveLineGutter, history, historyKeymap, indentUnit, indentWithTab, java, javascript,
  keymap, lineNumbers, python, ruby, rust, shell, StreamLanguage, syntaxHighlighting,
} from "./codemirror.js";
import { ghostField, ghostText, setGhost } from "./ghost.js";
import { write } from "./server.js";

const WAIT_MS = 150; // of silence before a suggestion is asked for
const CURSOR = "‸";

const stream = (mode) => () => StreamLanguage.define(mode);
const braces = (head, call) => `${head} {\n    ${CURSOR}\n}\n${call}`;

export const LANGUAGES = {
  Python: [python, `def area(radius):\n    """The area of a circle."""\n    return ${CURSOR}\n\n\nprint(area(2))\n`],
  JavaScript: [javascript, braces("function area(radius)", "\nconsole.log(area(2));\n")],
  TypeScript: [() => javascript({ typescript: true }), braces("function area(radius: number): number", "\nconsole.log(area(2));\n")],
  "C++": [cpp, braces("#include <cmath>\n\ndouble area(double radius)", "")],
  Java: [java, `class Circle {\n    static double area(double radius) {\n        ${CURSOR}\n    }\n}\n`],
  "C#": [stream(csharp), `class Circle\n{\n    static double Area(double radius)\n    {\n        ${CURSOR}\n    }\n}\n`],
  Go: [stream(go), `package main\n\nimport "math"\n\nfunc area(radius float64) float64 {\n\t${CURSOR}\n}\n`],
  Rust: [rust, braces("fn area(radius: f64) -> f64", "")],
  Ruby: [stream(ruby), `def area(radius)\n  ${CURSOR}\nend\n\nputs area(2)\n`],
  Bash: [stream(shell), `#!/usr/bin/env bash\nset -euo pipefail\n\nfor file in *.txt; do\n    ${CURSOR}\ndone\n`],
};

// Line ends at a text's end are of no use where the line has one already.
function tidied(text, rest) {
  return rest.trim() ? text : text.replace(/\s*\n\s*$/, "");
}

function beginning(name) {
  const text = LANGUAGES[name][1];
  return { doc: text.replace(CURSOR, ""), selection: { anchor: text.indexOf(CURSOR) } };
}

export function startEditor({ parent, language, nonce, settings, onState, onFigures, onProblem }) {
  const languages = new Compartment();
  const syntax = (name) => [LANGUAGES[name][0](), indentUnit.of(name === "Ruby" ? "  " : name === "Go" ? "\t" : "    ")];
  let chosen = language;
  let timer = 0;
  let active = null; // the request under way: what came, what of it is shown, how much of that was typed meanwhile

  function cancel() {
    clearTimeout(timer);
    active?.control.abort();
    active = null;
  }

  function dismiss() {
    cancel();
    onState("");
    view.dispatch({ effects: setGhost.of(null) });
  }

  function schedule() {
    cancel();
    onState("");
    if (settings().whileTyping) timer = setTimeout(ask, WAIT_MS);
  }

  async function ask() {
    const { main } = view.state.selection;
    if (!main.empty || view.composing || view.state.readOnly) return;
    cancel();
    const mine = (active = { control: new AbortController(), text: "", shown: "", typed: 0 });
    const { doc } = view.state;
    const rest = doc.sliceString(main.head, doc.lineAt(main.head).to);
    const body = { prefix: doc.sliceString(0, main.head), suffix: doc.sliceString(main.head), stop_at: settings().ends };
    view.dispatch({ effects: setGhost.of(null) });
    onState("Writing");
    try {
      const figures = await write("page/infill", body, mine.control.signal, (piece) => {
        if (mine !== active) return;
        mine.text += piece;
        mine.shown = tidied(mine.text, rest);
        const text = mine.shown.slice(mine.typed);
        if (text) view.dispatch({ effects: setGhost.of({ from: view.state.selection.main.head, text }) });
      });
      if (mine !== active) return;
      active = null;
      const ghost = view.state.field(ghostField);
      onState(mine.shown ? "" : "Nothing to add here", ghost ? ghost.text : "");
      if (figures) onFigures(figures);
    } catch (error) {
      if (mine !== active || error.name === "AbortError") return;
      active = null;
      onState(error.message);
      onProblem(error);
    }
  }

  const listen = EditorView.updateListener.of((update) => {
    const ghost = update.state.field(ghostField);
    if (update.docChanged) {
      if (ghost && active) active.typed = active.shown.length - ghost.text.length;
      else if (!ghost) schedule();
    } else if (update.selectionSet && !ghost && (active || timer)) {
      cancel();
      onState("");
    }
  });

  const view = new EditorView({
    parent,
    state: EditorState.create({
      ...beginning(language),
      extensions: [
        EditorView.cspNonce.of(nonce),
        ghostText({ ask, dismiss }),
        lineNumbers(),
        highlightActiveLine(),
        highlightActiveLineGutter(),
        history(),
        bracketMatching(),
        syntaxHighlighting(classHighlighter),
        EditorView.lineWrapping,
        EditorView.contentAttributes.of({ "aria-label": "Code", "aria-describedby": "keys", spellcheck: "false" }),
        languages.of(syntax(language)),
        keymap.of([indentWithTab, ...defaultKeymap, ...historyKeymap]),
        listen,
      ],
    }),
  });

  return {
    view,
    ask,
    dismiss,
    insert(text) {
      const { from, to } = view.state.selection.main;
      view.dispatch({ changes: { from, to, insert: text }, selection: { anchor: from + text.length }, userEvent: "input.paste" });
      view.focus();
    },
    // A text nobody has changed makes room for the other language's.
    setLanguage(name) {
      const untouched = view.state.doc.toString() === beginning(chosen).doc;
      chosen = name;
      view.dispatch({ effects: languages.reconfigure(syntax(name)) });
      if (!untouched) return;
      const { doc, selection } = beginning(name);
      view.dispatch({ changes: { from: 0, to: view.state.doc.length, insert: doc }, selection });
    },
  };
}
