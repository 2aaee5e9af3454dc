import errno
import fcntl

from codecria.common.lock import alone


def test_a_file_system_without_locks_holds_nobody_up(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    with alone(tmp_path / "run"):
        pass
    assert not list(tmp_path.iterdir())
