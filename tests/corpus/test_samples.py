from hypothesis import given
from hypothesis import strategies as st

from codecria.corpus.samples import Samples, read_samples

OFFERS = st.lists(
    st.tuples(st.floats(0, 1), st.sampled_from(["too-long", "binary"]), st.integers(0, 9)), max_size=40, unique=True
)


def offered(offers, most=3):
    samples = Samples(most)
    for draw, reason, number in offers:
        samples.offer(draw, reason, "because", "package", f"{number}.py", "text")
    return samples


@given(OFFERS, st.randoms(use_true_random=False))
def test_the_order_of_offers_does_not_matter(offers, random):
    shuffled = list(offers)
    random.shuffle(shuffled)
    assert offered(shuffled).rows() == offered(offers).rows()


@given(OFFERS, st.integers(0, 40))
def test_samples_of_parts_make_samples_of_the_whole(offers, cut):
    whole = Samples(3)
    for part in (offers[:cut], offers[cut:]):
        whole.merge(offered(part).rows())
    assert whole.rows() == offered(offers).rows()


def test_the_smallest_draws_are_kept_and_come_back(tmp_path):
    samples = offered([(0.9, "binary", 1), (0.1, "binary", 2), (0.5, "binary", 3)], most=2)
    samples.write(tmp_path / "samples.parquet")
    assert [row["path"] for row in read_samples(tmp_path / "samples.parquet")] == ["2.py", "3.py"]
    Samples(2).write(tmp_path / "empty.parquet")
    assert read_samples(tmp_path / "empty.parquet") == []


def test_the_same_file_from_two_sources_is_one_sample():
    assert len(offered([(0.5, "binary", 1), (0.5, "binary", 1)]).rows()) == 1
