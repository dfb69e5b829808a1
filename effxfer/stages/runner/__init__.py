"""The stage runner: runs a stage, skips it if its result exists, and resumes it after an interruption."""
