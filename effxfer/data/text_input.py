"""How a network reads the texts of a data set: single ones or pairs, whole or in windows."""

from dataclasses import replace

from effxfer.data.listing import POSITION_KINDS, Listing
from effxfer.runtime.inputs import Input
from effxfer.runtime.text.pattern import PAIR, SINGLE
from effxfer.runtime.text.tokens import Tokens

# Chosen: successive windows share a quarter, as 128 of 512 tokens do in BERT's own code for questions.
SHARED = 4


def fit_input(input: Input, listing: Listing) -> Input:
    """Return a network's input for the examples of a data set.

    Pairs are read by the pattern for two texts, unless the network's own takes two already. Texts with labels for their
    words, and contexts of questions, are read in overlapping windows where they are longer than the network reads;
    texts with one label are cut.

    Args:
        input: The network's; one of images stays as it is.
        listing: The examples.
    """
    if not isinstance(input, Tokens) or not listing.texts:
        return input
    is_pair = isinstance(next(iter(listing.texts.values())), tuple)
    pattern = PAIR if is_pair and input.pattern == SINGLE else SINGLE if input.pattern == PAIR and not is_pair else None
    stride = (input.stride or input.size // SHARED) if listing.labels in POSITION_KINDS else 0
    return replace(input, pattern=pattern or input.pattern, stride=stride)


def read_alike(input: Input, like: Input) -> Input:
    """Return the input of a network that is compared with another one: it reads the same texts, pairs and windows.

    Args:
        input: Its own; one of images stays as it is.
        like: The other network's. A pattern with words stays with that network.
    """
    if not isinstance(input, Tokens) or not isinstance(like, Tokens):
        return input
    stride = input.stride or input.size // SHARED if like.stride else 0
    return replace(input, pattern=PAIR if like.takes_pairs else SINGLE, stride=stride)
