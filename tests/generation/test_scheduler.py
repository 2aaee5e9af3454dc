from codecria.generation.sampling import SamplingOptions
from codecria.generation.scheduler import Scheduler
from codecria.generation.sequence import Priority, Sequence

CURSOR, JOB = Priority.INTERACTIVE, Priority.BATCH


def text(priority=CURSOR):
    return Sequence([1], SamplingOptions(), place=0, sample=0, seed=0, limit=10, watch=None, priority=priority)


def let_in(_):
    return True


def start(scheduler, sequence):
    """What the engine does when a prompt has been read."""
    scheduler.reading.remove(sequence)
    scheduler.running.append(sequence)


def test_who_comes_first_is_read_first_and_whole():
    scheduler, texts = Scheduler(), [text() for _ in range(3)]
    scheduler.add(texts)
    order = []
    for _ in range(6):
        reader = scheduler.turn(let_in).reader
        order.append(texts.index(reader))
        if order.count(order[-1]) == 2:
            scheduler.leave(reader)
    assert order == [0, 0, 1, 1, 2, 2]
    assert scheduler.turn(let_in) is None


def test_chunks_take_turns_with_the_running_texts_tokens():
    scheduler, first, second = Scheduler(), text(), text()
    scheduler.add([first])
    assert scheduler.turn(let_in).reader is first
    start(scheduler, first)
    scheduler.add([second])
    turns = [scheduler.turn(let_in) for _ in range(6)]
    assert [turn.reader for turn in turns] == [None, second] * 3
    assert all(turn.running == [first] for turn in turns[::2])


def test_the_cursor_goes_first_and_every_eighth_turn_is_the_jobs():
    scheduler, cursor, job = Scheduler(), text(), text(JOB)
    scheduler.add([job, cursor])
    readers = [scheduler.turn(let_in).reader for _ in range(24)]
    assert [reader is job for reader in readers] == [number % 8 == 7 for number in range(24)]


def test_on_its_own_turn_a_job_is_decoded_together_with_the_cursor():
    scheduler, cursor, job = Scheduler(), text(), text(JOB)
    scheduler.add([job, cursor])
    for sequence in (scheduler.turn(let_in).reader, scheduler.turn(let_in).reader):
        if sequence in scheduler.reading:
            start(scheduler, sequence)
    assert scheduler.running == [cursor]
    scheduler.turn(lambda _: False)
    while job not in scheduler.reading:
        scheduler.turn(let_in)
    start(scheduler, job)
    turns = [scheduler.turn(let_in).running for _ in range(8)]
    assert turns.count([cursor]) == 7 and turns.count([cursor, job]) == 1


def test_one_that_cannot_begin_holds_those_behind_it_back_but_one_that_failed_does_not():
    scheduler, large, small = Scheduler(), text(), text()
    scheduler.add([large, small])
    assert scheduler.turn(lambda sequence: sequence is small) is None
    assert scheduler.waiting == 2

    def fail_large(sequence):
        sequence.finished = sequence is large
        return sequence is small

    assert scheduler.turn(fail_large).reader is small
    assert scheduler.waiting == 0


def test_a_text_that_is_put_back_goes_before_those_that_wait():
    scheduler, first, second = Scheduler(), text(), text()
    scheduler.add([first, second])
    assert scheduler.turn(let_in).reader is first
    scheduler.put_back(first)
    assert scheduler.begun == 0 and scheduler.turn(let_in).reader is first


def test_whom_a_cursor_may_displace_is_the_job_that_began_last():
    scheduler, cursor, jobs = Scheduler(), text(), [text(JOB), text(JOB)]
    scheduler.running += [jobs[0], cursor, jobs[1]]
    assert scheduler.lower(CURSOR) is jobs[1]
    scheduler.leave(jobs[1])
    assert scheduler.lower(CURSOR) is jobs[0]
    assert scheduler.lower(JOB) is None
