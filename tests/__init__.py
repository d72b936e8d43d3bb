"""Everything that proves the controller right; nothing here is installed with it."""
