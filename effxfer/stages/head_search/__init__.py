"""The stage that searches for a head on a frozen body."""
