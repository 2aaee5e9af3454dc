import pytest

from codecria.instruct.judging import Bench
from codecria.instruct.mining import mine_package
from tests.instruct.packages import write_package


@pytest.fixture(scope="session")
def packages(tmp_path_factory):
    return write_package(tmp_path_factory.mktemp("packages"))


@pytest.fixture(scope="session")
def questions(packages):
    """The small package's functions by name."""
    return {question.place.name: question for question in mine_package(packages, "small_lists", suites=False)}


@pytest.fixture(scope="module")
def bench(packages):
    with Bench([packages]) as opened:
        yield opened
