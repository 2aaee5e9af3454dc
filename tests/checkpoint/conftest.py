import time

import gguf
import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def smollm2_library(smollm2_gguf) -> tuple[gguf.GGUFReader, float]:
    """SmolLM2's file as the gguf library reads it, and the seconds that took."""
    started_s = time.perf_counter()
    reader = gguf.GGUFReader(smollm2_gguf)
    return reader, time.perf_counter() - started_s
