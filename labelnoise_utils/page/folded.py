"""How checks are told: printed in a script; in a notebook one line for all checks of a cell, which opens to a table."""

import sys
from dataclasses import asdict, dataclass
from html import escape

# Under this name the metadata of a cell's output holds its checks as data: a list of the fields of `Check`.
DATA = "labelnoise_checks"


@dataclass(frozen=True)
class Check:
    """A check that holds, in words.

    Attributes:
        claim: what is checked.
        measured: what was found.
        predicted: what was expected, or the bounds.
        tolerance: how near it has to be; empty for bounds.
    """

    claim: str
    measured: str
    predicted: str
    tolerance: str

    @property
    def line(self) -> str:
        """All of it in one line."""
        expected = f"predicted {self.predicted} {self.tolerance}" if self.tolerance else self.predicted
        return f"{self.claim}: {self.measured}, {expected}"


def tell(check: Check) -> None:
    """Print a check that holds, or keep it for the line below the cell that is running.

    Args:
        check: what holds.
    """
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if not hasattr(shell, "get_parent"):  # a script, or a terminal
        print(f"holds: {check.line}")
        return
    if not hasattr(shell, "labelnoise_checks"):
        shell.labelnoise_checks = []
        shell.events.register("post_run_cell", lambda *_: _show(shell.labelnoise_checks))
    shell.labelnoise_checks.append(check)


def _show(checks: list[Check]) -> None:
    from IPython.display import display

    if checks:
        display(bundle(checks), raw=True, metadata={DATA: [asdict(one) for one in checks]})
        checks.clear()


def bundle(checks: list[Check]) -> dict:
    """The checks of a cell in each form that a front end may ask for.

    Args:
        checks: those that hold, at least one; the first that does not ends its cell with an error.

    Returns:
        Text, and HTML that needs no script.
    """
    said = f"{len(checks)} of {len(checks)} checks hold" if len(checks) > 1 else "the check holds"
    rows = "".join(
        f"<tr><td>{escape(one.claim)}</td><td>{escape(one.measured)}</td><td>{escape(one.predicted)}</td>"
        f"<td>{escape(one.tolerance)}</td></tr>"
        for one in checks
    )
    head = "".join(f'<th scope="col">{word}</th>' for word in ("claim", "measured", "predicted", "tolerance"))
    html = (
        f'<details class="labelnoise-checks"><summary>{said}</summary>'
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></details>"
    )
    text = "\n".join([said, *(f"holds: {one.line}" for one in checks)])
    return {"text/plain": text, "text/html": html}
