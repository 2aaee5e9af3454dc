import json
import resource

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoTokenizer, GenerationConfig, LlamaForCausalLM

from codecria.checkpoint.gguf.writer import export_gguf
from codecria.checkpoint.huggingface import FolderTensors, read_json, save_huggingface, write_weights
from codecria.checkpoint.open import load_model, open_checkpoint
from codecria.checkpoint.source import Description
from codecria.common.errors import CodecriaError
from codecria.model.transformer import Transformer
from codecria.tokenizer.sentinels import add_sentinels
from tests.checkpoint.folders import VARIANTS, assert_same_logits, sample_ids, tiny, write_folder


def contents(folder):
    """Every tensor of a folder, by name."""
    tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            tensors |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return tensors


@pytest.mark.parametrize("name", VARIANTS)
def test_a_folder_of_transformers_is_read(name, tmp_path):
    config = VARIANTS[name]
    theirs = write_folder(tmp_path / "hf", config)
    checkpoint = open_checkpoint(tmp_path / "hf")
    assert checkpoint.kind == "huggingface"
    assert checkpoint.config == config
    assert_same_logits(load_model(checkpoint), theirs, config)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("shard_bytes", [5e9, 60_000])
def test_what_we_write_loads_in_transformers_with_equal_logits(name, shard_bytes, tmp_path):
    config = VARIANTS[name]
    write_folder(tmp_path / "hf", config)
    checkpoint = open_checkpoint(tmp_path / "hf")
    model = load_model(checkpoint)
    save_huggingface(tmp_path / "ours", model, checkpoint, shard_bytes=shard_bytes)
    theirs, report = LlamaForCausalLM.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert_same_logits(model, theirs.eval(), config)
    assert len(list((tmp_path / "ours").glob("*.safetensors"))) > 1 or shard_bytes == 5e9
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "ours")
    text = "def f(x):\n    return 42"
    assert tokenizer(text, add_special_tokens=False)["input_ids"] == checkpoint.tokenizer.encode(text)


def test_a_sharded_folder_of_transformers_is_read_and_written_alike(tmp_path):
    config = tiny(num_kv_heads=2)
    theirs = write_folder(tmp_path / "hf", config, shard_size="60KB")
    assert len(list((tmp_path / "hf").glob("model-*.safetensors"))) > 2
    checkpoint = open_checkpoint(tmp_path / "hf")
    assert_same_logits(load_model(checkpoint), theirs, config)
    save_huggingface(tmp_path / "ours", checkpoint.tensors(), checkpoint, shard_bytes=60_000)
    index = read_json(tmp_path / "ours" / "model.safetensors.index.json")
    parameters = config.parameter_count()
    assert index["metadata"] == {"total_parameters": parameters, "total_size": 4 * parameters}
    assert set(index["weight_map"]) == set(theirs.state_dict())
    for path in (tmp_path / "ours").glob("model-*.safetensors"):
        with safe_open(path, "pt") as file:
            assert file.metadata() == {"format": "pt"}
            names = set(file.keys())
        assert names == {name for name, place in index["weight_map"].items() if place == path.name}
    large = sum(path.stat().st_size > 60_000 + 4000 for path in (tmp_path / "ours").glob("model-*.safetensors"))
    # The embedding and the head are larger than a shard, and each has one of its own.
    assert large == 2


def test_tensors_keep_name_dtype_and_bytes(tmp_path):
    generator = torch.Generator().manual_seed(0)
    stored = {
        "a": torch.randn(3, 5, generator=generator).bfloat16(),
        "b": torch.randn(7, generator=generator).half(),
        "c": torch.randn(2, 2, generator=generator).double(),
        "d": torch.tensor([float("nan"), -0.0, float("inf")]),
    }
    for folder in ("in", "out"):
        (tmp_path / folder).mkdir()
    save_file(stored, tmp_path / "in" / "model.safetensors")
    source = FolderTensors(tmp_path / "in")
    write_weights(tmp_path / "out", ((name, source.read(name, None)) for name in source.shapes), None)
    written = contents(tmp_path / "out")
    assert set(written) == set(stored)
    for name, tensor in stored.items():
        assert written[name].dtype == tensor.dtype
        assert torch.equal(written[name].view(torch.uint8), tensor.view(torch.uint8))


