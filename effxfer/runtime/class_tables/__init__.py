"""Tables that say what classes are: one row of numbers for each, such as attributes or word vectors."""
