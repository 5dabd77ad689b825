"""What each branch is worth: every combination trained with several seeds, and compared on the same test pairs."""
