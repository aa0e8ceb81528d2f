"""From estimates to a page that can be read anywhere; nothing here imports jax."""
