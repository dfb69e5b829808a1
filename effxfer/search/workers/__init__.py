"""Workers of a search: which trial comes next, how it is run, and several processes that do so."""
