class RhythmModel: pass
