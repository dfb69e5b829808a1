"""From a text to the network's input, with numpy and the package `tokenizers`."""
