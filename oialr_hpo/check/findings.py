"""What a check finds."""

from dataclasses import dataclass, field


@dataclass
class Findings:
    """What is printed, and what is wrong: a warning costs speed, an error the search."""

    facts: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def text(self) -> str:
        verdict = "the search cannot run here" if self.errors else "the search can run here"
        lines = [*self.facts, *(f"warning: {line}" for line in self.warnings)]
        return "\n".join([*lines, *(f"error: {line}" for line in self.errors), verdict])
