import struct

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codecria.checkpoint.gguf.reader import read_gguf
from codecria.common.errors import CodecriaError
from tests.timing import quickest_s


def write_sample(path, **keys):
    """One key of each type, three tensors."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint8("a.uint8", 200)
    writer.add_int8("a.int8", -7)
    writer.add_uint16("a.uint16", 60_000)
    writer.add_int16("a.int16", -30_000)
    writer.add_uint32("a.uint32", 4_000_000_000)
    writer.add_int32("a.int32", -2_000_000_000)
    writer.add_float32("a.float32", 0.5)
    writer.add_bool("a.bool", True)
    writer.add_string("a.string", "▁né\n")
    writer.add_uint64("a.uint64", 2**63)
    writer.add_int64("a.int64", -(2**62))
    writer.add_float64("a.float64", 1e300)
    writer.add_array("a.strings", ["", "x", "łódź"])
    writer.add_array("a.numbers", [1, -2, 3])
    writer.add_array("a.floats", [0.25, -1e9])
    for key, value in keys.items():
        writer.add_uint32(key.replace("__", "."), value)
    rng = np.random.default_rng(0)
    tensors = {
        "a.weight": rng.standard_normal((3, 64)).astype(np.float32),
        "b.weight": rng.standard_normal((5,)).astype(np.float16),
    }
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    blocks = gguf.quants.quantize(tensors["a.weight"], gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("c.weight", blocks, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tensors, blocks


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    path = tmp_path_factory.mktemp("gguf") / "sample.gguf"
    write_sample(path)
    return path


def test_keys_and_tensors_are_read(tmp_path):
    path = tmp_path / "sample.gguf"
    tensors, blocks = write_sample(path)
    file = read_gguf(path)
    assert file.version == 3
    assert file.metadata == {
        "general.architecture": "llama",
        "a.uint8": 200,
        "a.int8": -7,
        "a.uint16": 60_000,
        "a.int16": -30_000,
        "a.uint32": 4_000_000_000,
        "a.int32": -2_000_000_000,
        "a.float32": 0.5,
        "a.bool": True,
        "a.string": "▁né\n",
        "a.uint64": 2**63,
        "a.int64": -(2**62),
        "a.float64": 1e300,
        "a.strings": ["", "x", "łódź"],
        "a.numbers": [1, -2, 3],
        "a.floats": [0.25, -1e9],
    }
    assert [(info.name, info.shape, info.kind.name) for info in file.tensors.values()] == [
        ("a.weight", (3, 64), "F32"),
        ("b.weight", (5,), "F16"),
        ("c.weight", (3, 64), "Q8_0"),
    ]
    assert np.array_equal(file.blocks("a.weight").view(np.float32), tensors["a.weight"])
    assert np.array_equal(file.blocks("b.weight").view(np.float16), tensors["b.weight"])
    assert np.array_equal(file.blocks("c.weight"), blocks)


def test_writing_to_a_tensor_leaves_the_file_alone(sample):
    before = sample.read_bytes()
    read_gguf(sample).blocks("c.weight")[:] = 0
    assert sample.read_bytes() == before


def test_smollm2_equals_the_library_and_takes_a_fraction_of_its_time(smollm2_gguf, smollm2_library):
    reader, library_s = smollm2_library
    file = read_gguf(smollm2_gguf)
    assert quickest_s(lambda: read_gguf(smollm2_gguf)) < library_s / 4
    theirs = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    assert file.metadata == theirs
    assert len(file.tensors) == len(reader.tensors) == 272
    for tensor in reader.tensors:
        info = file.tensors[tensor.name]
        assert (info.offset, info.size) == (tensor.data_offset, tensor.n_bytes)
        assert info.kind.name == tensor.tensor_type.name
        assert info.shape == tuple(tensor.shape.tolist())[::-1]


def test_every_cut_is_refused_with_one_line(sample, tmp_path):
    data = sample.read_bytes()
    last = read_gguf(sample).tensors["c.weight"]
    path = tmp_path / "cut.gguf"
    for end in [*range(0, last.offset + last.size, 7), last.offset + last.size - 1]:
        path.write_bytes(data[:end])
        with pytest.raises(CodecriaError) as caught:
            read_gguf(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    path.write_bytes(data[: last.offset + last.size])
    read_gguf(path)


@given(place=st.floats(0, 1), value=st.integers(0, 255), width=st.sampled_from([1, 4, 8]))
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damage_is_read_or_refused_never_a_crash(sample, tmp_path, place, value, width):
    data = bytearray(sample.read_bytes())
    header = read_gguf(sample).tensors["a.weight"].offset
    start = int(place * (header - width))
    data[start : start + width] = bytes([value]) * width
    path = tmp_path / "damaged.gguf"
    path.write_bytes(data)
    try:
        file = read_gguf(path)
        for name in file.tensors:
            file.blocks(name)
    except CodecriaError as error:
        assert "\n" not in str(error)


def header(version=3, tensors=0, keys=0, magic=b"GGUF"):
    return magic + struct.pack("<IQQ", version, tensors, keys)


def key(name, code, value):
    return struct.pack("<Q", len(name)) + name + struct.pack("<I", code) + value


def entry(name=b"t", shape=(32,), code=0, offset=0):
    data = struct.pack("<Q", len(name)) + name + struct.pack("<I", len(shape))
    return data + b"".join(struct.pack("<Q", size) for size in shape) + struct.pack("<IQ", code, offset)


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"", "an empty file"),
        (b"PK\x03\x04" + bytes(100), r"it starts with 'PK\x03\x04'; name a .gguf file"),
        (header(version=1), "GGUF version 1; write it again"),
        (header(version=9), "GGUF version 9; versions 2 and 3 are read"),
        (header(version=0x03000000), "a big-endian GGUF file"),
        (header(keys=1), "truncated: a key needs 8 bytes at byte 24, the file has 24"),
        (header(keys=1) + key(b"k", 99, b""), "'k' has the unknown value type 99"),
        (header(keys=1) + key(b"k", 8, struct.pack("<Q", 2**40)), f"the value of 'k' needs {2**40} bytes at byte 45"),
        (header(keys=1) + key(b"k", 9, struct.pack("<IQ", 4, 2**60)), f"the array 'k' claims {2**60} items"),
        (header(keys=1) + key(b"k", 9, struct.pack("<IQ", 9, 1)), "'k' is an array of arrays"),
        (header(keys=1) + key(b"k", 8, struct.pack("<Q", 1) + b"\xff"), "the value of 'k' at byte 45 is not UTF-8"),
        (header(keys=2) + key(b"k", 0, b"1") * 2, "the key 'k' stands twice"),
        (header(keys=1) + key(b"general.alignment", 4, struct.pack("<I", 12)), "'general.alignment' = 12"),
        (header(keys=1) + key(b"split.count", 2, struct.pack("<H", 3)), "one of 3 parts of a model"),
        (header(tensors=1) + entry(code=10), "tensor 't' has the type Q2_K; use a file whose tensors have the types"),
        (header(tensors=1) + entry(code=999), "tensor 't' has the type number 999"),
        (header(tensors=1) + entry(shape=(0,)), "tensor 't' has the shape [0]"),
        (header(tensors=1) + entry(shape=(1,) * 5), "tensor 't' has 5 dimensions"),
        (header(tensors=1) + entry(shape=(33,), code=8), "rows of 33 are no multiple of Q8_0's 32"),
        (header(tensors=1) + entry(offset=64) + bytes(999), "tensor 't' starts at offset 64, expected 0"),
        (header(tensors=2) + entry(shape=(1,)) * 2 + bytes(999), "tensor 't' stands twice"),
        (header(tensors=1) + entry(), "truncated: tensor 't' needs 128 bytes at byte 64, the file has 57"),
    ],
)
def test_foreign_and_damaged_files_are_named(tmp_path, data, line):
    path = tmp_path / "bad.gguf"
    path.write_bytes(data)
    with pytest.raises(CodecriaError) as caught:
        read_gguf(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert line in str(caught.value)


def test_version_2_is_read(tmp_path):
    path = tmp_path / "two.gguf"
    path.write_bytes(header(version=2, keys=1) + key(b"k", 7, b"\x01"))
    assert read_gguf(path).metadata == {"k": True}


def test_an_absent_file_is_one_line(tmp_path):
    with pytest.raises(CodecriaError, match="no such file or folder"):
        read_gguf(tmp_path / "none.gguf")
