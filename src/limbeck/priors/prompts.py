"""Prompts of class names: the first synonym (CoDA Sec. 4.1), more where two classes share it."""

from collections import Counter
from collections.abc import Sequence

from limbeck.errors import LimbeckError


def _words(name: str) -> str:
    """A class's name as text: Places365's have underscores ("apartment_building-outdoor")."""
    return name.replace("_", " ")


def prompts(classes: Sequence[str], template: str = "{name}") -> list[str]:
    """One prompt per class of a dataset; names are comma-separated synonyms.

    Classes that share their first synonym ("crane", "maillot") take as many more as tell them apart.

    Raises
    ------
    LimbeckError: two classes have all their synonyms in common.
    """
    synonyms = [[part.strip() for part in _words(name).split(",") if part.strip()] or [name] for name in classes]
    used = [1] * len(classes)
    while True:
        texts = [", ".join(names[:n]) for names, n in zip(synonyms, used, strict=True)]
        counts = Counter(texts)
        longer = [i for i, text in enumerate(texts) if counts[text] > 1 and used[i] < len(synonyms[i])]
        if not longer:
            break
        for i in longer:
            used[i] += 1
    shared = [i for i, text in enumerate(texts) if counts[text] > 1]
    if shared:
        raise LimbeckError(f"classes {classes[shared[0]]!r} and {classes[shared[1]]!r} would have the same prompt; rename one")
    return [template.format(name=text) for text in texts]
