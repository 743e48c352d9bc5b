"""Download published corpora and verify them against checksums, headers and counts."""
