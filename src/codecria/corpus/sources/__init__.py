"""Where documents come from: one small file per source, each giving candidates as a stream."""
