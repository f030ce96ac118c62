"""Which of the networks in a published file is the one to read."""

import re
from dataclasses import dataclass

from torch import Tensor

from edgebnn.checkpoint.contents import Bundle
from edgebnn.checkpoint.reasons import explain, is_aside, is_averaged
from edgebnn.errors import UserError, check
from edgebnn.hints import Hints

_USUAL_KEYS = ("state_dict", "model")
_USUAL_PARTS = {"module", "encoder_q", "backbone", "model", "online_net", "0"}
"""What most codes call the mapping with the weights, and the modules around a network. Other names are taken too, but
not where one of these is there."""


@dataclass(frozen=True)
class Place:
    """Where a network lies in a file: the names in `bundle` that start with `prefix`, which is "" or ends at a dot."""

    bundle: Bundle
    prefix: str

    @property
    def parts(self) -> list[str]:
        return [*self.bundle.path, *self.prefix.split(".")[:-1]]

    @property
    def name(self) -> str:
        """How the place is called in messages."""
        return ".".join(self.parts) or "the file itself"

    @property
    def aside(self) -> bool:
        """Whether its name says that it is not the trained network but an average, a key encoder or a teacher."""
        return is_aside(self.name)

    @property
    def unusual(self) -> tuple[bool, bool]:
        """Whether an unusual name leads to the bundle, and to the network within it."""
        return not set(self.bundle.path) <= set(_USUAL_KEYS), not set(self.prefix.split(".")[:-1]) <= _USUAL_PARTS

    @property
    def rank(self) -> int:
        """Order among places of usual names."""
        first = self.bundle.path[:1]
        return _USUAL_KEYS.index(first[0]) if first and first[0] in _USUAL_KEYS else len(_USUAL_KEYS)

    def weights(self) -> dict[str, Tensor]:
        start = len(self.prefix)
        return {key[start:]: value for key, value in self.bundle.tensors.items() if key.startswith(self.prefix)}


def find_places(bundles: list[Bundle], key: str) -> list[Place]:
    """Returns all places of networks that have a tensor whose name matches the regular expression `key`."""
    pattern = re.compile(rf"((?:[^.]+\.)*?){key}")
    matches = [(bundle, pattern.fullmatch(name)) for bundle in bundles for name in bundle.tensors]
    return [Place(bundle, match[1]) for bundle, match in matches if match]


def choose_place(places: list[Place], what: str, hints: Hints) -> tuple[Place, list[str]]:
    """Returns the place of the network to read, and what was assumed in choosing it, in words.

    Averages, key encoders and teachers are read where they are all there is, or, averages, where the user asks.

    Raises:
        UserError: several different networks could be meant, or the file lacks the averages that the user asks for.
    """
    averaged = [place for place in places if is_averaged(place.name) or _follows_student(place, places)]
    if hints.ema:
        names = ", ".join(place.name for place in places)
        check(averaged, f"{what} holds no averaged weights (EMA) beside the trained ones, only {names}; leave ema out")
        candidates = averaged
    else:
        candidates = [place for place in places if not place.aside] or averaged or places
    candidates = sorted(candidates, key=lambda place: (place.unusual, place.rank, len(place.prefix), place.prefix))
    best = candidates[0]
    rivals = [place for place in candidates if not _same(place, best)]
    equals = [place.name for place in rivals if place.unusual == best.unusual]
    if equals and any(best.unusual):
        names = ", ".join([best.name, *equals])
        raise UserError(f"{what} holds several networks ({names}); save the one you mean as a state dict of its own")
    assumed = [f"the network under {best.name}, not that under {place.name}" for place in rivals]
    if not hints.ema:
        left = [place for place in averaged if place != best]
        assumed += [f"the trained weights, not the averaged ones (EMA) under {place.name}" for place in left]
    return best, assumed


def describe_others(places: list[Place], best: Place) -> dict[str, str]:
    """Returns for the prefixes of the networks beside the chosen one, in its bundle, why they are not read."""
    others = [place for place in places if place.bundle is best.bundle and place.prefix != best.prefix]
    return {
        place.prefix: explain(place.name)
        or ("the same network under another name" if _same(place, best) else "another network")
        for place in others
    }


def _follows_student(place: Place, places: list[Place]) -> bool:
    """Whether `place` is a teacher whose student has weights of the same shapes, as DINO's and Mean Teacher's."""
    if not any("teacher" in part for part in place.parts):
        return False
    shapes = {key: value.shape for key, value in place.weights().items()}
    students = [other for other in places if any("student" in part for part in other.parts)]
    return any(shapes.items() == {k: v.shape for k, v in student.weights().items()}.items() for student in students)


def _same(one: Place, other: Place) -> bool:
    """Whether both places hold the same tensors."""
    first, second = one.weights(), other.weights()
    if first.keys() != second.keys():
        return False
    return all(first[k].shape == second[k].shape and bool((first[k] == second[k]).all()) for k in first)
