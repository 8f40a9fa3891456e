"""What transforming saved and cost, in words that follow from a run's numbers."""

from __future__ import annotations

from reports import hfa
from reports.report import Report
from reports.units import change, count, ratio, share, si


def lead(report: Report) -> str:
    """How many layers are transformed, and what that is foreseen to save."""
    found = hfa.recorded(report)
    taken = [c for c in found if c.transformed]
    if not taken:
        reasons = dict.fromkeys(c.reason for c in found if c.reason)
        only = (
            f" The reason is the same for all: {next(iter(reasons))}." if len(reasons) == 1 else ""
        )
        return f"No layer is transformed.{only}"
    names = ", ".join(dict.fromkeys(c.chosen for c in taken))
    cycles, products = hfa.total(taken, "cycles"), hfa.total(taken, "multiplications")
    layers = f"{count(len(taken))} layer{'s' * (len(taken) > 1)}"
    verb = "are" if len(taken) > 1 else "is"
    return (
        f"{layers} {verb} transformed, with {names}: the compiler expects "
        f"{si(cycles.chosen, 'cycles')} where direct convolutions need {si(cycles.direct)}, and "
        f"{si(products.chosen)} multiplications instead of {si(products.direct)} "
        f"({_times(products.gain)}). The results are the same, to the last bit."
    )


def _times(gain: float | None) -> str:
    return f"{ratio(gain)} times fewer" if gain and gain >= 1 else "none fewer"


def energy(report: Report) -> list[str]:
    """Where transforming saves energy and where it does not, a sentence or two each."""
    taken = [x for x in report.layers if x.choice is not None and x.choice.transformed]
    if not taken:
        return []
    parts = (_estimated(report), _products(report), _parts(report), _measured(report))
    return [words for words in parts if words]


def _estimated(report: Report) -> str:
    """Layers by the sign of the compiler's estimate."""
    cheaper: list[str] = []
    dearer: list[str] = []
    unknown: list[str] = []
    for layer in report.layers:
        made = layer.choice
        if made is None or not made.transformed:
            continue
        pair = made.pair
        if pair is None or pair[0].energy_j is None or pair[1].energy_j is None:
            unknown.append(layer.label)
            continue
        off = pair[1].energy_j / pair[0].energy_j - 1
        (dearer if off > 0 else cheaper).append(f"{layer.label} ({change(off, 0)})")
    sentences = []
    if cheaper:
        sentences.append(f"by the compiler's estimate, energy is saved in {', '.join(cheaper)}")
    if dearer:
        more = "and it costs energy" if cheaper else "by the compiler's estimate, it costs energy"
        sentences.append(f"{more} in {', '.join(dearer)}")
    words = "; ".join(sentences)
    words = f"{words[:1].upper()}{words[1:]}." if words else ""
    if unknown:
        names = ", ".join(unknown)
        words += f" No energy was estimated for the direct form of {names} (joined on chip)."
    if dearer:
        objectives = {c.objective for c in hfa.recorded(report)}
        if "energy" not in objectives:
            words += (
                f" The objective was {', '.join(sorted(objectives))}; with --objective energy the "
                "compiler leaves such layers direct."
            )
    return words.strip()


def _measured(report: Report) -> str:
    """Shares of the components, in the transformed layers of this run."""
    taken = [x for x in report.layers if x.choice is not None and x.choice.transformed]
    joules = sum(x.energy_j for x in taken)
    if not joules:
        return ""
    shares = {
        name: sum(x.energy.get(name, 0.0) for x in taken) / joules
        for name in dict.fromkeys(n for x in taken for n in x.energy)
    }
    largest = sorted(shares, key=lambda name: -shares[name])[:4]
    names = ", ".join(f"{name} {share(shares[name], 0)}" for name in largest)
    return f"In this run the transformed layers took {si(joules, 'J')}: {names}."


def _parts(report: Report) -> str:
    """What a direct layer does not do at all, largest first."""
    found = hfa.parts(report)
    if not found:
        return ""
    joules = sum(found.values())
    only = ", ".join(f"{name} {si(value, 'J')}" for name, value in found.items())
    part = f", {share(joules / report.energy_j)} of the run" if report.energy_j else ""
    return f"What direct layers do without altogether takes {si(joules, 'J')}{part}: {only}."


def _products(report: Report) -> str:
    """Fewer products, wider operands: what is left of the gain in the multipliers."""
    names = dict.fromkeys(c.chosen for c in hfa.recorded(report) if c.transformed)
    sentences = []
    for name in names:
        found = hfa.product(name)
        left = found.energy / found.fewer - 1
        bits = " × ".join(map(str, found.bits))
        direct = " × ".join(map(str, hfa.DIRECT_BITS))
        sentences.append(
            f"{name} needs {ratio(found.fewer)} times fewer products, of {bits} bits instead of "
            f"{direct}, each {ratio(found.energy)} times as costly: the multipliers' energy "
            f"changes by {change(left, 0)}"
        )
    products, trees = (hfa.spent(report, action) for action in hfa.PRODUCTS)
    words = f"{'; '.join(sentences)}."
    if products and trees is not None:
        words += (
            f" In this run such products take {si(products, 'J')}, their adder trees "
            f"{si(trees, 'J')}."
        )
    return words


def against(report: Report, direct: Report) -> str:
    """The same network run directly, set beside this run."""
    off = report.energy_j - direct.energy_j
    less = [(n, b - a) for n, b, a in hfa.changes(report, direct) if a < b]
    more = [(n, a - b) for n, b, a in hfa.changes(report, direct) if a > b]
    verb = "saves" if off < 0 else "costs"
    parts = (
        f"Measured against a run of the same network without transforms ({direct.config}), hFA "
        f"saves {si(direct.cycles - report.cycles, 'cycles')} of {si(direct.cycles)} and "
        f"{verb} {si(abs(off), 'J')} of {si(direct.energy_j, 'J')} "
        f"({change(off / direct.energy_j)})."
    )
    for title, names in (("less", less), ("more", more)):
        if names:
            listed = ", ".join(f"{name} {si(joules, 'J')}" for name, joules in names[:4])
            parts += f" It needs {title} in: {listed}."
    return parts
