"""Twins made of real photographs: small edits of identity, the same in all photographs of one edited person."""
