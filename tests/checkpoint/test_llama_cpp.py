"""The files we write in llama.cpp itself (node-llama-cpp's prebuilt library): it loads them, cuts text into the same
ids, knows markers and ends, and continues a prompt with the same tokens at the same probabilities."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from codecria.checkpoint.gguf.writer import export_gguf
from codecria.checkpoint.huggingface import save_huggingface
from codecria.checkpoint.open import load_model, open_checkpoint
from codecria.checkpoint.source import Description
from codecria.model.config import ModelConfig
from codecria.model.transformer import Transformer
from codecria.tokenizer.sentinels import add_sentinels
from tests.checkpoint.folders import VARIANTS, tiny, write_folder
from tests.oracles.llama_cpp import install

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("llama_cpp.mjs")
TEXTS = ["def f(x):\n    return x  # 12 345\n", "  naïve łódź 漢字 🦙\t\r\n", " ", "        a", "x = <|im_end|>"]
COUNT = 8


@pytest.fixture
def llama_cpp(tmp_path):
    """A function from GGUF files to what llama.cpp finds in them."""
    folder = install()
    shutil.copyfile(SCRIPT, folder / SCRIPT.name)

    def ask(files, prompt, texts=TEXTS):
        question = {"files": [str(file) for file in files], "texts": texts, "prompt": prompt, "count": COUNT}
        (tmp_path / "question.json").write_text(json.dumps(question))
        command = ["node", SCRIPT.name, str(tmp_path / "question.json"), str(tmp_path / "answer.json")]
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        return json.loads((tmp_path / "answer.json").read_text())

    return ask


@torch.no_grad()
def continuation(model: Transformer, prompt: list[int]) -> tuple[list[int], list[float]]:
    ids, shares = list(prompt), []
    for _ in range(COUNT):
        probabilities = model.logits(model(torch.tensor([ids]))[:, -1]).softmax(-1)[0]
        ids.append(int(probabilities.argmax()))
        shares.append(float(probabilities.max()))
    return ids[len(prompt) :], shares


def assert_same(found: dict, path, prompt: list[int], texts=TEXTS, tolerance: float = 0.005) -> int:
    """Same ids for the texts; same tokens at the same probabilities, up to a tie that roundings decide.

    Returns the number of equal tokens.
    """
    checkpoint = open_checkpoint(path)
    answer = found[str(path)]
    assert answer["ids"] == [checkpoint.tokenizer.encode(text) for text in texts]
    chosen, shares = continuation(load_model(checkpoint), prompt)
    agreed = next((step for step in range(COUNT) if answer["chosen"][step] != chosen[step]), COUNT)
    assert answer["shares"][: agreed + 1] == pytest.approx(shares[: agreed + 1], abs=tolerance)
    return agreed


def test_every_variant(llama_cpp, tmp_path):
    prompt = [5, 300, 17, 42, 256, 99]
    files = []
    for number, config in enumerate(VARIANTS.values()):
        write_folder(tmp_path / f"hf{number}", config)
        files.append(tmp_path / f"model{number}.gguf")
        export_gguf(open_checkpoint(tmp_path / f"hf{number}"), files[-1], "f16")
    found = llama_cpp(files, prompt)
    assert sum(assert_same(found, file, prompt) for file in files) > 0.7 * COUNT * len(files)


def marked_model(config: ModelConfig, folder: Path, base_folder: Path) -> Path:
    base = open_checkpoint(base_folder)
    marked, _ = add_sentinels(base.tokenizer)
    grown = tiny(**{**config.__dict__, "vocab_size": marked.vocab_size})
    model = Transformer(grown)
    model.initialise(0, std=0.3)
    save_huggingface(folder, model, Description(grown, marked, base.hf_config, base.generation_config))
    return folder


def test_infill_markers_and_both_ends(llama_cpp, tmp_path):
    write_folder(tmp_path / "base", tiny())
    folder = marked_model(tiny(), tmp_path / "hf", tmp_path / "base")
    export_gguf(open_checkpoint(folder), tmp_path / "model.gguf", "f16")
    texts = [*TEXTS, "a <|fim_prefix|> b <|fim_end|>"]
    answer = llama_cpp([tmp_path / "model.gguf"], [7, 8, 9], texts)
    assert_same(answer, tmp_path / "model.gguf", [7, 8, 9], texts)
    found = answer[str(tmp_path / "model.gguf")]
    assert found["infill"] == [380, 381, 382]
    assert (found["eos"], found["eot"], found["ends"]) == (2, 383, [2, 383])
    assert not found["addsBos"]


def test_llamas_vocabulary(llama_cpp, tmp_path, llama_tokenizer_folder):
    config = tiny(vocab_size=32_000, hidden_size=32, num_kv_heads=4, rope_theta=1e6)
    write_folder(tmp_path / "hf", config)
    (tmp_path / "hf" / "special_tokens_map.json").unlink()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(llama_tokenizer_folder / name, tmp_path / "hf" / name)
    export_gguf(open_checkpoint(tmp_path / "hf"), tmp_path / "model.gguf", "f16")
    source = "\n".join(path.read_text() for path in sorted(SCRIPT.parent.glob("*.py")))
    texts = [*TEXTS, source, "\n\n\n   \n", "a  b   c    d     e      f       g                 h"]
    answer = llama_cpp([tmp_path / "model.gguf"], [1, 306, 4658, 278], texts)
    assert_same(answer, tmp_path / "model.gguf", [1, 306, 4658, 278], texts)
    found = answer[str(tmp_path / "model.gguf")]
    assert (found["bos"], found["eos"], found["addsBos"]) == (1, 2, True)
    assert found["infill"] == [None, None, None]


def test_smollm2(llama_cpp, smollm2_gguf, tmp_path):
    checkpoint = open_checkpoint(smollm2_gguf)
    files = [smollm2_gguf, tmp_path / "f16.gguf", tmp_path / "q8_0.gguf"]
    export_gguf(checkpoint, files[1], "f16")
    export_gguf(checkpoint, files[2], "q8_0")
    texts = [*TEXTS, SCRIPT.with_suffix(".mjs").read_text(), Path(__file__).read_text()]
    prompt = checkpoint.tokenizer.encode("def fibonacci(n):\n    if n < 2:\n")
    found = llama_cpp(files, prompt, texts)
    for file in files:
        # With quantised weights llama.cpp also rounds what they are multiplied with, to eight bits.
        tolerance = 0.005 if file.name == "f16.gguf" else 0.12
        assert assert_same(found, file, prompt, texts, tolerance) == COUNT
