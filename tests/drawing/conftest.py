from tests.signals.conftest import ecg

__all__ = ["ecg"]
