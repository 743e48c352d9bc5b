"""Readers of published corpora, WFDB folders and array files: records with codes."""
