"""The command line of ecgtransfer: a skin over `ecgtransfer.pipeline`."""
