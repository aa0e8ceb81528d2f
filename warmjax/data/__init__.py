"""Conversations in, token batches out: reading, drawing, chat templates, loss masks."""
