"""Whether a network computes what its weights were made for: facts that no shape shows."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Optional

from .errors import WeightsError
from .facts import SHAPES, Facts, same_value
from .published import resembling


def check_agreement(facts: Facts, computes: Mapping[str, Any], given: Optional[Collection[str]], path: str,
                    key: Optional[str] = None) -> None:
    """Compare what the network computes (option -> value) with what the weights are of.

    What the file or its library tells has to agree. What is only assumed has to agree too, unless the option is one of
    those `given` by hand; what neither tells has to be given. `given` None: all of them are.

    Raises:
        WeightsError: naming both sides, with the `Arch:` line of a network that agrees.
    """
    faults = []
    for option, value in computes.items():
        by_hand = given is None or option in given
        wanted = facts.values.get(option)
        if option in facts.told and facts.told[option] != SHAPES and not same_value(value, wanted):
            faults.append(f"{option} is {wanted} ({facts.told[option]}) and the network has {value}")
        elif option in facts.assumed and not by_hand and not same_value(value, wanted):
            faults.append(f"{option} is taken for {wanted} ({facts.assumed[option]}) and the network has {value}; if "
                          f"that is right, say so: Arch.{option}: {value}")
        elif option in facts.asked and not by_hand:
            faults.append(f"Arch.{option} has to be given, for nothing in the file tells it: {facts.asked[option]}")
    if faults:
        alike = [] if facts.of else resembling(facts.values)
        known = f", or say which published model it is (Arch.pretrained_of: {', '.join(alike[:6])})" if alike and any(
            option in facts.assumed or option in facts.asked for option in computes) else ""
        agreeing = f" A network that agrees: {facts.arch_line(path, key)}" if "embed_dim" in facts.values else ""
        raise WeightsError(f"{path} is of another network: {'; '.join(faults)}{known}.{agreeing}")
