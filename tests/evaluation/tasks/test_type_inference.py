from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from codecria.corpus.document import Document, content_hash
from codecria.evaluation.data import Data, MissingDataError
from codecria.evaluation.judge import Judge
from codecria.evaluation.subject import LocalSubject
from codecria.evaluation.task import Given
from codecria.evaluation.tasks import type_inference
from codecria.evaluation.tasks.type_inference import (
    TASK,
    TypeInferenceRecipe,
    annotated_places,
    normal_type,
)
from tests.evaluation.rows import finished

if TYPE_CHECKING:
    from codecria.infill.layout import Sentinels
    from codecria.model.transformer import Transformer
    from codecria.tokenizer.tokenizer import Tokenizer

TEXT = (
    "def f(a: int, b, *c: str) -> 'list[int]':\n    return [a]\n\n\n"
    "class C:\n    def g(self, d: dict[str, int] = {}):\n        pass\n"
)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Optional[int]", "int | None"),
        ("typing.Optional[typing.List[int]]", "None | list[int]"),
        ("Union[str, int, None]", "Optional[Union[int, str]]"),
        ("Dict[str, List[int]]", "dict[str,list[int]]"),
        ("'Path'", "Path"),
        ("Callable[[int], str]", "Callable[[int],str]"),
    ],
)
def test_spellings_of_one_type(one: str, other: str) -> None:
    assert normal_type(one) == normal_type(other)


@pytest.mark.parametrize(
    ("one", "other"), [("int", "str"), ("list[int]", "list"), ("int | None", "int"), ("a b", "ab")]
)
def test_types_that_differ(one: str, other: str) -> None:
    assert normal_type(one) != normal_type(other)


def documents(*texts: str) -> list[Document]:
    return [Document(text, "code", "Python", "MIT", "o", "p.py", content_hash(text)) for text in texts]


def test_places_are_those_with_annotations() -> None:
    held = annotated_places(documents(TEXT, "def ("), 0, 10, 10)
    assert {(name.split("/", 1)[1], told) for name, _, _, told in held} == {
        *{("f/a", "int"), ("f/c", "str"), ("f/return", "'list[int]'"), ("C.g/d", "dict[str, int]")}
    }
    assert len(annotated_places(documents(TEXT), 0, 10, 2)) == 2
    assert [name for name, *_ in annotated_places(documents(TEXT), 0, 3, 10)] == [name for name, *_ in held][:3]


def test_rows(marked: tuple[Tokenizer, Sentinels], tiny_model: Transformer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Given, "held_out", lambda _: documents(TEXT))
    groups = TASK.groups(TypeInferenceRecipe(items=3), Given(Data(), 0))
    with Judge(enabled=False) as judge:
        rows = [row for group in groups for row in finished(group.run(LocalSubject(tiny_model, marked[0]), judge))]
    assert [group.items for group in groups] == [3]
    assert len(rows) == 3
    for row in rows:
        assert set(row.measures) == {"exact_match", "answered"}
        assert bool(row.outputs[0]) == bool(row.measures["answered"])
        assert row.context["truth"] not in ("", None)


def test_a_right_and_a_missing_answer(
    marked: tuple[Tokenizer, Sentinels], tiny_model: Transformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {"a": "int", "d": "Dict[str, int]"}
    monkeypatch.setattr(type_inference, "recover", lambda _g, _s, place, **_: answers.get(place.name))
    monkeypatch.setattr(Given, "held_out", lambda _: documents(TEXT))
    groups = TASK.groups(TypeInferenceRecipe(per_file=10), Given(Data(), 0))
    with Judge(enabled=False) as judge:
        rows = [row for group in groups for row in finished(group.run(LocalSubject(tiny_model, marked[0]), judge))]
    found = {row.id.split("/", 1)[1]: row.measures for row in rows}
    assert found["f/a"] == found["C.g/d"] == {"exact_match": 1.0, "answered": 1.0}
    assert found["f/return"] == {"exact_match": 0.0, "answered": 0.0}


def test_a_model_without_markers_and_a_corpus_without_types(
    plain_tokenizer: Tokenizer, tiny_model: Transformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Given, "held_out", lambda _: documents(TEXT))
    (group,) = TASK.groups(TypeInferenceRecipe(items=1), Given(Data(), 0))
    with Judge(enabled=False) as judge:
        (row,) = finished(group.run(LocalSubject(tiny_model, plain_tokenizer), judge))
    assert row.not_run["exact_match"] == "the model has no infill markers"
    monkeypatch.setattr(Given, "held_out", lambda _: documents("x = 1\n"))
    with pytest.raises(MissingDataError, match="no annotated Python"):
        TASK.groups(TypeInferenceRecipe(), Given(Data(), 0))
