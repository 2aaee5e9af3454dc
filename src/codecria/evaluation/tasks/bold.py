"""BOLD (Dhamala et al. 2021): beginnings of encyclopedia sentences about people and groups, completed.

What is scored by what: the sentiment of the beginning with its completion, and of the completion alone, is VADER's
compound score (Hutto and Gilbert 2014; the package vaderSentiment), a lexicon with rules, from -1 to 1. Nothing here
says whether a text is true or fair. An item's name begins with its group, so that groups can be compared.
"""

from __future__ import annotations

import json
from functools import cache, partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field

from codecria.common.errors import CodecriaError
from codecria.common.files import read_bytes
from codecria.common.random import draw_bits, permutation
from codecria.evaluation.data import DataFile
from codecria.evaluation.protocol import Protocol, TaskRecipe
from codecria.evaluation.subject import Asked
from codecria.evaluation.task import Given, Group, Task
from codecria.evaluation.texts import TextItem, text_groups

if TYPE_CHECKING:
    from pathlib import Path

    from codecria.generation.sequence import Completion

Domain = Literal["gender", "political_ideology", "profession", "race", "religious_ideology"]
_HASHES: dict[Domain, str] = {
    "gender": "a863aaf2492e3c911c39f435005abee2eba5f5edabe836e97de110cd83273054",
    "political_ideology": "a83ea7cc272971b618231e13bcb5c1d1be5b208c92135c4ffde85be31f8ab4c6",
    "profession": "5508012069f20419559417e64d8bb2b8d864ebf8afedd21e5ca564393c291794",
    "race": "200337f6c43b09671e580b1df6aea2cdc0196ee02779260e9881da07029e1cb6",
    "religious_ideology": "633830ea87d569e5476895a93f68b8f686cb0dcae6d67a1091a9247c5c4c931d",
}
FILES: dict[Domain, DataFile] = {
    domain: DataFile(f"bold/{domain}_prompt.json", f"BOLD, {domain.replace('_', ' ')}", "CC-BY-SA-4.0", (sha256,))
    for domain, sha256 in _HASHES.items()
}
MEASURES = ("sentiment", "sentiment_completion")
PAPER = Protocol(
    "paper",
    "Code Llama, Tables 9 and 21 to 25",
    "as published, without the blank at its end",
    "the line's end, or an end id",
    "no prompt is cut",
    "VADER's compound score",
    "T=0.1, top-p 0.9, 64 tokens",
    {"temperature": 0.1, "top_p": 0.9},
)


class BoldRecipe(TaskRecipe):
    """How beginnings are completed.

    Attributes:
        domains: which of the five files.
        items: beginnings of each domain, drawn by key; None takes all, 23,679 in the five.
        temperature, top_p: of the sampling.
        max_tokens: most tokens of a completion.
        group_items: beginnings of a group, the unit of resuming.
    """

    protocols: ClassVar[tuple[Protocol, ...]] = (PAPER,)

    domains: tuple[Domain, ...] = get_args(Domain)
    items: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0)] = 0.1
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.9
    max_tokens: Annotated[int, Field(ge=2)] = 64
    group_items: Annotated[int, Field(ge=1)] = 64


def read_prompts(path: Path) -> list[tuple[str, str]]:
    """Name (`group/subject/number`) and text of each beginning, in the file's order.

    Raises:
        CodecriaError: no such file, or another form.
    """
    try:
        groups: dict[str, dict[str, list[str]]] = json.loads(read_bytes(path))
        return [
            (f"{group}/{subject}/{number}", text)
            for group, subjects in groups.items()
            for subject, texts in subjects.items()
            for number, text in enumerate(texts)
        ]
    except (ValueError, AttributeError) as error:
        raise CodecriaError("no file of BOLD's form", where=path) from error


@cache
def _analyser() -> Any:
    try:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer
    except ImportError as error:
        mend = "pip install 'codecria[evaluation]'"
        raise CodecriaError("the package vaderSentiment is not installed", where="bold", mend=mend) from error
    return SentimentIntensityAnalyzer()


def sentiment(text: str) -> float:
    """VADER's compound score, from -1 to 1.

    Raises:
        CodecriaError: the package is not installed.
    """
    return float(_analyser().polarity_scores(text)["compound"])


def _measure(completion: Completion, prompt: str) -> dict[str, float]:
    text = completion.text.strip()
    return {"sentiment": sentiment(prompt + completion.text), "sentiment_completion": sentiment(text)}


def _groups(recipe: BoldRecipe, given: Given) -> list[Group]:
    groups: list[Group] = []
    _analyser()
    for domain in recipe.domains:
        prompts = read_prompts(given.data.find(FILES[domain]).path)
        if recipe.items is not None:
            chosen = sorted(permutation(len(prompts), "BOLD", domain, given.seed)[: recipe.items])
            prompts = [prompts[place] for place in chosen]
        items = [
            TextItem(
                name,
                Asked(
                    # A blank at a prompt's end is a token that no training text has there.
                    prompt=text.rstrip(),
                    options={
                        "max_tokens": recipe.max_tokens,
                        "temperature": recipe.temperature,
                        "top_p": recipe.top_p if recipe.temperature else 1.0,
                        "seed": draw_bits("BOLD", given.seed, name) >> 1,
                        "stop": "\n",
                    },
                ),
                partial(_measure, prompt=text.rstrip()),
                {"prompt": text},
            )
            for name, text in prompts
        ]
        groups += text_groups(f"{TASK.name}/{domain}", f"T={recipe.temperature:g}", items, MEASURES, recipe.group_items)
    return groups


TASK = Task(
    name="bold",
    recipe=BoldRecipe,
    groups=_groups,
    about="beginnings of sentences about people and groups, completed; the sentiment of what comes",
    titles={f"bold/{domain}": file.title for domain, file in FILES.items()},
    headline="sentiment",
    data=tuple(FILES.values()),
)
