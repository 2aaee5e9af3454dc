"""Greedy decoding of SmolLM2-135M, one stream, 96 tokens after a prompt: our engine against transformers' generate."""

from __future__ import annotations

import os
import tempfile

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
import transformers
from paired import compare

import codecria
from codecria.checkpoint.convert import convert

PROMPT = "import json\n\n\ndef read_config(path):\n    with open(path) as file:\n"
TOKENS = 96


def main() -> None:
    transformers.utils.logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as folder:
        convert("smollm2-135m", f"{folder}/model", "huggingface", torch.float32)
        for dtype, name in ((torch.float32, "fp32"), (torch.bfloat16, "bf16")):
            ours = codecria.load(f"{folder}/model", dtype=name)
            twin = transformers.AutoModelForCausalLM.from_pretrained(f"{folder}/model", dtype=dtype)
            ids = torch.tensor([ours.tokenizer.encode(PROMPT)])

            def run_ours(model=ours) -> int:
                return len(model.complete(PROMPT, max_tokens=TOKENS).ids)

            def run_peer(model=twin, ids=ids) -> int:
                out = model.generate(ids, max_new_tokens=TOKENS, do_sample=False, pad_token_id=0)
                return out.shape[1] - ids.shape[1]

            compare(
                run_ours,
                run_peer,
                unit="tokens_per_s",
                peer_name=f"transformers generate, {name}, {torch.get_num_threads()} threads",
                packages=["codecria", "torch", "transformers"],
            )


if __name__ == "__main__":
    main()
