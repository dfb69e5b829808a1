"""A folder for distribution: model, card, example, web page."""
