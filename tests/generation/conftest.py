import pytest
import torch
from transformers import LlamaForCausalLM

from codecria.checkpoint.open import open_checkpoint
from codecria.generation.native import step
from codecria.model.config import ModelConfig
from codecria.model.transformer import Transformer
from codecria.tokenizer.sentinels import add_sentinels
from codecria.tokenizer.tokenizer import Tokenizer
from tests.oracles.transformers import llama_config


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def in_pytorch(monkeypatch):
    """No step in C: for tests that look into PyTorch's modules."""
    monkeypatch.setattr(step, "loaded", lambda: None)


def shape(**changes) -> ModelConfig:
    values = {
        "vocab_size": 160,
        "hidden_size": 64,
        "intermediate_size": 112,
        "num_layers": 3,
        "num_heads": 4,
        "num_kv_heads": 2,
        "head_dim": 16,
        "norm_eps": 1e-5,
        "rope_theta": 1e4,
        "rope_scaling": None,
        "max_positions": 256,
        "tied_embeddings": False,
    }
    return ModelConfig(**{**values, **changes})


def random_model(seed=0, dtype=torch.float32, **changes) -> Transformer:
    """A small model with weights large enough that its best scores stand apart."""
    model = Transformer(shape(**changes))
    model.initialise(seed, std=0.2)
    return model.to(dtype).eval()


def scripted_model(script, **changes) -> Transformer:
    """A model that writes `script[1:]` after a prompt that ends with `script[0]`, whatever stands before.

    Its blocks add nothing; the table gives each id of the script a direction of its own, and the head answers each
    direction with the id that comes next. So no id may stand in the script twice.
    """
    assert len(set(script)) == len(script)
    width = len(script)
    model = random_model(hidden_size=width, num_layers=1, **changes)
    with torch.no_grad():
        block = model.model.layers[0]
        block.self_attn.o_proj.weight.zero_()
        block.mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.zero_()
        model.lm_head.weight.zero_()
        for place, id in enumerate(script):
            model.model.embed_tokens.weight[id, place] = 1.0
        for place, id in enumerate(script[1:]):
            model.lm_head.weight[id, place] = 1.0
    return model


def transformers_twin(model, dtype=torch.float32) -> LlamaForCausalLM:
    config = model.config
    with torch.device("meta"):
        twin = LlamaForCausalLM(llama_config(config, bos_token_id=None, eos_token_id=None, pad_token_id=0))
    twin = twin.to_empty(device="cpu").to(dtype).eval()
    missing, unexpected = twin.load_state_dict(model.state_dict(), strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}
    twin.tie_weights()
    frequencies = 1.0 / config.rope_theta ** (torch.arange(0, config.head_dim, 2) / config.head_dim)
    twin.model.rotary_emb.inv_freq = frequencies
    twin.model.rotary_emb.original_inv_freq = frequencies.clone()
    return twin


@torch.no_grad()
def transformers_greedy(twin, prompt, count):
    ids = torch.tensor([prompt])
    made = twin.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, do_sample=False)
    return made[0, len(prompt) :].tolist()


def random_ids(count, seed=0, vocab_size=160):
    source = torch.Generator().manual_seed(seed)
    return torch.randint(0, vocab_size, (count,), generator=source).tolist()


def prompts_of(lengths=(1, 5, 40, 17, 5, 90)):
    return [random_ids(length, seed=number) for number, length in enumerate(lengths)]


def drain(engine):
    while engine.step():
        pass


def slot_bytes(model):
    config = model.config
    return 2 * config.num_layers * config.num_kv_heads * config.head_dim * 4


@pytest.fixture(scope="session")
def smollm2_checkpoint(smollm2_gguf):
    return open_checkpoint(smollm2_gguf)


@pytest.fixture(scope="session")
def plain_tokenizer(smollm2_checkpoint) -> Tokenizer:
    """SmolLM2's: byte-level, no BOS, no implicit space, no infill markers."""
    return smollm2_checkpoint.tokenizer


@pytest.fixture(scope="session")
def infilling_tokenizer(plain_tokenizer) -> Tokenizer:
    """SmolLM2's with codecria's markers."""
    return add_sentinels(plain_tokenizer)[0]


@pytest.fixture(scope="session")
def llama_tokenizer(llama_tokenizer_folder) -> Tokenizer:
    """Llama's with codecria's markers: BOS, implicit space, byte fallback."""
    return add_sentinels(Tokenizer.from_folder(llama_tokenizer_folder))[0]
