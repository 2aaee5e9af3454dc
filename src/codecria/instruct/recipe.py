"""A self-instruct run's recipe."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from codecria.common.recipe import Recipe
from codecria.corpus.decontaminate import DecontaminationRecipe
from codecria.corpus.near_duplicates import NearDuplicateRecipe
from codecria.instruct.generators import Count, GeneratorRecipe, SamplingRecipe

Share = Annotated[float, Field(ge=0, le=1)]


class MinedRecipe(Recipe):
    """Functions with doctests, or tests in their package's own suite, of real packages.

    Attributes:
        packages: what pip is asked for (`networkx`, `sympy==1.14`); or, with `folder`, distributions that lie there.
        folder: where packages are installed already; absent: pip fetches wheels into the cache.
        methods: methods of classes too, not only functions.
        suites: also tests of the packages' own suites that are about one function alone.
        mutants: wrong versions of each function that its tests are tried on.
        least_killed: share of them that the tests must catch.
        most: only the first so many functions of each package.
    """

    type: Literal["mined"]
    packages: Annotated[tuple[str, ...], Field(min_length=1)]
    folder: str | None = None
    methods: bool = True
    suites: bool = True
    mutants: Count = 4
    least_killed: Share = 0.5
    most: Count | None = None


class TripletsRecipe(Recipe):
    """The questions of a run that is finished, so that what was mined once is asked as often as one likes.

    Attributes:
        run: its folder.
        most: only so many of them.
        order: which of them: drawn by the seed, or those with the shortest references, which are as a rule the easiest.
    """

    type: Literal["triplets"]
    run: str
    most: Count | None = None
    order: Literal["drawn", "shortest"] = "drawn"


class DescribedRecipe(SamplingRecipe):
    """Back-translation: a model describes real functions; solutions are written from its words alone.

    Attributes:
        functions: mined ones, or those of a finished run.
    """

    type: Literal["described"]
    temperature: Annotated[float, Field(ge=0)] = 0.0
    max_tokens: Count = 200
    functions: Annotated[MinedRecipe | TripletsRecipe, Field(discriminator="type")]


class InventedRecipe(SamplingRecipe):
    """Interview questions that a model invents, ten shown (paper §2.5: 62,000 by Llama 2 70B).

    Attributes:
        prompts: how many times it is asked.
        per_prompt: questions asked for each time (the paper: 50).
    """

    type: Literal["invented"]
    prompts: Count = 20
    per_prompt: Count = 50
    max_tokens: Count = 1500


QuestionsRecipe = Annotated[
    MinedRecipe | TripletsRecipe | DescribedRecipe | InventedRecipe, Field(discriminator="type")
]


class TestsRecipe(SamplingRecipe):
    """Tests by a model, for questions that have none.

    Attributes:
        least: tests a question needs after the checks, the shown one among them.
    """

    least: Annotated[int, Field(ge=2)] = 2


class SolutionsRecipe(SamplingRecipe):
    """Solutions of which each sees one test, drawn anew; the rest stay hidden.

    Attributes:
        samples: of each question at most (the paper: 10); none is drawn behind one that passes.
        form: `tags`: the paper's prompt, code between [PYTHON] and [/PYTHON]; `function`: signature and docstring,
            completed, for models that follow no instructions. Questions without a signature are asked by `tags`.
        neighbours: with `function`, so many characters of the functions around a mined one are shown before it, out of
            its own file; itself is never shown. 0 shows none.
    """

    samples: Count = 10
    form: Literal["tags", "function"] = "tags"
    neighbours: Annotated[int, Field(ge=0)] = 0


class SelfInstructRecipe(Recipe):
    """From questions to conversations.

    Attributes:
        generators: the models, by the name that the steps call them.
        questions: where questions come from; sources are joined.
        near_duplicates: how questions that are nearly alike are found; `threshold` is of their words' 5-grams.
        tests: who writes tests; needed where questions are invented.
        solutions: who solves; absent: references are the answers, and questions without one are left out.
        decontamination: evaluation sets that no triplet may hold.
        conversations: files or folders of conversations that are joined to what is made (ShareGPT, messages, Alpaca).
        group: questions that are worked on together; what a killed run repeats.
        workers: programs that run at a time.
        seed: of every draw.
    """

    generators: dict[str, GeneratorRecipe] = Field(default_factory=dict)
    questions: Annotated[tuple[QuestionsRecipe, ...], Field(min_length=1)]
    near_duplicates: NearDuplicateRecipe = NearDuplicateRecipe()
    tests: TestsRecipe | None = None
    solutions: SolutionsRecipe | None = None
    decontamination: DecontaminationRecipe = DecontaminationRecipe()
    conversations: tuple[str, ...] = ()
    group: Count = 32
    workers: Count = 1
    seed: int = 0

    @model_validator(mode="after")
    def _named(self) -> SelfInstructRecipe:
        asked: list[object] = [*self.questions, self.tests, self.solutions]
        for each in asked:
            if isinstance(each, SamplingRecipe) and each.generator not in self.generators:
                known = ", ".join(self.generators) or "none"
                raise ValueError(f"no generator is named '{each.generator}' (there are: {known})")
        if any(each.type == "invented" for each in self.questions) and self.tests is None:
            raise ValueError("invented questions have no tests: say under `tests` who writes them")
        if any(isinstance(each, SamplingRecipe) for each in self.questions) and self.solutions is None:
            raise ValueError("questions of a model have no reference: say under `solutions` who solves them")
        return self
