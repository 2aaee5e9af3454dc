from codecria.training.metrics import MetricsFile, read_metrics


def test_opening_at_a_step_drops_what_came_later_and_a_torn_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 3.0}\n{"step": 2, "loss": 2.5}\n{"step": 3, "lo')
    metrics = MetricsFile(path, step=1)
    metrics.write(step=2, loss=2.5)
    metrics.close()
    assert read_metrics(path) == [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.5}]


def test_no_file_is_no_figures(tmp_path):
    assert read_metrics(tmp_path / "none.jsonl") == []
