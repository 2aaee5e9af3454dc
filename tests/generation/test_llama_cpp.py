"""What we write as GGUF runs in llama.cpp with the same greedy tokens."""

import pytest
import torch

from codecria.checkpoint.convert import convert
from codecria.checkpoint.open import load_model, open_checkpoint
from tests.oracles import llama_cpp

PROMPTS = [
    "def fibonacci(n):\n",
    "import json\n\n\ndef read_config(path):\n    ",
    "class Stack:\n    def __init__(self):\n",
    "# Sort a list of numbers without sorted()\n",
    "for i in range(10):\n    print(",
    "The capital of France is",
    "def is_prime(number: int) -> bool:\n    ",
    "try:\n    value = int(text)\nexcept ",
    "SELECT name, age FROM people WHERE",
    "async def fetch(url):\n    async with ",
]
STEPS = 50


@pytest.mark.slow
def test_greedy_tokens_of_our_f16_file_equal_llama_cpp(smollm2_gguf, tmp_path):
    """50 tokens on each of 10 prompts. Where they part, our two best logits must be closer than float16 can tell."""
    path = tmp_path / "smollm2-f16.gguf"
    convert(smollm2_gguf, path, "gguf-f16")
    checkpoint = open_checkpoint(path)
    prompts = [checkpoint.tokenizer.encode(text) for text in PROMPTS]
    theirs = llama_cpp.greedy(path, prompts, STEPS)
    model = load_model(checkpoint).eval()
    parted = []
    for text, prompt, tokens in zip(PROMPTS, prompts, theirs, strict=True):
        assert len(tokens) == STEPS or tokens[-1:] != []
        with torch.inference_mode():
            logits = model.logits(model(torch.tensor([prompt + tokens]))[0])[len(prompt) - 1 : -1]
        ours = logits.argmax(dim=-1).tolist()
        for step, (our, their) in enumerate(zip(ours, tokens, strict=True)):
            if our != their:
                gap = (logits[step, our] - logits[step, their]).item()
                parted.append((text, step, gap))
                assert gap < 0.05, f"{text!r} step {step}: {our} against {their}, {gap:.4f} apart"
    print(f"{len(parted)} of {len(PROMPTS) * STEPS} steps differ, all ties: {parted}")
    assert len(parted) <= 3
