"""The doctor's findings, for a person to read."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from moorage.cli.doctor import Finding, Verdict, missing
from moorage.cli.screen import console, say

SIGNS = {Verdict.OK: "[green]✓[/]", Verdict.LIMITED: "[yellow]![/]", Verdict.MISSING: "[red]✗[/]"}


def show(findings: Sequence[Finding]) -> None:
    """One line a finding; under those that are not well, the cost and the line that mends."""
    from rich.markup import escape

    screen = console(sys.stdout.isatty())
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        screen.print(
            f"{SIGNS[finding.verdict]} {escape(f'{finding.name:{width}}  {finding.seen}')}"
        )
        if finding.verdict is not Verdict.OK:
            indent = " " * (width + 4)
            screen.print(escape(f"{indent}costs: {finding.cost}"))
            screen.print(escape(f"{indent}mends: {finding.mend}"))
    say()
    lacks = missing(findings)
    if lacks:
        say(f"Not ready: {', '.join(finding.name for finding in lacks)}.")
    else:
        say("Ready for Moorage: `moorage up`.")
