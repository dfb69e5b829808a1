"""Vocabulary pruning: the tokens that texts use stay, in the table of embeddings and in the tokenizer."""
