"""Learning tasks one after another: classes that come with time, controls, and reports of what is forgotten."""
