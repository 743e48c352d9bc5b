"""Prepared sets: one rate, length and label space; how they are written, read and prepared."""
