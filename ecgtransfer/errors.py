"""Errors that a user can cause or fix; each message is one sentence with a remedy."""


class EcgTransferError(Exception):
    """Base class; the command line prints the message as one line and exits with code 1."""


class ConfigError(EcgTransferError):
    """A setting is out of range or contradicts another setting."""


class SignalError(EcgTransferError):
    """A recording cannot be read, converted or written."""


class CorpusError(EcgTransferError):
    """A set of recordings, its table, its labels or its splits are invalid."""


class ManifestError(EcgTransferError):
    """An entry in `data_manifests/` is missing or wrong."""


class RunError(EcgTransferError):
    """A run folder, one of its stages, or a training cannot continue."""


class DivergedError(RunError):
    """The loss, gradient or validation score of a training is not finite."""


class StorageError(RunError):
    """A file or folder cannot be read or written, or another process is writing it."""
