"""Readers: corpora as published, folders of WFDB records and arrays, as records with codes."""
