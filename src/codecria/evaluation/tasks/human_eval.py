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


class HumanEvalRecipe(SampledRecipe):
    """How HumanEval is run.

    Attributes:
        strip_prompt: whether blanks and line ends are taken off the prompt's ends, in the program too.
    """

    protocols: ClassVar[tuple[Protocol, ...]] = (PAPER, HARNESS, UNSTRIPPED)

    strip_prompt: bool = False


def problem_items(problems: Sequence[Problem], strip_prompt: bool) -> list[Item]:
    """Problems of HumanEval's form as programs to be written."""
    return [_item(problem, problem.prompt.strip() if strip_prompt else problem.prompt) for problem in problems]


def _item(problem: Problem, prompt: str) -> Item:
    def program(text: str) -> Program:
        return Program(prompt + text, problem.test, problem.entry_point)

    return Item(problem.task_id, Asked(prompt=prompt), program, context={"prompt": prompt})


def _groups(recipe: HumanEvalRecipe, given: Given) -> list[Group]:
    problems = load_problems(given.data.find(HUMAN_EVAL).path)
    return program_groups(TASK.name, problem_items(problems, recipe.strip_prompt), recipe, given.seed)


TASK = Task(
    name="human_eval",
    recipe=HumanEvalRecipe,
    groups=_groups,
    about="a function from its signature and docstring, run against its tests",
    titles={"human_eval": "HumanEval"},
    headline="pass@1",
    data=(HUMAN_EVAL,),
)
