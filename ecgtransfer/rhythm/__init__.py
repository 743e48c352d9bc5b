class RhythmModel:
    pass
