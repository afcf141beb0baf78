"""What a person reads on the console beside the log: the doctor's table."""

from annotation.progress import Watch
from recognizer.config import Config
from recognizer.doctor import examine

_SIGNS = {True: "[green]ok[/]", False: "[red]mend[/]", None: "[yellow]optional[/]"}


def doctor(config: Config, watch: Watch) -> int:
    """Show what is here, what is missing and what mends it; 1 if anything must be mended."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    findings = examine(config)
    table = Table("", "what", "found", "remedy")
    for finding in findings:
        table.add_row(
            _SIGNS[finding.ok], finding.name, escape(finding.found), escape(finding.remedy)
        )
    Console().print(table)
    return int(any(finding.ok is False for finding in findings))
