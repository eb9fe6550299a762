"""DD-Ranking's scores, from accuracies as fractions.

Li et al., "DD-Ranking: Rethinking the Evaluation of Dataset Distillation", 2025 (arXiv 2505.13300), "Label-Robust Score" and
"Augmentation-Robust Score": both weigh two differences equally and map the result from [-1, 1] to 0-100 by (e^x - 1/e) / (e - 1/e).
A set as good as a random one whose hard labels recover the whole training set (x = 0) scores 26.9.
"""

import math
from collections.abc import Mapping

WEIGHT = 0.5  # of their leaderboard: w of the LRS, gamma of the ARS
HARD = "hard"
Kinds = Mapping[str, tuple[str, bool]]  # protocol -> its labels (hard or soft), whether it augments; in the run's order
Accuracies = Mapping[str, float]  # protocol -> mean accuracy of one row and student; what failed is missing


def normalised(x: float) -> float:
    """From [-1, 1] to 0-100."""
    return 100 * (math.exp(x) - math.exp(-1)) / (math.e - math.exp(-1))


def label_robust(recovery: float, improvement: float) -> float:
    """LRS of the hard label recovery HLR (whole training set minus distilled) and the improvement over random IOR."""
    return normalised(WEIGHT * improvement - (1 - WEIGHT) * recovery)


def augmentation_robust(augmented: float, plain: float) -> float:
    """ARS of the improvements over random with and without augmentation."""
    return normalised(WEIGHT * augmented + (1 - WEIGHT) * plain)


def lrs(own: Accuracies, full: Accuracies, random: Accuracies, kinds: Kinds) -> float | None:
    """From the row's accuracies, the whole training set's and a random real subset's; None where one is missing.

    Hard labels are those of the run's first such protocol; the improvement is taken under the protocol in which the row does best.
    """
    hard = next((name for name, (labels, _) in kinds.items() if labels == HARD), "")
    any_ = max((name for name in own if name in random), key=own.__getitem__, default=None)
    if any_ is None or hard not in own or hard not in full:
        return None
    return label_robust(full[hard] - own[hard], own[any_] - random[any_])


def ars(own: Accuracies, random: Accuracies, kinds: Kinds) -> float | None:
    """From the first two protocols of the run that share their labels and of which one augments; None where there are none."""
    shared = [name for name in kinds if name in own and name in random]
    for plain in (name for name in shared if not kinds[name][1]):
        for augmented in (name for name in shared if kinds[name] == (kinds[plain][0], True)):
            return augmentation_robust(own[augmented] - random[augmented], own[plain] - random[plain])
    return None


def highest(own: Accuracies, kinds: Kinds) -> tuple[float, str] | None:
    """The higher of hard and soft labels and its protocol, as IMS3 reports it; None in a run of one kind of labels."""
    if len({labels for labels, _ in kinds.values()}) < 2 or not own:
        return None
    name = max(own, key=own.__getitem__)
    return own[name], name
