r"""HumanEval: write a function from its signature and docstring, and run its tests (Chen et al. 2021).

Users of Code Llama 7B's weights found 28.7 to 31.1 where the paper has 33.5. Their harness strips the prompt's last
line end and stops at more strings; the paper's authors advise the unstripped prompt (meta-llama/codellama#104). Both
are protocols here.

By the paper's protocol the line end that closes the prompt is healed (`infill/heal.py`). With Llama's tokenizer that
changes nothing; without it SmolLM2, whose tokenizer joins a line end and an indentation, wrote a function's body for
none of the first 8 problems.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from codecria.evaluation.answers import fenced_block, one_block
from codecria.evaluation.plots import pass_by_temperature
from codecria.evaluation.programs import Item, SampledRecipe, program_groups
from codecria.evaluation.protocol import Protocol
from codecria.evaluation.subject import Asked
from codecria.evaluation.task import Given, Group, Task
from codecria.evaluation.tasks.problems import HUMAN_EVAL, Problem, load_problems
from codecria.sandbox.verdict import Program

if TYPE_CHECKING:
    from collections.abc import Sequence

STOP = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
"""Chen et al. 2021, section 3.2."""
HARNESS_STOP = (*STOP, "\n@", "\n```", "<file_sep>")
"""Of bigcode-evaluation-harness, at 01762fc."""

_SCORING = "the program passes check(entry_point); pass@k without bias"
PAPER = Protocol(
    "paper",
    "Code Llama, Table 2",
    "signature and docstring as published, its last line end kept (and healed)",
    f"{STOP}, or an end id",
    "the output at the first stop string; no prompt is cut",
    _SCORING,
    "greedy for pass@1; 200 samples at T=0.8, top-p 0.95 for pass@10 and pass@100; 512 tokens",
    {"stop": STOP, "strip_prompt": False, "heal": True},
)
HARNESS = Protocol(
    "harness",
    "bigcode-evaluation-harness, humaneval",
    "signature and docstring, blanks and line ends taken off both ends; not healed",
    f"{HARNESS_STOP}, or an end id",
    "the output at the first stop string; there prompt and output share 512 tokens, here the output has 512",
    _SCORING,
    "as the caller says; its leaderboard: 50 samples at T=0.2, top-p 0.95",
    {"stop": HARNESS_STOP, "strip_prompt": True, "heal": False},
)
UNSTRIPPED = Protocol(
    "harness-unstripped",
    "bigcode-evaluation-harness, humaneval-unstripped",
    "signature and docstring as published; not healed",
    HARNESS.stop,
    HARNESS.truncation,
    _SCORING,
    HARNESS.sampling,
    {**HARNESS.sets, "strip_prompt": False},
)


INSTRUCT = Protocol(
    "instruct",
    "models tuned on instructions; each harness has words of its own for it",
    "a conversation of one message by the model's template: ask for the whole function in a fenced block",
    "the template's end",
    "the first fenced block is the program; an answer without one fails",
    f"{_SCORING}; share of answers with exactly one block of code that parses",
    PAPER.sampling,
    {"chat": True, "max_tokens": 1024},
)
WORDS = (
    "Complete this Python function. Answer with the whole function, its imports included, in one fenced code block.\n\n"
    "```python\n{prompt}```"
)


class HumanEvalRecipe(SampledRecipe):
    """How HumanEval is run.

    Attributes:
        strip_prompt: whether blanks and line ends are taken off the prompt's ends, in the program too.
        chat: whether it is asked in a conversation.
    """

    protocols: ClassVar[tuple[Protocol, ...]] = (PAPER, HARNESS, UNSTRIPPED, INSTRUCT)

    strip_prompt: bool = False
    chat: bool = False


def problem_items(problems: Sequence[Problem], recipe: HumanEvalRecipe) -> list[Item]:
    """Problems of HumanEval's form as programs to be written."""
    make = _answered if recipe.chat else _completed
    return [make(each, each.prompt.strip() if recipe.strip_prompt else each.prompt) for each in problems]


def _completed(problem: Problem, prompt: str) -> Item:
    def program(text: str) -> Program:
        return Program(prompt + text, problem.test, problem.entry_point)

    return Item(problem.task_id, Asked(prompt=prompt), program, context={"prompt": prompt})


def _answered(problem: Problem, prompt: str) -> Item:
    def program(text: str) -> Program | None:
        block = fenced_block(text)
        return None if block is None else Program(block, problem.test, problem.entry_point)

    words = WORDS.format(prompt=prompt if prompt.endswith("\n") else f"{prompt}\n")
    asked = Asked(messages=[{"role": "user", "content": words}])
    return Item(problem.task_id, asked, program, context={"prompt": words}, more=one_block)


def _groups(recipe: HumanEvalRecipe, given: Given) -> list[Group]:
    problems = load_problems(given.data.find(HUMAN_EVAL).path)
    return program_groups(TASK.name, problem_items(problems, recipe), recipe, given.seed)


TASK = Task(
    name="human_eval",
    recipe=HumanEvalRecipe,
    groups=_groups,
    about="a function from its signature and docstring, run against its tests",
    titles={"human_eval": "HumanEval"},
    headline="pass@1",
    data=(HUMAN_EVAL,),
    plot=pass_by_temperature,
)
