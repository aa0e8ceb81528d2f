"""Rewriting of replies in a style: one interface, and the writers behind it."""
