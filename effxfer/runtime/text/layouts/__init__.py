"""Tokenizers that older folders hold in several files, as one `tokenizer.json`."""
