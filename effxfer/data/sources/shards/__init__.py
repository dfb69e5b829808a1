"""Images in `.tar` files of the layout of WebDataset, read where they are."""
