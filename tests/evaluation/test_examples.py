from __future__ import annotations

from dataclasses import replace

from codecria.evaluation.examples import choose_examples
from codecria.evaluation.samples import Sample


def row(number: int, similarity: float, method: str = "psm") -> Sample:
    return Sample(
        "single_line_corpus",
        method,
        f"0123abcd/L{number}",
        outputs=[f"output {number}"],
        measures={
            "exact_match": float(similarity == 1),
            "edit_similarity": similarity,
            "ended": float(number % 2),
            "bits_per_character": 0.5,
        },
        context={"prefix": "p\n", "truth": f"truth {number}", "suffix": "\ns"},
    )


def test_one_exact_one_near_and_one_far_are_drawn_by_key() -> None:
    rows = [row(number, number / 20) for number in range(21)] + [row(number, 1.0, "spm") for number in range(5)]
    examples = choose_examples(rows, "psm", 0)
    assert [dict(example.figures)["exact match"] for example in examples] == ["yes", "no", "no"]
    assert examples[0].generated == "output 20"
    near, far = (int(example.generated.split()[1]) for example in examples[1:])
    assert 10 <= near < 20 and far < 10
    assert choose_examples(list(reversed(rows)), "psm", 0) == examples
    assert len({tuple(each.title for each in choose_examples(rows, "psm", seed)) for seed in range(8)}) > 1


def test_an_example_says_what_it_is() -> None:
    (example,) = choose_examples([row(3, 1.0)], "psm", 0)
    assert example.title == "Held-out file 0123abcd, line 4"
    assert (example.prefix, example.truth, example.suffix) == ("p\n", "truth 3", "\ns")
    assert dict(example.figures) == {
        "exact match": "yes",
        "edit similarity": "100.0 %",
        "bits per character, middle": "0.500",
    }
    published = replace(
        row(0, 0.5), id="SingleLineInfilling/HumanEval/7/L2", verdicts=[{"status": "passed", "detail": ""}]
    )
    (example,) = choose_examples([published], "psm", 0)
    assert example.title == "HumanEval/7, line 3 of the solution"
    assert dict(example.figures)["tests"] == "passed"
    assert dict(example.figures)["ended"] == "by the limit of tokens"


def test_rows_that_were_not_run_are_no_examples() -> None:
    none = Sample("single_line_corpus", "psm", "all", not_run={"exact_match": "none"})
    assert choose_examples([none], "psm", 0) == []


def test_an_endpoints_line_is_shown_without_the_bits_it_has_not() -> None:
    measures = {name: figure for name, figure in row(3, 0.5).measures.items() if name != "bits_per_character"}
    (example,) = choose_examples([replace(row(3, 0.5), measures=measures)], "psm", 0)
    assert [name for name, _ in example.figures] == ["exact match", "edit similarity"]
