"""The study's own procedure, quirks included, so that its numbers can be made again from rows.

Nothing here is what a reader should use: `stats.analysis` holds the corrected procedure, `quirks` the difference.
"""
