"""What an honest site refuses, from the description of the protocol alone: nothing of the package is used here.

Each function gives the reason, or nothing where all is as it should be.
"""

import hmac
from typing import Any

from vectors import slow_pairing
from vectors.slow_secagg import SlowSite, h, t_of, text

Json = dict[str, Any]


def opened(asked: Json, mine: Json, site: str, last: tuple[int, int]) -> str:
    """READY. `mine`: the OPEN that follows here; `last`: round and attempt that were answered before."""
    if asked["plan"] != mine["plan"]:
        return "plan-changed"
    if asked["roster"] != mine["roster"] or asked["cohort"] != mine["cohort"] or site not in asked["cohort"]:
        return "roster"
    if asked["state"] != mine["state"]:
        return "state-mismatch"
    if asked["segments"] != mine["segments"]:
        return "segments"
    later = asked["round"] > last[0] or (asked["round"] == last[0] and asked["attempt"] > last[1])
    return "" if later and asked["opening"] == mine["opening"] else "replayed"


def called(site: SlowSite, readies: list[Json]) -> str:
    """MASK."""
    names, cohort = [one["site"] for one in readies], site.opened["cohort"]
    if sorted(set(names)) != sorted(names) or len(names) < max(t_of(len(cohort)), 3) or set(names) - set(cohort):
        return "roll-call"
    if site.ready() not in readies or {one["ctx"] for one in readies} != {site.ctx.hex()}:
        return "roll-call"
    return "difference" if len({one.get("shown", False) for one in readies}) == 2 else ""


def survived(site: SlowSite, masked: Json, own: Json) -> str:
    """CONFIRM. `own`: what this site sent in MASK."""
    enough = len(masked) >= max(t_of(len(site.opened["cohort"])), 3) and not set(masked) - set(site.active)
    of_round = all(one["site"] == name and one["ctx2"] == site.ctx2.hex() for name, one in masked.items())
    return "" if enough and of_round and masked.get(site.name) == own else "survivors"


def proved(site: SlowSite, masked: Json, confirms: list[Json], seen: str) -> str:
    """UNMASK. `seen`: what this site confirmed."""
    if h(text([h(text(masked[name])).hex() for name in sorted(masked)])).hex() != seen:
        return "proofs"
    same = {one["site"] for one in confirms if one["ctx2"] == site.ctx2.hex() and one["survivors"] == seen}
    return "" if len(same & set(masked)) >= max(t_of(len(site.opened["cohort"])), 3) else "proofs"


def opened_whole(site: SlowSite, masked: Json, own: Json) -> str:
    """UNMASK where nobody was asked to confirm."""
    return survived(site, masked, own) if set(masked) == set(site.active) else "out-of-phase"


def listed(told: Json, site: str, mine: Json) -> str:
    """The roster. `mine`: the keys that this site sent."""
    once = all(len({one[what] for one in told.values()}) == len(told) for what in ("x25519", "mlkem768", "identity"))
    named = all(one["site"] == name for name, one in told.items())
    of_run = {(one["study"], one["epoch"]) for one in told.values()} == {(mine["study"], mine["epoch"])}
    return "" if len(told) >= 3 and once and named and of_run and told.get(site) == mine else "roster"


def paired(told: Json, accepted: Json, secrets: Json, site: str) -> str:
    """Everybody has accepted this roster, and each key is one."""
    for name in told:
        one = accepted.get(name)
        if one is None or one["site"] != name or one["roster"] != slow_pairing.roster(told).hex():
            return "pairing"
        if h(bytes.fromhex(one["nonce"])).hex() != told[name]["nonce_hash"]:
            return "pairing"
        if set(one["ciphertexts"]) != {other for other in told if other > name}:
            return "pairing"
    for other in told:
        if other == site:
            continue
        own, point = bytes.fromhex(secrets[site]["x25519"]), bytes.fromhex(told[other]["x25519"])
        capsule = accepted[min(site, other)]["ciphertexts"][max(site, other)]
        if slow_pairing.x25519(own, point) == bytes(32) or len(capsule) != 2 * 1088:
            return "pairing"
    return ""


def confirmed(told: Json, accepted: Json, proofs: Json, secrets: Json, site: str) -> str:
    """Every other site has the same key with this one."""
    for other in told:
        if other == site:
            continue
        key = slow_pairing.root(told, accepted, secrets, site, other)
        wanted = slow_pairing.confirmed(told, other, {site: key})
        given = proofs.get(other, {"roster": "", "tags": {}})
        tag = given["tags"].get(site, "")
        if given["roster"] != wanted["roster"] or not hmac.compare_digest(tag, wanted["tags"][site]):
            return "pairing"
    return ""
