import pytest

from codecria.checkpoint.catalogue import (
    CATALOGUE,
    DEFAULT,
    INFILLING,
    fetch,
    find_entry,
    list_models,
    local_path,
    near_name,
)
from codecria.common.errors import CodecriaError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CODECRIA_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


def test_which_models_infill():
    """Paper §2.3 and table 1: 34B and the Python models do not; 70B's Instruct was trained from its Python."""
    infilling = {name for name, entry in CATALOGUE.items() if entry.infills}
    code_llama = {f"codellama-{size}{kind}" for size in ("7b", "13b", "70b") for kind in ("", "-instruct")} - {
        "codellama-70b-instruct"
    }
    assert infilling == code_llama | {"codecria-135m-infill"}


def test_names_repositories_and_licences():
    entry = CATALOGUE["codellama-13b-python"]
    assert (entry.origin, entry.licence) == ("codellama/CodeLlama-13b-Python-hf", "llama2")
    assert find_entry("codellama/CodeLlama-13b-Python-hf") is find_entry("CodeLlama-13B-Python") is entry
    assert CATALOGUE["smollm2-1.7b-base"].origin == "HuggingFaceTB/SmolLM2-1.7B"
    assert CATALOGUE["smollm2-360m-instruct"].licence == "apache-2.0"
    assert CATALOGUE["llama-2-70b-chat"].origin == "meta-llama/Llama-2-70b-chat-hf"
    assert CATALOGUE[DEFAULT].source == "package"
    assert find_entry("gpt-4") is None
    assert near_name("codelama-7b") == "codellama-7b"
    assert near_name("something else") is None


def test_an_unknown_name_is_refused():
    with pytest.raises(CodecriaError, match="codelama-7b: no such model; did you mean 'codellama-7b'"):
        fetch("codelama-7b")
    assert local_path("codelama-7b") is None


def test_what_is_there_is_not_fetched(cache):
    assert local_path("codellama-7b") is None
    place = cache / "models" / "codellama-7b"
    place.mkdir(parents=True)
    assert fetch("codellama-7b") == local_path("CodeLlama-7b") == place
    file = cache / "models" / DEFAULT / "SmolLM2-135M-Instruct.Q4_1.gguf"
    file.parent.mkdir()
    assert local_path(DEFAULT) is None
    file.write_bytes(b"GGUF")
    assert fetch(DEFAULT) == local_path(DEFAULT) == file


def test_the_list_has_the_catalogue_and_what_lies_around(cache, tmp_path):
    def write(path, text="{}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    write(cache / "models" / DEFAULT / "SmolLM2-135M-Instruct.Q4_1.gguf")
    write(cache / "models" / "mine" / "config.json")
    write(cache / "models" / "mine" / "README.md", "---\nlicense: mit\n---\n")
    write(tmp_path / "runs" / "demo" / "code" / "checkpoint" / "config.json")
    write(tmp_path / "runs" / "demo" / "model.gguf")
    write(tmp_path / "runs" / "meta" / "params.json")
    write(tmp_path / "runs" / ".half.part" / "config.json")
    listings = list_models()
    assert [listing.name for listing in listings[: len(CATALOGUE)]] == list(CATALOGUE)
    # The adapter that ships is there when its base is.
    assert {listing.name for listing in listings[: len(CATALOGUE)] if listing.path} == {DEFAULT, INFILLING}
    others = {str(listing.path): listing.licence for listing in listings[len(CATALOGUE) :]}
    assert others == {
        str(cache / "models" / "mine"): "mit",
        "runs/demo/code/checkpoint": None,
        "runs/demo/model.gguf": None,
        "runs/meta": None,
    }