def test_a_dtype_is_written_and_declared(tmp_path):
    write_folder(tmp_path / "hf", tiny())
    checkpoint = open_checkpoint(tmp_path / "hf")
    save_huggingface(tmp_path / "ours", load_model(checkpoint), checkpoint, dtype=torch.bfloat16)
    assert {tensor.dtype for tensor in contents(tmp_path / "ours").values()} == {torch.bfloat16}
    assert LlamaForCausalLM.from_pretrained(tmp_path / "ours").dtype == torch.bfloat16


def test_the_declared_dtype_is_that_of_the_weights(tmp_path):
    write_folder(tmp_path / "hf", tiny())
    checkpoint = open_checkpoint(tmp_path / "hf")
    assert checkpoint.hf_config["dtype"] == "float32"
    save_huggingface(tmp_path / "ours", load_model(checkpoint, torch.bfloat16), checkpoint)
    assert open_checkpoint(tmp_path / "ours").hf_config["dtype"] == "bfloat16"


def test_whole_numbers_are_no_weights(tmp_path):
    write_folder(tmp_path / "hf", tiny())
    tensors = contents(tmp_path / "hf")
    tensors["model.norm.weight"] = torch.ones(64, dtype=torch.int32)
    save_file(tensors, tmp_path / "hf" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CodecriaError, match=r"tensor 'model.norm.weight' is I32, not floating point"):
        open_checkpoint(tmp_path / "hf")


