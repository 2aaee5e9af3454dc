"""Type inference: annotations taken out of held-out functions and recovered by infilling.

The model sees the file around the place, its other annotations among it. Exact match counts spellings of one type as
one: `Optional[X]` and `X | None`, `List[X]` and `list[X]`, members of a union in any order.
"""

from __future__ import annotations

import ast
from functools import partial
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from codecria.common.errors import CodecriaError
from codecria.common.random import digest
from codecria.evaluation.data import MissingDataError
from codecria.evaluation.protocol import Protocol, TaskRecipe
from codecria.evaluation.samples import Sample
from codecria.evaluation.task import Given, Group, Task, in_groups
from codecria.generation.applications.annotate import Place, places, recover
from codecria.generation.applications.source import Source

if TYPE_CHECKING:
    from collections.abc import Iterable

    from codecria.corpus.document import Document
    from codecria.evaluation.judge import Judge
    from codecria.evaluation.subject import Subject

_METHOD = "infill"
MEASURES = ("exact_match", "answered")
PAPER = Protocol(
    "paper",
    "the paper's use of infilling; Fried et al. 2022, section 4.4, for return types",
    "the file around the place, up to 8,000 characters on each side, without that annotation",
    "the line's end, or the end marker",
    "the output's first annotation; one that cannot stand at the place counts as no answer",
    "exact match of the type, spellings of one type alike; no answer counts as wrong",
    "greedy, 32 tokens; with `samples` above 0 the most frequent of these and the greedy one",
)


class TypeInferenceRecipe(TaskRecipe):
    """How types are asked for.

    Attributes:
        items: annotations, drawn by key.
        per_file: most annotations of one file.
        samples: texts drawn beside the most probable one, which vote with it.
        group_items: annotations of a group, the unit of resuming.
    """

    protocols: ClassVar[tuple[Protocol, ...]] = (PAPER,)

    items: Annotated[int, Field(ge=1)] = 300
    per_file: Annotated[int, Field(ge=1)] = 4
    samples: Annotated[int, Field(ge=0)] = 0
    group_items: Annotated[int, Field(ge=1)] = 32


def annotated_places(
    documents: Iterable[Document], seed: int, items: int, per_file: int
) -> list[tuple[str, Source, Place, str]]:
    """Name, file, place and annotation, drawn by key: first the files, then places of each."""
    chosen = [each for each in documents if each.kind == "code" and each.language == "Python"]
    chosen.sort(key=lambda document: digest("type file", seed, document.content_hash))
    found: list[tuple[str, Source, Place, str]] = []
    for document in chosen:
        try:
            source = Source(document.text, document.path)
        except CodecriaError:
            continue
        held = [place for place in places(source) if place.start < place.stop]
        held.sort(key=lambda place: digest("type", seed, document.content_hash, place.start))
        for place in held[:per_file]:
            told = source.text[place.start : place.stop].strip().removeprefix(":").removeprefix("->").strip()
            name = f"{document.content_hash[:16]}/{source.definitions[place.definition].name}/{place.name}"
            found.append((name, source, place, told))
        if len(found) >= items:
            break
    return found[:items]


def normal_type(annotation: str) -> str:
    """One spelling for each type; the text itself where it does not parse."""
    try:
        node = ast.parse(annotation.strip().strip("\"'"), mode="eval").body
    except (SyntaxError, ValueError):
        return annotation.strip()
    return _spell(node)


def _spell(node: ast.expr) -> str:
    match node:
        case ast.Attribute(ast.Name("typing" | "t" | "collections"), name):
            return _spell(ast.Name(name))
        case ast.Name("List" | "Dict" | "Set" | "Tuple" | "FrozenSet" | "Type" as name):
            return name.lower()
        case ast.Subscript(value, index):
            outer = _spell(value)
            parts = [_spell(part) for part in (index.elts if isinstance(index, ast.Tuple) else [index])]
            if outer in ("Optional", "Union"):
                return _union([*parts, *(["None"] if outer == "Optional" else [])])
            return f"{outer}[{', '.join(parts)}]"
        case ast.BinOp(left, ast.BitOr(), right):
            return _union([_spell(left), _spell(right)])
        case ast.Constant(str() as text):
            return normal_type(text)
        case _:
            return ast.unparse(node)


def _union(parts: list[str]) -> str:
    return " | ".join(sorted({each for part in parts for each in part.split(" | ")}))


def _run(
    subject: Subject,
    _judge: Judge,
    items: list[tuple[str, Source, Place, str]],
    recipe: TypeInferenceRecipe,
    seed: int,
) -> list[Sample]:
    if subject.sentinels is None:
        reason = "the model has no infill markers"
        return [Sample(TASK.name, _METHOD, name, not_run=dict.fromkeys(MEASURES, reason)) for name, *_ in items]
    generator = subject.fresh()
    rows: list[Sample] = []
    for name, source, place, told in items:
        found = recover(generator, source, place, samples=recipe.samples, seed=seed)
        right = found is not None and normal_type(found) == normal_type(told)
        measures = {"exact_match": float(right), "answered": float(found is not None)}
        line = source.text[: place.start].rpartition("\n")[2]
        context = {"prefix": line, "truth": told, "suffix": source.text[place.stop :].partition("\n")[0]}
        rows.append(Sample(TASK.name, _METHOD, name, outputs=[found or ""], measures=measures, context=context))
    return rows


def _groups(recipe: TypeInferenceRecipe, given: Given) -> list[Group]:
    held = annotated_places(given.held_out(), given.seed, recipe.items, recipe.per_file)
    if not held:
        raise MissingDataError("the corpus holds out no annotated Python", where=given.corpus)
    return in_groups(f"{TASK.name}-{_METHOD}", held, recipe.group_items, partial(_run, recipe=recipe, seed=given.seed))


TASK = Task(
    name="type_inference",
    recipe=TypeInferenceRecipe,
    groups=_groups,
    about="types of parameters and returns, taken out of held-out functions",
    titles={"type_inference": "Type inference (held-out functions, stand-in)"},
    headline="exact_match",
    needs_corpus=True,
)
