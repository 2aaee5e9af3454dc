from codecria.checkpoint.generation_config import ending_ids, list_ends
from codecria.tokenizer.sentinels import add_sentinels
from codecria.tokenizer.tokenizer import Tokenizer
from tests.checkpoint.folders import write_tokenizer


def test_both_ends_are_listed(tmp_path):
    write_tokenizer(tmp_path)
    marked, sentinels = add_sentinels(Tokenizer.from_folder(tmp_path))
    end = sentinels.end[0]
    assert ending_ids(marked, {}) == [2, end]
    assert list_ends({"temperature": 0.6}, marked) == {
        "temperature": 0.6,
        "bos_token_id": 1,
        "eos_token_id": [2, end],
    }


def test_stated_ids_stay_in_front(tmp_path):
    write_tokenizer(tmp_path)
    marked, sentinels = add_sentinels(Tokenizer.from_folder(tmp_path))
    end = sentinels.end[0]
    assert list_ends({"bos_token_id": 0, "eos_token_id": 0}, marked) == {"bos_token_id": 0, "eos_token_id": [0, 2, end]}
    assert list_ends({"eos_token_id": [0, end]}, marked)["eos_token_id"] == [0, end, 2]
    assert ending_ids(marked, {"eos_token_id": [0]}) == [2, end, 0]


def test_one_end_is_a_number(tmp_path):
    write_tokenizer(tmp_path)
    plain = Tokenizer.from_folder(tmp_path)
    assert list_ends({}, plain)["eos_token_id"] == 2
