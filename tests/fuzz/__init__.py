"""Made input of every kind, for as long as FUZZ_SECONDS says."""
