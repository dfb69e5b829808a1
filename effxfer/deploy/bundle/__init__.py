"""A folder to hand over: model, card, example, web page."""
