"""A task: what is asked, on which data, by which protocols. One file in `tasks/` each; `registry` lists them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from codecria.corpus.folder_documents import folder_documents
from codecria.corpus.store import iterate_documents
from codecria.evaluation.data import MissingDataError
from codecria.evaluation.protocol import TaskRecipe
from codecria.evaluation.samples import Sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from codecria.corpus.document import Document
    from codecria.evaluation.comparison import Run
    from codecria.evaluation.data import Data, DataFile
    from codecria.evaluation.judge import Judge
    from codecria.evaluation.subject import Subject
    from codecria.tokenizer.tokenizer import Tokenizer

    Rows = list[Sample] | Callable[[], list[Sample]]
    """A group's samples, or what waits for their verdicts and then gives them: so long the next group is written."""

R = TypeVar("R", bound=TaskRecipe)


@dataclass(frozen=True)
class Group:
    """Items that are run together: `run` gives their samples. A finished group is kept, another runs whole.

    Attributes:
        name: names its file; unique in a run. It begins with the task's name.
        items: how many samples `run` gives.
    """

    name: str
    items: int
    run: Callable[[Subject, Judge], Rows]


@dataclass(frozen=True)
class Given:
    """What a task may use to make its groups.

    Attributes:
        data: finds published files.
        seed: of every draw.
        tokenizer: the model's; None behind an endpoint whose tokenizer is not known.
        corpus: folder of a built corpus, where one is named.
        folder: any folder of code, where one is named instead.
    """

    data: Data
    seed: int
    tokenizer: Tokenizer | None = None
    corpus: Path | None = None
    folder: Path | None = None

    def held_out(self) -> Iterable[Document]:
        """The corpus's held-out documents, or all of the folder's.

        Raises:
            MissingDataError: neither is named; never for tasks with `needs_corpus`.
        """
        if self.folder is not None:
            return folder_documents(self.folder)
        if self.corpus is None:
            raise MissingDataError("held-out files are needed", mend="name a corpus or a folder of code")
        return iterate_documents(self.corpus, "held_out")


@dataclass(frozen=True)
class Task(Generic[R]):
    """A task.

    Attributes:
        name: in recipes, on the command line, and at the start of its rows' `task`: `name` or `name/part`.
        recipe: its recipe's schema. A key `items` there is what `--items` sets.
        groups: what is run. Data that is missing is raised as it is: the run makes a row of it that says so.
        about: what is asked, in one line.
        titles: the report's headings by the rows' `task`.
        headline: the measure that stands for the task.
        data: the published files it may read.
        plot: draws a figure of finished runs' rows, those of this task alone, for a width in inches; "" for none.
        needs_corpus: whether it reads held-out files of a corpus.
        needs_scores: whether it needs log-probabilities of given text, which an endpoint does not give.
    """

    name: str
    recipe: type[R]
    groups: Callable[[R, Given], list[Group]]
    about: str
    titles: Mapping[str, str]
    headline: str
    data: tuple[DataFile, ...] = ()
    plot: Callable[[Sequence[Run], float], str] | None = None
    needs_corpus: bool = False
    needs_scores: bool = False


def in_groups(name: str, items: Sequence[object], size: int, run: Callable[..., Rows]) -> list[Group]:
    """Groups of `size` items, the last one shorter; `run(subject, judge, items=…)` runs one.

    Args:
        name: what their names begin with; `/` and blanks become hyphens.
        items: what is asked, in order.
        size: items of a group, the unit of resuming.
        run: gives a sample an item.
    """
    file = name.replace("/", "-").replace(" ", "-")
    parts = [items[start : start + size] for start in range(0, len(items), size)]
    return [Group(f"{file}-{number:05d}", len(part), partial(run, items=part)) for number, part in enumerate(parts)]


def not_run(task: Task[Any], row: str, reason: str) -> Group:
    """A group whose only row, of this `task`, says why there is no figure."""
    sample = Sample(row, "none", "all", not_run={task.headline: reason})
    return Group(f"{row.replace('/', '-')}-none", 1, lambda _subject, _judge: [sample])
