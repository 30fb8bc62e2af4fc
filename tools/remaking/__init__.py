"""What `tools/results.py` remakes: parts.py says what there is, a file a kind of part; documents.py writes tables."""
