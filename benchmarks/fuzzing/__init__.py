"""Model files that nobody made: how they are mutated, and what becomes of them (`benchmarks/fuzz_models.py`)."""
