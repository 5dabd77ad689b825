"""One pair, a folder of pictures or a prompt, on a terminal: what `dcal-verify` does."""
