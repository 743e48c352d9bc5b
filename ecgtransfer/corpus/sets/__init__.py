"""Prepared sets with one sampling rate, length and label space: prepare, write and open them."""
