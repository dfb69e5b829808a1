"""Reports on classes without examples, and the constant with which known and new ones are compared."""
