"""Readable report of a ticket file."""

from effxfer.prune.tickets.file import Facts, TicketFile
from effxfer.report import Measurement, Report, Table


def describe(ticket: TicketFile) -> Report:
    """Report a ticket's sparsity by both denominators, its network, its origin and its recipe."""
    facts, reached = ticket.facts, ticket.facts.origin.get("reached", {})
    rows = (
        _share("sparsity/prunable", facts, facts.masked, "prunable weights"),
        _share("sparsity/all", facts, facts.everything, "all weights of the body"),
        Measurement(name="weights kept", value=facts.everything - facts.masked + facts.kept),
        *(Measurement(name=f"{n} where found", value=value, unit="%") for n, value in reached.items()),
        Measurement(name="size", value=len(ticket.content) / 1e6, unit="MB"),
    )
    layers = tuple(
        {"weight": name, "kept": int(mask.sum()), "of": mask.size, "kept, %": 100 * float(mask.mean())}
        for name, mask in ticket.masks().items()
    )
    table = Table(title="Weights kept per layer", rows=layers)
    return Report(rows=rows, tables=(table,), notes=_notes(facts))


def _notes(facts: Facts) -> tuple[str, ...]:
    settings = facts.recipe["settings"]
    tasks = ", ".join(str(task.get("name")) for task in facts.origin.get("data", ()))
    place = f"those of {facts.pointer['source']}" if facts.pointer else "in the file"
    names = [name for name in ("epochs", "optimizer", "lr", "schedule") if name in settings["fit"]]
    fit = ", ".join(f"{name} {settings['fit'][name]}" for name in names)
    return (
        f"network: {facts.backbone['source']}, {facts.preprocess['size']} px",
        f"found by {facts.recipe['stage']} on {tasks}, result {facts.origin.get('key', '')}",
        f"goes back to {facts.rewind}: {place}, SHA-256 {facts.weights[:12]}",
        f"recipe: strategy {settings['strategy']}, {fit}",
    )


def _share(name: str, facts: Facts, total: int, of: str) -> Measurement:
    removed = facts.masked - facts.kept
    return Measurement(name=name, value=100 * removed / max(total, 1), unit="%", n=total, of=of)
