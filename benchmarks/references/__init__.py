"""Methods beside the implementations of libraries for that method alone: development references, never dependencies."""
