"""What exported files decide: right and wrong by class, how certain they are, and their mistakes."""
