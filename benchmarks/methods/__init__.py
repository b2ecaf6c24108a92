"""Label noise, penalties and their neighbours on three data sets: the table of a chapter, computed once."""
