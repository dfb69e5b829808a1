"""Settings of the stages; without heavy imports, so that a pipeline is checked before torch is loaded."""
