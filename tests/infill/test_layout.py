import gguf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codecria.common.errors import CodecriaError
from codecria.infill.layout import Sentinels, Split, common_length, decode_middle, infill_example, infill_prompt
from codecria.tokenizer.tokenizer import Tokenizer


class Characters:
    """A real, tiny encoder: code points shifted past the special ids, with SentencePiece's dummy space or without."""

    SHIFT = 100

    def __init__(self, dummy_space):
        self.has_dummy_space = dummy_space
        self.bos_ids = [1] if dummy_space else []

    def encode(self, text):
        return self.encode_infilling(" " + text if self.has_dummy_space and text else text)

    def encode_infilling(self, text):
        return [ord(letter) + self.SHIFT for letter in text]

    def token_bytes(self, id):
        return self.decode_infilling([id]).encode()

    def decode(self, ids):
        text = self.decode_infilling(ids)
        return text.removeprefix(" ") if self.has_dummy_space else text

    def decode_infilling(self, ids):
        return "".join(chr(id - self.SHIFT) for id in ids if id >= self.SHIFT)


LLAMA, PLAIN = Characters(True), Characters(False)
CODE_LLAMA = Sentinels(prefix=7, suffix=8, middle=9, end=(10, 2), family="code-llama")
CODESTRAL = Sentinels(prefix=7, suffix=8, middle=None, end=(2,), family="codestral", orders=("spm",))
parts = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=40)


def text_ids(encoder, text):
    return encoder.encode_infilling(text)


def test_psm_and_spm_as_the_released_code_writes_them():
    assert infill_prompt(LLAMA, CODE_LLAMA, "ab", "cd", "psm") == [
        1,
        7,
        *text_ids(LLAMA, " ab"),
        8,
        *text_ids(LLAMA, "cd"),
        9,
    ]
    assert infill_prompt(LLAMA, CODE_LLAMA, "ab", "cd", "spm") == [
        1,
        7,
        8,
        *text_ids(LLAMA, "cd"),
        9,
        *text_ids(LLAMA, " ab"),
    ]
    assert infill_prompt(PLAIN, CODE_LLAMA, "", "", "psm") == [7, 8, 9]


def test_codestral_begins_with_the_suffix_and_has_no_middle_marker():
    assert infill_prompt(PLAIN, CODESTRAL, "ab", "cd", "spm") == [8, *text_ids(PLAIN, "cd"), 7, *text_ids(PLAIN, "ab")]
    with pytest.raises(CodecriaError, match="codestral layout has no PSM order; use SPM"):
        infill_prompt(PLAIN, CODESTRAL, "ab", "cd", "psm")


@given(parts, parts, parts, st.sampled_from([LLAMA, PLAIN]), st.sampled_from(["psm", "spm"]))
def test_an_example_is_its_prompt_then_the_middle_then_the_end(prefix, middle, suffix, encoder, order):
    example = infill_example(encoder, CODE_LLAMA, Split(prefix, middle, suffix), order)
    prompt = infill_prompt(encoder, CODE_LLAMA, prefix, suffix, order)
    assert example.ids[-1] == CODE_LLAMA.end[0]
    assert example.ids[: len(prompt)] == prompt
    assert example.middle_start == len(prompt)
    assert decode_middle(encoder, CODE_LLAMA, example.ids[len(prompt) : -1], prefix, order) == middle


@given(parts, parts, parts)
def test_no_text_yields_a_marker(prefix, middle, suffix):
    spelled = Split(f"<PRE>{prefix}", f"{middle}▁<MID>", f"<EOT>{suffix}")
    ids = infill_example(PLAIN, CODE_LLAMA, spelled, "psm").ids
    assert [id for id in ids if id < Characters.SHIFT] == [7, 8, 9, 10]


def test_spm_middle_begins_where_the_joined_encoding_leaves_the_prefix():
    class Pairs(Characters):
        """Joins two letters into one token where it can, so a boundary inside a pair splits no token in SPM."""

        def encode_infilling(self, text):
            return [1000 + hash(text[i : i + 2]) % 10**9 for i in range(0, len(text), 2)]

    encoder = Pairs(False)
    example = infill_example(encoder, CODE_LLAMA, Split("abc", "def", ""), "spm")
    assert example.ids[:3] == [7, 8, 9]
    assert example.ids[3:-1] == encoder.encode("abcdef")
    assert example.middle_start == 4  # "cd" straddles the boundary, so it counts as middle
    assert example.straddles
    assert not infill_example(encoder, CODE_LLAMA, Split("ab", "def", ""), "spm").straddles


CODE = ["def f(x):", "return", " x", "    ", "\n", "self.", "print('it's')", "  ", "naïve ", "12", "▁", "\r\n"]
code = st.lists(st.sampled_from(CODE), max_size=12).map("".join) | parts


@settings(max_examples=300, deadline=None)
@given(code, code)
def test_spm_s_middle_begins_as_encoding_the_prefix_whole_says(vocabularies, prefix, middle):
    for encoder in vocabularies:
        example = infill_example(encoder, CODE_LLAMA, Split(prefix, middle, ""), "spm")
        head = infill_prompt(encoder, CODE_LLAMA, "", "", "spm")
        joined = encoder.encode(prefix + middle)
        assert example.ids == [*head, *joined, 10]
        assert example.middle_start == len(head) + common_length(encoder.encode(prefix), joined)
        # Llama's "▁" as text is a space, so the middle's size is what its own tokens spell.
        spelled, own = example.ids[example.middle_start : -1], encoder.encode_infilling(middle)
        longer = len(b"".join(map(encoder.token_bytes, spelled))) > len(b"".join(map(encoder.token_bytes, own)))
        assert example.straddles == (prefix != "" and longer)


@pytest.fixture(scope="module")
def vocabularies(smollm2_gguf, llama_tokenizer_folder):
    fields = gguf.GGUFReader(smollm2_gguf).fields
    metadata = {name: field.contents() for name, field in fields.items() if name.startswith("tokenizer.")}
    llama = Tokenizer.from_sentencepiece(llama_tokenizer_folder / "tokenizer.model")
    return [Tokenizer.from_gguf(metadata), llama, LLAMA]


def test_spm_encodes_the_prefix_once(vocabularies):
    """A prefix of a thousand lines costs one encoding of it, not two."""

    class Counting:
        def __init__(self, encoder):
            self.encoder, self.characters = encoder, 0

        def __getattr__(self, name):
            return getattr(self.encoder, name)

        def encode(self, text):
            self.characters += len(text)
            return self.encoder.encode(text)

        def encode_infilling(self, text):
            self.characters += len(text)
            return self.encoder.encode_infilling(text)

    prefix = "    total = total + 1\n" * 1000 + "    tot"
    for encoder in map(Counting, vocabularies):
        infill_example(encoder, CODE_LLAMA, Split(prefix, "al = 2", "\nend\n"), "spm")
        assert encoder.characters < len(prefix) + 40


def test_common_length():
    assert common_length([1, 2, 3], [1, 2, 4]) == 2
    assert common_length([], [1]) == 0
    assert common_length([1, 2], [1, 2, 3]) == 2
