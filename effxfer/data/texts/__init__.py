"""Read labelled texts, check them, and turn them into rows of token ids once."""
