"""From verdicts and warmth scores to estimates with intervals; nothing here imports jax."""
