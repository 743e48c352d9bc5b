"""The command line of ecgtransfer: a thin layer over `ecgtransfer.pipeline`."""
