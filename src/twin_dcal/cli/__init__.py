"""The commands: parse, call, print. Exit 0 done, 2 the user's mistake (one line), 1 ours (traceback)."""
