from codecria.model.config import ModelConfig, RopeScaling

TINY = {
    "vocab_size": 160,
    "hidden_size": 64,
    "intermediate_size": 112,
    "num_layers": 3,
    "num_heads": 4,
    "num_kv_heads": 4,
    "head_dim": 16,
    "norm_eps": 1e-5,
    "rope_theta": 1e4,
    "rope_scaling": None,
    "max_positions": 256,
    "tied_embeddings": False,
}


def tiny(**changes) -> ModelConfig:
    return ModelConfig(**{**TINY, **changes})


VARIANTS = {
    "multi-head": tiny(),
    "grouped": tiny(num_kv_heads=2),
    "tied": tiny(tied_embeddings=True, num_kv_heads=1),
    "theta 1e6": tiny(rope_theta=1e6),
    "vocabulary 32016": tiny(vocab_size=32_016),
    "wide heads": tiny(head_dim=32),
    "linear scaling": tiny(rope_scaling=RopeScaling("linear", 4.0)),
    "llama3 scaling": tiny(rope_scaling=RopeScaling("llama3", 8.0, 1.0, 4.0, 64), rope_theta=5e5),
}
