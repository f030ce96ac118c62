"""Chooses which of the networks in a published file is read."""

import re
from dataclasses import dataclass

from torch import Tensor

from edgebnn.checkpoint.contents import Bundle
from edgebnn.checkpoint.reasons import explain, is_aside, is_averaged
from edgebnn.errors import UserError, check
from edgebnn.hints import Hints

_USUAL_KEYS = ("state_dict", "model")
_USUAL_PARTS = {"module", "encoder_q", "backbone", "model", "online_net", "0"}
"""The usual names of the mapping with the weights, and of the modules around a network. Other names are accepted if
none of these occurs."""


@dataclass(frozen=True)
class Place:
    """The place of a network in a file.

    Attributes:
        bundle: the mapping that has the network's tensors.
        prefix: the prefix of their names: "", or a text that ends with a dot.
    """

    bundle: Bundle
    prefix: str

    @property
    def parts(self) -> list[str]:
        """The keys and module names that lead to the network."""
        return [*self.bundle.path, *self.prefix.split(".")[:-1]]

    @property
    def name(self) -> str:
        """The name of the place in messages."""
        return ".".join(self.parts) or "the file itself"

    @property
    def aside(self) -> bool:
        """Whether the name shows that this is not the trained network, but an average, a key encoder or a teacher."""
        return is_aside(self.name)

    @property
    def unusual(self) -> tuple[bool, bool]:
        """Whether unusual names lead to the bundle, and whether unusual names lead to the network in it."""
        return not set(self.bundle.path) <= set(_USUAL_KEYS), not set(self.prefix.split(".")[:-1]) <= _USUAL_PARTS

    @property
    def rank(self) -> int:
        """The order among places with usual names."""
        first = self.bundle.path[:1]
        return _USUAL_KEYS.index(first[0]) if first and first[0] in _USUAL_KEYS else len(_USUAL_KEYS)

    def weights(self) -> dict[str, Tensor]:
        """Returns the network's tensors by their names within the network."""
        start = len(self.prefix)
        return {key[start:]: value for key, value in self.bundle.tensors.items() if key.startswith(self.prefix)}


def find_places(bundles: list[Bundle], key: str) -> list[Place]:
    """Returns the places of all networks that have a tensor whose name matches a regular expression."""
    pattern = re.compile(rf"((?:[^.]+\.)*?){key}")
    matches = [(bundle, pattern.fullmatch(name)) for bundle in bundles for name in bundle.tensors]
    return [Place(bundle, match[1]) for bundle, match in matches if match]


def choose_place(places: list[Place], what: str, hints: Hints) -> tuple[Place, list[str]]:
    """Returns the place of the network to read, and the assumptions of this choice.

    Averages, key encoders and teachers are read only if the file has nothing else. The user can ask for averages.

    Raises:
        UserError: several different networks could be meant, or the user asks for averages and the file has none.
    """
    averaged = [place for place in places if is_averaged(place.name) or _follows_student(place, places)]
    if hints.ema:
        names = ", ".join(place.name for place in places)
        check(averaged, f"{what} has no averaged weights (EMA) beside the trained ones, only {names}; leave ema out")
        candidates = averaged
    else:
        candidates = [place for place in places if not place.aside] or averaged or places
    candidates = sorted(candidates, key=lambda place: (place.unusual, place.rank, len(place.prefix), place.prefix))
    best = candidates[0]
    rivals = [place for place in candidates if not _same(place, best)]
    equals = [place.name for place in rivals if place.unusual == best.unusual]
    if equals and any(best.unusual):
        names = ", ".join([best.name, *equals])
        raise UserError(f"{what} contains several networks ({names}); save the right one as a state dict of its own")
    assumed = [f"the network under {best.name}, not the one under {place.name}" for place in rivals]
    if not hints.ema:
        left = [place for place in averaged if place != best]
        assumed += [f"the trained weights, not the averaged ones (EMA) under {place.name}" for place in left]
    return best, assumed


def describe_others(places: list[Place], best: Place) -> dict[str, str]:
    """Returns the prefixes of the other networks in the chosen bundle, each with the reason why it is not read."""
    others = [place for place in places if place.bundle is best.bundle and place.prefix != best.prefix]
    return {
        place.prefix: explain(place.name)
        or ("the same network under another name" if _same(place, best) else "another network")
        for place in others
    }


def _follows_student(place: Place, places: list[Place]) -> bool:
    """Returns whether a place has a teacher that averages its student, as in DINO and Mean Teacher.

    The student then has weights of the same shapes.
    """
    if not any("teacher" in part for part in place.parts):
        return False
    shapes = {key: value.shape for key, value in place.weights().items()}
    students = [other for other in places if any("student" in part for part in other.parts)]
    return any(shapes.items() == {k: v.shape for k, v in student.weights().items()}.items() for student in students)


def _same(one: Place, other: Place) -> bool:
    """Returns whether two places have equal tensors."""
    first, second = one.weights(), other.weights()
    if first.keys() != second.keys():
        return False
    return all(first[k].shape == second[k].shape and bool((first[k] == second[k]).all()) for k in first)
