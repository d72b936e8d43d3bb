"""`python -m tests.fuzz TARGET --cases N`: parsers against hostile input, as often as there is time for."""
