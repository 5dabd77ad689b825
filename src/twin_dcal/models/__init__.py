"""Attention as pure functions, rollout, backbones and the DCAL model."""
