"""Data sets: what is in them, how they are split, and how images become batches."""
