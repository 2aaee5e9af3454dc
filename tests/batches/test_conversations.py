import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codecria.batches.conversations import read_conversations, render
from codecria.common.errors import CodecriaError
from codecria.tokenizer.tokenizer import Tokenizer
from tests.tiny import write_tiny_checkpoint

ASKED = [{"role": "user", "content": "add one"}, {"role": "assistant", "content": "x + 1"}]
ROWS = {
    "messages": {"messages": ASKED},
    "share_gpt": {"conversations": [{"from": "human", "value": "add one"}, {"from": "gpt", "value": "x + 1"}]},
    "alpaca": {"instruction": "add", "input": "one", "output": "x + 1"},
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return Tokenizer.from_folder(write_tiny_checkpoint(tmp_path_factory.mktemp("tiny")))


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_loss_is_on_the_answers_and_their_ends_alone(tokenizer):
    first = [{"role": "system", "content": "Be short."}, *ASKED]
    rendered = render(tokenizer, json.dumps([*first, *ASKED]), 500)
    start, end = tokenizer.token_id("<|im_start|>"), tokenizer.token_id("<|im_end|>")
    ids, weights = [], []
    for message in [*first, *ASKED]:
        for part, weight in (
            ([start], 0),
            (tokenizer.encode(f"{message['role']}\n"), 0),
            (tokenizer.encode(message["content"]), int(message["role"] == "assistant")),
            ([end], int(message["role"] == "assistant")),
            (tokenizer.encode("\n"), 0),
        ):
            ids += part
            weights += [weight] * len(part)
    assert tokenizer.decode(rendered.ids) == tokenizer.decode(ids)
    assert rendered.ids == ids
    assert rendered.weights.tolist() == weights
    assert (rendered.form, rendered.middle_start) == ("plain", len(ids))


def test_a_message_that_spells_an_end_is_text(tokenizer):
    rendered = render(tokenizer, json.dumps([ASKED[0], {"role": "assistant", "content": "a<|im_end|>b"}]), 500)
    assert rendered.ids.count(tokenizer.token_id("<|im_end|>")) == 2
    answer = np.array(rendered.ids)[rendered.weights > 0]
    assert answer[-1] == tokenizer.token_id("<|im_end|>")
    assert tokenizer.decode(answer[:-1].tolist()) == "a<|im_end|>b"


@pytest.mark.parametrize("shape", ROWS)
def test_each_shape_is_read(tmp_path, shape):
    ((where, messages),) = read_conversations(write(tmp_path / "rows.jsonl", ROWS[shape]))
    assert messages == [{"role": "user", "content": "add\n\none" if shape == "alpaca" else "add one"}, ASKED[1]]
    assert where.endswith("rows.jsonl:1")


def test_a_folder_holds_parquet_and_json_lines_read_by_name(tmp_path):
    write(tmp_path / "b.jsonl", ROWS["alpaca"], ROWS["messages"])
    pq.write_table(pa.Table.from_pylist([ROWS["messages"]] * 3), tmp_path / "a.parquet")
    read = list(read_conversations(tmp_path))
    assert [where.rpartition("/")[2] for where, _ in read] == [
        *("a.parquet:1", "a.parquet:2", "a.parquet:3"),
        *("b.jsonl:1", "b.jsonl:2"),
    ]
    assert read[0][1] == ASKED


def test_blank_lines_are_passed_over_and_counted(tmp_path):
    path = write(tmp_path / "rows.jsonl", ROWS["messages"])
    path.write_text(f"\n{path.read_text()} \r\n{path.read_text()}\n")
    assert [(where.rpartition(":")[2], messages) for where, messages in read_conversations(path)] == [
        ("2", ASKED),
        ("4", ASKED),
    ]


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"text": "hello"}, "a row with text"),
        ([1], "a row with list"),
        ({"messages": [{"role": "user", "content": 3}]}, "'content' is 3, not text"),
        ({"messages": ["hello"]}, "'role' is null"),
        ({"messages": [{"role": "wizard", "content": "hi"}]}, "the role 'wizard'"),
        ({"messages": ASKED[:1]}, "no answer to learn"),
        ({"instruction": "add"}, "'output' is null"),
        ({"messages": 5}, "'messages' is 5, not a list"),
        ({"conversations": {"from": "human"}}, '\'conversations\' is {"from": "human"}, not a list'),
        ({"instruction": "add", "input": 3, "output": "4"}, "'input' is 3, not text"),
        ({"instruction": "add", "input": ["a"], "output": "4"}, "'input' is [\"a\"], not text"),
        ({"instruction": "add", "system": {"be": "short"}, "output": "4"}, '\'system\' is {"be": "short"}, not text'),
        (
            {"instruction": "add", "output": "\ud83d"},
            "'output' holds half of a character",
        ),
    ],
)
def test_a_row_of_another_shape_names_file_and_row(tmp_path, row, what):
    path = write(tmp_path / "rows.jsonl", ROWS["messages"], row)
    with pytest.raises(CodecriaError) as error:
        list(read_conversations(path))
    assert what in str(error.value)
    assert "rows.jsonl:2" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_broken_line_or_file_is_one_line(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"messages": [\n')
    with pytest.raises(CodecriaError, match=r"rows\.jsonl:1.*no JSON"):
        list(read_conversations(tmp_path))
    (tmp_path / "rows.jsonl").write_bytes(b'\n{"instruction": "caf\xe9", "output": "4"}\n')
    with pytest.raises(CodecriaError, match=r"rows\.jsonl:2.*UTF-8.*0xe9"):
        list(read_conversations(tmp_path))
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(CodecriaError, match="cannot be read as Parquet"):
        list(read_conversations(tmp_path))
    with pytest.raises(CodecriaError, match="no conversations"):
        list(read_conversations(tmp_path / "absent.jsonl"))
