"""The commands: parse, call, print. How they end is in `exits` (docs/commands.md)."""
