// Grey text at the cursor: where it is, how it looks, and what keys do to it.

import { Decoration, EditorView, keymap, Prec, StateEffect, StateField, WidgetType } from "./codemirror.js";

export const setGhost = StateEffect.define();

class Ghost extends WidgetType {
  constructor(text) {
    super();
    this.text = text;
  }

  eq(other) {
    return other.text === this.text;
  }

  get lineBreaks() {
    return this.text.split("\n").length - 1;
  }

  toDOM() {
    const span = document.createElement("span");
    span.className = "ghost";
    span.ariaHidden = "true"; // it is announced when it is whole
    span.textContent = this.text;
    return span;
  }
}

// What a transaction wrote at a place and nowhere else; null for anything else.
function typedAt(transaction, from) {
  const changes = [];
  transaction.changes.iterChanges((start, end, _newStart, _newEnd, text) => changes.push({ start, end, text }));
  const [only] = changes;
  return changes.length === 1 && only.start === from && only.end === from ? only.text.toString() : null;
}

// Text typed as the ghost has it takes it off the ghost; any other change, and the cursor elsewhere, dismisses it.
function next(ghost, transaction) {
  for (const effect of transaction.effects) if (effect.is(setGhost)) return effect.value;
  if (!ghost) return null;
  if (transaction.docChanged) {
    const typed = typedAt(transaction, ghost.from);
    if (!typed || !ghost.text.startsWith(typed) || typed.length === ghost.text.length) return null;
    return { from: ghost.from + typed.length, text: ghost.text.slice(typed.length) };
  }
  const { main } = transaction.state.selection;
  return main.empty && main.head === ghost.from ? ghost : null;
}

export const ghostField = StateField.define({
  create: () => null,
  update: next,
  provide: (field) =>
    EditorView.decorations.from(field, (ghost) =>
      ghost
        ? Decoration.set(Decoration.widget({ widget: new Ghost(ghost.text), side: 1 }).range(ghost.from))
        : Decoration.none,
    ),
});

function take(view, pattern) {
  const ghost = view.state.field(ghostField);
  if (!ghost) return false;
  const text = ghost.text.match(pattern)[0];
  const head = ghost.from + text.length;
  view.dispatch({
    changes: { from: ghost.from, insert: text },
    selection: { anchor: head },
    userEvent: "input.complete",
    scrollIntoView: true,
  });
  return true;
}

export function ghostText({ ask, dismiss }) {
  const word = (view) => take(view, /^\s*(?:[\p{L}\p{N}_]+|[^\p{L}\p{N}_\s]+|$)/u);
  const keys = [
    { key: "Tab", run: (view) => take(view, /^[^]*$/) },
    { key: "Ctrl-ArrowRight", mac: "Alt-ArrowRight", run: word },
    {
      key: "Escape",
      run: (view) => {
        if (!view.state.field(ghostField)) return false;
        dismiss();
        return true;
      },
    },
    { key: "Alt-\\", run: () => (ask(), true) },
  ];
  return [ghostField, Prec.highest(keymap.of(keys))];
}
