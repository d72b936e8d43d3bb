"""What every provider promises (`providers.base`), tried on each of them against its lab."""
