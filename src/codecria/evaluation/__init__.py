"""What a model can do, in numbers: tasks, measures with intervals, and one report. Needs no server."""
