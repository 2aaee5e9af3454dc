from codecria.instruct.neighbours import neighbours
from codecria.instruct.question import Place

MODULE = '''
def first(values):
    """The first of them.

    >>> first([1, 2])
    1
    """
    return values[0]


def second(values):
    """The second of them."""
    return values[1]


class Pair:
    """Two values."""

    def __init__(self, left, right):
        self.left = left
        self.right = right

    def swap(self):
        return Pair(self.right, self.left)

    @property
    def total(self):
        """Both together.

        What else is said here is left out.
        """
        return self.left + self.right

    def long(self):
        return "LONG"
'''.replace("LONG", "x" * 700)

SECOND = 'def second(values):\n    """The second of them."""\n    return values[1]\n\n\n'
FIRST = 'def first(values):\n    """The first of them."""\n    return values[0]\n\n\n'
MAKER = "def __init__(self, left, right):\n    self.left = left\n    self.right = right\n\n\n"
TOTAL = '@property\ndef total(self):\n    """Both together."""\n    return self.left + self.right\n\n\n'


def shown(tmp_path, name, characters):
    (tmp_path / "small").mkdir(exist_ok=True)
    (tmp_path / "small" / "__init__.py").write_text(MODULE)
    return neighbours([tmp_path / "none", tmp_path], Place("small", name), characters)


def test_the_functions_around_it_with_one_line_of_docstring_and_never_itself(tmp_path):
    assert shown(tmp_path, "first", 1000) == SECOND
    assert shown(tmp_path, "second", 1000) == FIRST
    assert shown(tmp_path, "second", 20) == ""


def test_of_a_class_what_makes_it_comes_first_and_long_ones_are_left_out(tmp_path):
    assert shown(tmp_path, "Pair.long", 1000).startswith(MAKER)
    assert shown(tmp_path, "Pair.long", 100) == MAKER
    assert shown(tmp_path, "Pair.swap", 1000) == MAKER + TOTAL


def test_what_is_not_there_has_none(tmp_path):
    assert shown(tmp_path, "Pair.gone", 1000) == ""
    assert neighbours([tmp_path], Place("gone", "f"), 100) == ""