@pytest.fixture
def small_disk():
    """No file may grow beyond 50,000 bytes: writing fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("small_disk")
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, folder):
    checkpoint = open_checkpoint(folder)
    with pytest.raises(CodecriaError, match=r"the weights cannot be written: .*; free some space and start again"):
        save_huggingface(tmp_path / "ours", checkpoint.tensors(), checkpoint)
    with pytest.raises(CodecriaError, match="file too large"):
        export_gguf(checkpoint, tmp_path / "model.gguf", "f16")
    assert not list(tmp_path.iterdir())


def test_a_grown_vocabulary_a_longer_context_and_both_ends(tmp_path):
    """What training does to a base model: 16 more rows, another base period, an end for middles."""
    write_folder(tmp_path / "hf", tiny())
    base = open_checkpoint(tmp_path / "hf")
    base.hf_config["x_custom"] = {"kept": True}
    marked, sentinels = add_sentinels(base.tokenizer)
    config = tiny(vocab_size=marked.vocab_size, rope_theta=1e6, max_positions=1024)
    model = Transformer(config)
    model.initialise(3)
    like = Description(config, marked, base.hf_config, base.generation_config)
    save_huggingface(tmp_path / "ours", model, like, lineage={"parent": {"name": "hf", "licence": "mit"}})
    written = open_checkpoint(tmp_path / "ours")
    assert written.config == config
    assert written.licence == "mit"
    assert written.hf_config["x_custom"] == {"kept": True}
    assert written.hf_config["transformers_version"] == base.hf_config["transformers_version"]
    assert GenerationConfig.from_pretrained(tmp_path / "ours").eos_token_id == [2, sentinels.end[0]]
    assert written.ending_ids == [2, sentinels.end[0]]
    theirs = LlamaForCausalLM.from_pretrained(tmp_path / "ours").eval()
    assert_same_logits(load_model(written), theirs, config)
    assert_same_logits(model, theirs, config)


def test_an_older_checkpoint_is_replaced_whole(tmp_path):
    write_folder(tmp_path / "hf", tiny())
    checkpoint = open_checkpoint(tmp_path / "hf")
    save_huggingface(tmp_path / "ours", checkpoint.tensors(), checkpoint, shard_bytes=60_000)
    save_huggingface(tmp_path / "ours", checkpoint.tensors(), checkpoint)
    names = {path.name for path in (tmp_path / "ours").iterdir()}
    assert "model.safetensors" in names
    assert not any("-of-" in name or "index" in name for name in names)


def test_a_failure_half_way_leaves_the_old_checkpoint(tmp_path):
    write_folder(tmp_path / "hf", tiny())
    checkpoint = open_checkpoint(tmp_path / "hf")
    save_huggingface(tmp_path / "ours", checkpoint.tensors(), checkpoint)
    before = {path.name: path.read_bytes() for path in (tmp_path / "ours").iterdir()}

    def failing():
        yield from list(checkpoint.tensors())[:5]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save_huggingface(tmp_path / "ours", failing(), checkpoint, shard_bytes=10_000)
    assert {path.name: path.read_bytes() for path in (tmp_path / "ours").iterdir()} == before
    assert {path.name for path in tmp_path.iterdir()} == {"hf", "ours"}


def test_a_folder_of_other_things_is_not_replaced(tmp_path):
    write_folder(tmp_path / "hf", tiny())
    checkpoint = open_checkpoint(tmp_path / "hf")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("years of work")
    with pytest.raises(CodecriaError, match="holds something else than a checkpoint; name a new folder"):
        save_huggingface(tmp_path / "home", checkpoint.tensors(), checkpoint)
    assert (tmp_path / "home" / "thesis.tex").read_text() == "years of work"
    with pytest.raises(CodecriaError, match="is a file, not a folder"):
        save_huggingface(tmp_path / "home" / "thesis.tex", checkpoint.tensors(), checkpoint)


def test_old_rotary_buffers_are_left_out_of_the_model(tmp_path):
    config = tiny()
    theirs = write_folder(tmp_path / "hf", config)
    tensors = contents(tmp_path / "hf")
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    save_file(tensors, tmp_path / "hf" / "model.safetensors", metadata={"format": "pt"})
    checkpoint = open_checkpoint(tmp_path / "hf")
    assert "model.layers.0.self_attn.rotary_emb.inv_freq" in checkpoint.tensor_names()
    assert_same_logits(load_model(checkpoint), theirs, config)


def edit_index(folder, change):
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    change(index, sorted(folder.glob("model-*.safetensors")))
    path.write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda _, files: files[1].unlink(), "model-00002-of-00005.safetensors is missing: the index places"),
        (lambda index, _: index.pop("weight_map"), "no 'weight_map'"),
        (
            lambda index, _: index["weight_map"].update({"model.norm.weight": "../x.safetensors"}),
            "places 'model.norm.weight' in '../x.safetensors', no file's name",
        ),
        (
            lambda index, files: index["weight_map"].update({"model.norm.weight": files[0].name}),
            "tensor 'model.norm.weight' is missing: model.safetensors.index.json lists it",
        ),
        (lambda index, _: index["weight_map"].pop("model.norm.weight"), "tensor 'model.norm.weight' is missing"),
        (lambda _, files: files[2].write_bytes(files[2].read_bytes()[:-1]), "damaged or cut off"),
    ],
)
def test_a_broken_sharded_folder_is_named(change, line, tmp_path):
    write_folder(tmp_path / "hf", tiny(), shard_size="100KB")
    edit_index(tmp_path / "hf", change)
    with pytest.raises(CodecriaError) as caught:
        open_checkpoint(tmp_path / "hf")
    assert line in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_folder_without_safetensors_names_the_mend(tmp_path):
    write_folder(tmp_path / "hf", tiny())
    (tmp_path / "hf" / "model.safetensors").rename(tmp_path / "hf" / "pytorch_model.bin")
    with pytest.raises(CodecriaError, match=r"no model.safetensors and no .*; save it with safe_serialization=True"):
        open_checkpoint(tmp_path / "hf")


def test_json_that_is_none_is_named(tmp_path):
    path = tmp_path / "config.json"
    for text, line in (("{\n'a': 1}", f"{path}:2: not JSON"), ("[1]", "holds no JSON object"), ("\x00", "not JSON")):
        path.write_text(text)
        with pytest.raises(CodecriaError) as caught:
            read_json(path)
        assert line in str(caught.value)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CodecriaError, match="not JSON"):
        read_json(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("hf") / "hf"
    write_folder(path, tiny())
    return path


@given(share=st.floats(0, 1, exclude_max=True))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_cut_file_never_loads(folder, tmp_path, share):
    data = (folder / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(data[: int(share * len(data))])
    with pytest.raises(CodecriaError, match="damaged or cut off"):
        FolderTensors(tmp_path)


@torch.no_grad()
def test_the_model_does_not_depend_on_the_file_afterwards(tmp_path):
    config = tiny()
    write_folder(tmp_path / "hf", config)
    model = load_model(open_checkpoint(tmp_path / "hf"))
    ids = sample_ids(config)
    before = model.logits(model(ids))
    data = (tmp_path / "hf" / "model.safetensors").read_bytes()
    with (tmp_path / "hf" / "model.safetensors").open("r+b") as file:
        file.write(bytes(len(data)))
    assert torch.equal(model.logits(model(ids)), before)
