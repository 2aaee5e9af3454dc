import pytest

from codecria.infill.heal import heal


class Vocabulary:
    TOKENS = (b"", b"def", b" ", b"\n", b"\n    ", b"\n        ", b"ret", b"return", b"\xe2\x82", b"\xac")

    def token_bytes(self, id):
        return self.TOKENS[id]

    def ids_beginning(self, start):
        return [id for id, token in enumerate(self.TOKENS) if token.startswith(start)]


def test_a_line_end_may_become_a_line_end_with_indentation():
    healed = heal(Vocabulary(), [1, 3], "def\n")
    assert healed == ([1], "\n", [3, 4, 5])


def test_a_word_may_go_on():
    healed = heal(Vocabulary(), [3, 6], "\nret")
    assert healed is not None
    assert healed.first_ids == [6, 7]


@pytest.mark.parametrize(("ids", "text"), [([1, 3], ""), ([], "\n"), ([1, 8], "def"), ([1, 0], "def"), ([1, 3], "def")])
def test_nothing_to_heal(ids, text):
    """No text, no ids, half a character, a marker, or ids that are not the text's."""
    assert heal(Vocabulary(), ids, text) is None
