"""Evaluation of synthetic sets: utility, fidelity, physiology, privacy, and a blind reading.

Each evaluation is a package: `study` measures, `result` holds what was measured, and `figures`
makes tables and figures of it.
"""

from typing import TYPE_CHECKING

from ecgtransfer.lazy import lazy_names

if TYPE_CHECKING:
    from ecgtransfer.evaluation.answer import Evaluation
    from ecgtransfer.evaluation.blind import (
        BlindScore,
        BlindTest,
        describe_blind_test,
        reader_table,
        score_blind_test,
        write_blind_test,
    )
    from ecgtransfer.evaluation.classifier import (
        Classifier,
        ClassifierConfig,
        load_classifier,
        train_classifier,
    )
    from ecgtransfer.evaluation.cohorts import Cohort, Cohorts
    from ecgtransfer.evaluation.delineation import (
        Intervals,
        measure_intervals,
    )
    from ecgtransfer.evaluation.distances import (
        Prdc,
        frechet_distance,
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
        FeatureMap,
        FidelityEvaluation,
        FidelityResult,
        FidelitySettings,
        Projection,
        TwoSampleTest,
        evaluate_fidelity,
        measure_fidelity,
        negative_controls,
        projection,
        two_sample_test,
    )
    from ecgtransfer.evaluation.halves import Comparison, compare_with_halves
    from ecgtransfer.evaluation.labelled import LabelledRecords
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
        PhysiologyEvaluation,
        PhysiologyResult,
        PhysiologySettings,
        evaluate_physiology,
        measure_physiology,
    )
    from ecgtransfer.evaluation.privacy import (
        PrivacyEvaluation,
        PrivacyResult,
        PrivacySettings,
        PrivacySide,
        evaluate_privacy,
        measure_privacy,
    )
    from ecgtransfer.evaluation.signal_distances import (
        BANDS_HZ,
        band_power_error,
        lead_correlation_difference,
        log_spectral_distance,
    )
    from ecgtransfer.evaluation.utility import (
        ARMS,
        OF_SOURCE_RECORDS,
        RATIOS,
        TARGET_ONLY,
        Arm,
        ArmDifference,
        ArmResult,
        Overall,
        UtilityEvaluation,
        UtilityResult,
        UtilitySettings,
        count_trainings,
        default_arms,
        evaluate_utility,
        matched_records,
        utility_study,
    )
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = [
    "ARMS",
    "BANDS_HZ",
    "OF_SOURCE_RECORDS",
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
    "Cohort",
    "Cohorts",
    "Comparison",
    "Evaluation",
    "FeatureMap",
    "FeatureScale",
    "FidelityEvaluation",
    "FidelityResult",
    "FidelitySettings",
    "Intervals",
    "LabelledRecords",
    "Overall",
    "PerClassChallengeScores",
    "PhysiologyEvaluation",
    "PhysiologyResult",
    "PhysiologySettings",
    "Prdc",
    "PrivacyEvaluation",
    "PrivacyResult",
    "PrivacySettings",
    "PrivacySide",
    "Projection",
    "TwoSampleTest",
    "UtilityEvaluation",
    "UtilityResult",
    "UtilitySettings",
    "apply_thresholds",
    "band_power_error",
    "challenge_scores",
    "choose_thresholds",
    "compare_with_halves",
    "count_trainings",
    "default_arms",
    "describe_blind_test",
    "embed",
    "evaluate_fidelity",
    "evaluate_physiology",
    "evaluate_privacy",
    "evaluate_utility",
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
    "reader_table",
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
