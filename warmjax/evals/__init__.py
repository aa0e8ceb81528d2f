"""Evaluation: questions, the prompts made of them, and the verdicts on the answers. No jax here."""
