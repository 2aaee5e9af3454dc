"""GGUF, the file format of llama.cpp: header, block codecs, and models in and out."""
