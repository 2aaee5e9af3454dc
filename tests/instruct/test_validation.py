from dataclasses import replace

from codecria.instruct.judging import Judged
from codecria.instruct.question import question_of
from codecria.instruct.validation import stubs, validate


def outcome(bench, *questions, **changes):
    given = {"most_mutants": 20, "least_killed": 0.5, "seed": 0} | changes
    return [row.get("dropped") or question_of(row["question"]) for row in validate(questions, bench, bench, **given)]


class Scripted:
    """A bench whose programs time out, or pass if they are the reference; remembers what it ran."""

    def __init__(self, times_out):
        self.times_out, self.ran = times_out, []

    def run(self, pairs, **_every):
        self.ran += [solution for _, solution in pairs]
        if self.times_out:
            return [Judged("timeout", ()) for _ in pairs]
        return [Judged("passed" if code == question.reference else "failed", (), calls=1) for question, code in pairs]


def test_good_tests_are_kept_and_how_many_mutants_they_caught_is_told(bench, questions):
    (kept,) = outcome(bench, questions["clamp"])
    assert kept == replace(questions["clamp"], killed=kept.killed, mutants=kept.mutants)
    assert kept.mutants >= 2 and kept.killed >= kept.mutants / 2


def test_tests_that_mutants_pass_are_too_weak(bench, questions):
    weak = replace(questions["clamp"], tests=questions["clamp"].tests[:1])  # only the upper end is tried
    assert outcome(bench, weak, least_killed=1.0) == ["mutants pass"]
    (kept,) = outcome(bench, weak, least_killed=0.1)
    assert 0 < kept.killed < kept.mutants


def test_each_reason_is_told_and_the_order_is_kept(bench, questions):
    found = outcome(bench, *(questions[name] for name in ("loud", "wrong", "halves", "Pile.top")))
    assert found[:2] == ["a stub passes", "the reference fails in its place"]
    assert [each.place.name for each in found[2:3]] == ["halves"]
    assert found[3] == "nothing to mutate" or found[3].place.name == "Pile.top"


def test_a_test_that_is_out_of_date_is_taken_out(bench, questions):
    (kept,) = outcome(bench, questions["partly"])
    assert kept.tests == (questions["partly"].tests[0], questions["partly"].tests[2])


def test_a_suite_that_fails_as_a_whole_costs_the_examples_nothing(bench, questions):
    leaving = replace(questions["halves"], tests=(*questions["halves"].tests, "import sys\nsys.exit()"))
    (kept,) = outcome(bench, leaving)
    assert kept.tests == questions["halves"].tests


def test_wrong_versions_have_as_little_time_as_the_reference_gets_along_with(questions):
    question = questions["clamp"]
    for slow in (False, True):
        quick, bench = Scripted(times_out=slow), Scripted(times_out=False)
        (row,) = validate([question], bench, quick, most_mutants=3, least_killed=1.0, seed=0)
        assert question_of(row["question"]).killed == 3
        assert quick.ran[0] == question.reference
        used, other = (bench, quick) if slow else (quick, bench)
        assert len(used.ran) == 1 + len(stubs(question)) + 3 and other.ran == quick.ran[:1] * slow


def test_stubs_give_nothing_the_first_argument_and_what_every_test_speaks_of(questions):
    first, *others = stubs(questions["loud"])
    assert first.endswith("return None\n")
    assert [each.rpartition("return ")[2].strip() for each in others] == ["True", "text"]
