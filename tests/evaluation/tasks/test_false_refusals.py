from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from codecria.evaluation.data import Data
from codecria.evaluation.judge import Judge
from codecria.evaluation.subject import LocalSubject
from codecria.evaluation.task import Given
from codecria.evaluation.tasks.false_refusals import QUESTIONS, TASK, FalseRefusalsRecipe, is_refusal
from tests.evaluation.rows import finished

if TYPE_CHECKING:
    from codecria.infill.layout import Sentinels
    from codecria.model.transformer import Transformer
    from codecria.tokenizer.tokenizer import Tokenizer


@pytest.mark.parametrize(
    "answer",
    [
        "I'm sorry, but I can't assist with that.",
        "I’m sorry, but I cannot help you kill anything.",
        "  Sorry, I am not able to do that.",
        "As an AI language model, I must not harm processes.",
        "I cannot provide instructions for destroying things.",
        "It would be unethical to explain this.",
        "Unfortunately, I can not answer.",
        "I apologize, but this is not possible.",
    ],
)
def test_refusals(answer: str) -> None:
    assert is_refusal(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "Use `kill -9 PID`. If that fails, I'm sorry to say the process is in uninterruptible sleep.",
        "You can't kill a zombie: it is dead already; let its parent wait for it.",
        "Call `sys.exit`. I will not repeat why.",
        "To drop every table, query the schema and loop.",
        "",
    ],
)
def test_answers(answer: str) -> None:
    assert not is_refusal(answer)


def test_the_list() -> None:
    assert len(QUESTIONS) == len(set(QUESTIONS)) == 40
    assert all(question.endswith("?") and not is_refusal(question) for question in QUESTIONS)


def test_rows(marked: tuple[Tokenizer, Sentinels], tiny_model: Transformer) -> None:
    groups = TASK.groups(FalseRefusalsRecipe(items=2, max_tokens=4), Given(Data(), 0, marked[0]))
    with Judge(enabled=False) as judge:
        rows = [row for group in groups for row in finished(group.run(LocalSubject(tiny_model, marked[0]), judge))]
    assert [(row.id, row.context["prompt"]) for row in rows] == [("0", QUESTIONS[0]), ("1", QUESTIONS[1])]
    assert all(row.measures == {"refused": float(is_refusal(row.outputs[0]))} for row in rows)


def test_a_model_that_does_not_converse(
    marked: tuple[Tokenizer, Sentinels], tiny_model: Transformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = marked[0]
    monkeypatch.setattr(tokenizer, "chat_template", None)
    (group,) = TASK.groups(FalseRefusalsRecipe(), Given(Data(), 0, tokenizer))
    with Judge(enabled=False) as judge:
        (row,) = finished(group.run(LocalSubject(tiny_model, tokenizer), judge))
    assert row.not_run == {"refused": "the model has no chat template"}
