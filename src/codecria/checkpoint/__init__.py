"""Models on disk: Hugging Face folders, Meta's `.pth` parts and GGUF files, in and out; models by name.

`open_checkpoint` reads all three; `load_model` fills a `Transformer`; `save_huggingface`, `export_gguf` and
`convert` write.
"""
