from pathlib import Path

import pytest
import torch

from codecria.checkpoint.tensors import check_shapes, expected_shapes
from codecria.common.errors import CodecriaError
from codecria.model.transformer import Transformer
from tests.checkpoint.folders import VARIANTS, tiny

WHERE = Path("folder")


@pytest.mark.parametrize("name", VARIANTS)
def test_expected_shapes_are_the_models(name):
    with torch.device("meta"):
        model = Transformer(VARIANTS[name])
    assert dict(expected_shapes(VARIANTS[name])) == {key: tuple(t.shape) for key, t in model.state_dict().items()}


def refused(shapes, config=None) -> str:
    with pytest.raises(CodecriaError) as caught:
        check_shapes(shapes, config or tiny(), WHERE)
    return str(caught.value)


def test_missing_unexpected_and_misshapen_tensors_are_named():
    shapes = dict(expected_shapes(tiny()))
    check_shapes(shapes, tiny(), WHERE)
    missing = {name: shape for name, shape in shapes.items() if name != "model.layers.1.mlp.up_proj.weight"}
    assert refused(missing) == "folder: tensor 'model.layers.1.mlp.up_proj.weight' is missing"
    extra = {**shapes, "model.layers.2.mlp.up_proj.weight": (96, 64)}
    assert "'model.layers.2.mlp.up_proj.weight' has no place" in refused(extra)
    turned = {**shapes, "model.layers.0.self_attn.q_proj.weight": (64, 32)}
    assert "'model.layers.0.self_attn.q_proj.weight' has the shape [64, 32], expected [64, 64]" in refused(turned)


def test_vocabulary_rows_that_differ_from_the_configuration_are_named():
    shapes = dict(expected_shapes(tiny(vocab_size=400)))
    line = refused(shapes, tiny(vocab_size=416))
    assert "'vocab_size' is 416, but tensor 'model.embed_tokens.weight' has 400 rows" in line


def test_a_missing_head_names_the_mend():
    shapes = dict(expected_shapes(tiny(tied_embeddings=True)))
    assert "tensor 'lm_head.weight' is missing; set 'tie_word_embeddings' to true" in refused(shapes)


def test_precomputed_frequencies_and_a_stored_tied_head_have_their_place():
    config = tiny(tied_embeddings=True)
    shapes = dict(expected_shapes(config))
    shapes["model.layers.0.self_attn.rotary_emb.inv_freq"] = (4,)
    shapes["lm_head.weight"] = (400, 64)
    check_shapes(shapes, config, WHERE)
    assert "'lm_head.weight' has 399 rows" in refused({**shapes, "lm_head.weight": (399, 64)}, config)
