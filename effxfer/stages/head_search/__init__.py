"""The stage that searches a head."""
