"""Settings of the stages; light, so that a pipeline is checked before torch is loaded."""
