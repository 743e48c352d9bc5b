"""Everything that can go wrong for a user, as one small tree; each message is one sentence."""


class EcgTransferError(Exception):
    """Root of the errors that the command line prints as one line and exit code 1."""


class ConfigError(EcgTransferError):
    """A setting that cannot be: out of range, or at odds with another."""


class SignalError(EcgTransferError):
    """One recording that cannot be read, converted or written."""


class CorpusError(EcgTransferError):
    """A set of recordings, its table, its labels or its splits."""


class ManifestError(EcgTransferError):
    """What `data_manifests/` states, or fails to state, about a data set."""


class RunError(EcgTransferError):
    """A run folder, a stage of it, or a training that cannot go on."""


class DivergedError(RunError):
    """A training whose loss, gradient or score is no longer finite."""


class StorageError(RunError):
    """A file or folder that cannot be written or read, or that another process is writing."""
