"""Pipelines: a corpus, stages one after another, measures before and after, a report. Each part is resumed alone."""
