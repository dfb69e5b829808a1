"""Why a model is not faster or smaller: its layers, measured, and what could be changed."""
