"""Decisions on pairs of pictures: what `TwinInferenceEngine` is made of. No torch but in `torch_backend`."""
