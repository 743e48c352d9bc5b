"""What a synthetic set is worth: utility, fidelity, physiology, privacy."""

from typing import TYPE_CHECKING

from ecgtransfer.lazy import lazy_names

if TYPE_CHECKING:
    from ecgtransfer.evaluation.arms import (
        RATIOS,
        TARGET_ONLY,
        Arm,
        default_arms,
        matched_records,
    )
    from ecgtransfer.evaluation.blind import (
        BlindScore,
        BlindTest,
        score_blind_test,
        write_blind_test,
    )
    from ecgtransfer.evaluation.classifier import (
        Classifier,
        ClassifierConfig,
        LabelledRecords,
        load_classifier,
        train_classifier,
    )
    from ecgtransfer.evaluation.delineation import (
        Intervals,
        measure_intervals,
    )
    from ecgtransfer.evaluation.distances import (
        BANDS_HZ,
        Prdc,
        band_power_error,
        frechet_distance,
        lead_correlation_difference,
        log_spectral_distance,
        mmd,
        neighbour_mixing,
        prdc,
        vendi_score,
    )
    from ecgtransfer.evaluation.embedding import (
        FeatureScale,
        embed,
    )
    from ecgtransfer.evaluation.fidelity import (
        compare_with_halves,
        measure_fidelity,
        negative_controls,
    )
    from ecgtransfer.evaluation.fidelity_result import Comparison, FidelityResult
    from ecgtransfer.evaluation.metrics import (
        ChallengeScores,
        PerClassChallengeScores,
        apply_thresholds,
        challenge_scores,
        choose_thresholds,
        macro_auroc,
        macro_average_precision,
        macro_calibration_error,
        per_class_auroc,
        per_class_average_precision,
        per_class_calibration_error,
        per_class_challenge_scores,
        weighted_auroc,
        weighted_average_precision,
        weighted_challenge_scores,
        weighted_f2,
        weighted_g2,
        weighted_macro_auroc,
        weighted_macro_average_precision,
    )
    from ecgtransfer.evaluation.physiology import (
        PhysiologyResult,
        measure_physiology,
    )
    from ecgtransfer.evaluation.privacy import (
        PrivacyResult,
        PrivacySide,
        measure_privacy,
    )
    from ecgtransfer.evaluation.two_sample import (
        Projection,
        TwoSampleTest,
        projection,
        two_sample_test,
    )
    from ecgtransfer.evaluation.utility import (
        count_trainings,
        utility_study,
    )
    from ecgtransfer.evaluation.utility_result import (
        ArmDifference,
        ArmResult,
        Overall,
        UtilityResult,
    )
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = [
    "BANDS_HZ",
    "RATIOS",
    "TARGET_ONLY",
    "Arm",
    "ArmDifference",
    "ArmResult",
    "BlindScore",
    "BlindTest",
    "ChallengeScores",
    "Classifier",
    "ClassifierConfig",
    "Comparison",
    "FeatureScale",
    "FidelityResult",
    "Intervals",
    "LabelledRecords",
    "Overall",
    "PerClassChallengeScores",
    "PhysiologyResult",
    "Prdc",
    "PrivacyResult",
    "PrivacySide",
    "Projection",
    "TwoSampleTest",
    "UtilityResult",
    "apply_thresholds",
    "band_power_error",
    "challenge_scores",
    "choose_thresholds",
    "compare_with_halves",
    "count_trainings",
    "default_arms",
    "embed",
    "frechet_distance",
    "lead_correlation_difference",
    "load_classifier",
    "log_spectral_distance",
    "macro_auroc",
    "macro_average_precision",
    "macro_calibration_error",
    "matched_records",
    "measure_fidelity",
    "measure_intervals",
    "measure_physiology",
    "measure_privacy",
    "mmd",
    "negative_controls",
    "neighbour_mixing",
    "per_class_auroc",
    "per_class_average_precision",
    "per_class_calibration_error",
    "per_class_challenge_scores",
    "prdc",
    "projection",
    "score_blind_test",
    "train_classifier",
    "two_sample_test",
    "utility_study",
    "vendi_score",
    "weighted_auroc",
    "weighted_average_precision",
    "weighted_challenge_scores",
    "weighted_f2",
    "weighted_g2",
    "weighted_macro_auroc",
    "weighted_macro_average_precision",
    "write_blind_test",
]
