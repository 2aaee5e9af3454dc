r"""MultiPL-E: HumanEval and MBPP translated (Cassano et al. 2022), built and run with each language's own tools.

A program is prompt + completion + line end + tests. MultiPL-E passes it if it ends with status 0; here it must also
reach its last test (`sandbox/languages.py`), so a figure may be lower than a published one by the programs that leave
early: their verdict says "ended (status 0) before the tests were done". The prompt's last line end is healed, as in
`human_eval`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from codecria.common.errors import CodecriaError
from codecria.evaluation.data import DataFile, MissingDataError, complete_rows
from codecria.evaluation.programs import Item, SampledRecipe, program_groups
from codecria.evaluation.protocol import Protocol
from codecria.evaluation.samples import Sample
from codecria.evaluation.subject import Asked
from codecria.evaluation.task import Given, Group, Task
from codecria.sandbox import LANGUAGES, Source
from codecria.sandbox.toolchains import find_toolchain

if TYPE_CHECKING:
    from pathlib import Path

Benchmark = Literal["humaneval", "mbpp"]
LanguageName = Literal["cpp", "java", "php", "ts", "cs", "sh", "js"]
PAPER_LANGUAGES: tuple[LanguageName, ...] = ("cpp", "java", "php", "ts", "cs", "sh")

_HASHES = {
    "humaneval-cpp": "a1a0796d028d53cd385cb295e906f57b721181a6152ebbec9fa4efaae126c82c",
    "humaneval-java": "6250789eb51e9f9463f750d3a228e13657cde5ca2a5fd2af0189161624a72482",
    "humaneval-php": "5e974c19d5c6285f3c8adb880c5bffc08af30bf3e148d6a2069d8ae340c39172",
    "humaneval-ts": "02b891d976ec6496de73781d6c65742a027f77537b808d74173c4411731dc127",
    "humaneval-cs": "396274e55ea86aea17336068e2b9ea8805c0cc16e795a6b4b894fc1707af24d7",
    "humaneval-sh": "339613e446df07743cb05fb70328d20e4f0819fc66169291c5f7cc48a65bc8c7",
    "humaneval-js": "5faa6c748fef5834526292b176ac6097b8feddc10002006fd49f12e4d193746f",
    "mbpp-cpp": "622a2eb6493dc0c78396553cb1575c390f1564f5027963f0322a921167f649d4",
    "mbpp-java": "d3c96f91cde77df5a905627c96fd335b4f6d0a86404b4a91552ab69b496d4f1a",
    "mbpp-php": "55fecac3542f036085601cde50958db3eaa047acb875a8f2b6d703afff877bbe",
    "mbpp-ts": "be4cc88629a6af686d61ab26e88cf35c16b6d7dcfcf3cf54315aa1eb575b8d8d",
    "mbpp-cs": "8492366020e50f73ef5805dff2d41630053f6f0968c95837e63e4574ac1ada86",
    "mbpp-sh": "115c836edcd734e6beb3eed7c912eef51acce45d46916be92b8fdc89df135cf6",
}
FILES = {
    (benchmark, language): DataFile(
        f"multipl_e/{benchmark}-{language}.jsonl",
        f"MultiPL-E {'HumanEval' if benchmark == 'humaneval' else 'MBPP'}, {LANGUAGES[language].title}",
        "BSD-3-Clause with a fourth clause: not to be trained on",
        tuple(filter(None, [_HASHES.get(f"{benchmark}-{language}")])),
    )
    for benchmark in get_args(Benchmark)
    for language in get_args(LanguageName)
}
_FIELDS = ("name", "language", "prompt", "tests", "stop_tokens")
_SCORING = "it builds, ends with status 0 and reaches its last test; pass@k without bias"
PAPER = Protocol(
    "paper",
    "Code Llama, Table 4",
    "as published, its last line end kept (and healed)",
    "the row's own stop tokens, or an end id",
    "the output at the first stop token; no prompt is cut",
    _SCORING,
    "greedy, 512 tokens",
    {"strip_prompt": False, "heal": True},
)
HARNESS = Protocol(
    "harness",
    "bigcode-evaluation-harness, multiple-*",
    "blanks and line ends taken off both ends; not healed",
    "the row's own stop tokens and <file_sep>, or an end id",
    PAPER.truncation,
    f"{_SCORING}; there, status 0 alone",
    "as the caller says; its leaderboard: 50 samples at T=0.2, top-p 0.95",
    {"strip_prompt": True, "heal": False, "stop": ("<file_sep>",)},
)


class MultiplERecipe(SampledRecipe):
    """How MultiPL-E is run.

    Attributes:
        benchmarks: what was translated.
        languages: into what. The paper's six and JavaScript by default.
        strip_prompt: whether blanks and line ends are taken off the prompt's ends, in the program too.
        stop: strings that end a program besides the row's own.
        items: only the first so many of each language.
    """

    protocols: ClassVar[tuple[Protocol, ...]] = (PAPER, HARNESS)

    benchmarks: tuple[Benchmark, ...] = ("humaneval",)
    languages: tuple[LanguageName, ...] = get_args(LanguageName)
    strip_prompt: bool = False


def read_items(path: Path, language: str, recipe: MultiplERecipe) -> list[Item]:
    """The programs to be written of a published file, in its order.

    Raises:
        CodecriaError: no such file; a row that is no problem, or one in a language that is not run here.
    """
    items: list[Item] = []
    for where, row in complete_rows(path, _FIELDS, "problem"):
        if row["language"] not in LANGUAGES:
            mend = f"languages that are: {', '.join(LANGUAGES)}"
            raise CodecriaError(f"programs in '{row['language']}' are not run here", where=where, mend=mend)
        if row["language"] != language:
            raise CodecriaError(f"a problem in '{row['language']}' among those in '{language}'", where=where)
        prompt = row["prompt"].strip() if recipe.strip_prompt else row["prompt"]
        items.append(_item(row["name"], language, prompt, row["tests"], (*row["stop_tokens"], *recipe.stop)))
    return items


def _item(name: str, language: str, prompt: str, tests: str, stop: tuple[str, ...]) -> Item:
    def program(text: str) -> Source:
        return Source(language, prompt + text, tests)

    return Item(name, Asked(prompt=prompt, options={"stop": stop}), program, context={"prompt": prompt})


def _groups(recipe: MultiplERecipe, given: Given) -> list[Group]:
    return [
        group
        for benchmark in recipe.benchmarks
        for language in recipe.languages
        for group in _language_groups(benchmark, language, recipe, given)
    ]


def _language_groups(benchmark: Benchmark, language: LanguageName, recipe: MultiplERecipe, given: Given) -> list[Group]:
    """The groups of one file; where that or the language's tools are not here, one row that says so."""
    task = f"{TASK.name}/{benchmark}-{language}"
    try:
        find_toolchain(language)
        path = given.data.find(FILES[benchmark, language]).path
    except MissingDataError as error:
        return [_not_run(task, recipe, str(error))]
    except CodecriaError as error:
        if error.where != "sandbox":
            raise
        return [_not_run(task, recipe, str(error))]
    return program_groups(task, read_items(path, language, recipe), recipe, given.seed)


def _not_run(task: str, recipe: MultiplERecipe, reason: str) -> Group:
    row = Sample(task, "none", "all", not_run=dict.fromkeys(recipe.measures, reason))
    return Group(f"{task}-none".replace("/", "-"), 1, lambda _subject, _judge: [row])


TASK = Task(
    name="multipl_e",
    recipe=MultiplERecipe,
    groups=_groups,
    about="HumanEval and MBPP in C++, Java, PHP, TypeScript, C#, shell and JavaScript",
    titles={f"multipl_e/{benchmark}-{language}": file.title for (benchmark, language), file in FILES.items()},
    headline="pass@1",
    data=tuple(FILES.values()),
)
