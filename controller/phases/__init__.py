"""The steps of an import, one file each. A step looks at the world, acts, and says what came of it."""
