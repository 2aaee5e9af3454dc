import time

from codecria.common import progress
from codecria.common.progress import progress_bar, track


def test_off_a_terminal_a_closing_line_says_how_much_and_how_fast(capsys):
    with progress_bar("read", total=30, unit="files") as bar:
        for _ in range(30):
            bar.advance(1, note="now")
    line = capsys.readouterr().err.strip()
    assert line.startswith("read: 30 of 30 files, ")
    assert line.endswith("· now")


def test_lines_come_with_rate_and_time_left(capsys, monkeypatch):
    monkeypatch.setattr(progress, "_LINE_EVERY_S", 0.0)
    with progress_bar("train", total=40_000, unit="tokens") as bar:
        bar.advance(20_000)
    first = capsys.readouterr().err.splitlines()[0]
    assert first.startswith("train: 20.0k of 40.0k tokens, ")
    assert "tokens/s" in first
    assert "s left" in first


def test_track_passes_items_through():
    assert list(track([1, 2, 3], "count")) == [1, 2, 3]
    assert list(track(iter("ab"), "count")) == ["a", "b"]


def test_what_an_earlier_run_had_done_is_not_in_the_rate(capsys):
    with progress_bar("train", total=1000, unit="steps", start=990) as bar:
        time.sleep(0.2)
        bar.advance(1)
    line = capsys.readouterr().err
    assert line.startswith("train: 991 of 1000 steps, ")
    rate = float(line.split(", ")[1].split()[0])
    assert 1 < rate < 6
