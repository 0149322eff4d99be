"""``nvgbench verify``: compare this installation with the original code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nvgbench.cli.options import Device
from nvgbench.parity.dtypes import Dtype

if TYPE_CHECKING:
    from nvgbench.interfaces import Verification
    from nvgbench.parity.fixture import Fixture
    from nvgbench.parity.ledger import Check


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""

    @app.command()
    def verify(
        family: Annotated[str, typer.Argument(help="nvg or var.")],
        fixture: Annotated[
            Path | None,
            typer.Option(metavar="FILE.json", help="Other golden numbers of the same layout."),
        ] = None,
        device: Device = "cpu",
        dtype: Annotated[Dtype, typer.Option(help="Precision to recompute in.")] = "float32",
        as_json: Annotated[bool, typer.Option("--json", help="Print the checks as JSON.")] = False,
    ) -> None:
        """Recompute the golden numbers of a family's original code.

        One line per array: verdict, name, largest absolute difference, largest difference relative to the array's largest
        magnitude, and its limit. In float32 and float64, integers must be equal. In bf16 and fp16, rounding may change an
        argmax; the verdict is then "flips". Exit code 0: nothing failed, 1: something failed, 2: bad input.
        """
        from nvgbench.device import resolve_device
        from nvgbench.parity.arithmetic import Arithmetic
        from nvgbench.parity.fixture import read_fixture

        verification = _verification(family)
        arithmetic = Arithmetic(resolve_device(device), dtype)
        shipped = verification.shipped
        fixtures = [read_fixture(path, shipped.get(path.resolve())) for path in ([fixture] if fixture else shipped)]
        checked = [(found, _checks(verification, found, arithmetic, quiet=as_json)) for found in fixtures]
        failed = any(check.verdict == "fail" for _, checks in checked for check in checks)
        if as_json:
            typer.echo(_json(family, str(arithmetic.device), dtype, checked, failed))
        else:
            typer.echo(_summary([check for _, checks in checked for check in checks], dtype, str(arithmetic.device), failed))
        raise typer.Exit(1 if failed else 0)


def _verification(name: str) -> Verification:
    from nvgbench.errors import InputError
    from nvgbench.registry import family_names, get_family

    found = get_family(name).verification
    if found is None:
        able = [known for known in family_names() if get_family(known).verification is not None]
        raise InputError(f"family {name!r} has no golden numbers of an original code; use {' or '.join(able)}")
    return found


def _checks(verification: Verification, fixture: Fixture, arithmetic: object, quiet: bool) -> list[Check]:
    from nvgbench.errors import InputError
    from nvgbench.parity.arithmetic import Arithmetic
    from nvgbench.parity.ledger import Ledger

    assert isinstance(arithmetic, Arithmetic)
    if not quiet:
        typer.echo(f"{fixture.name}, in {arithmetic.dtype} on {arithmetic.device}")
    ledger = Ledger(fixture, arithmetic, verification.tolerance, (lambda check: None) if quiet else _print)
    try:
        return verification.verify(ledger)
    except InputError:
        raise
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        # Arrays and configurations that contradict each other fail somewhere in the arithmetic.
        text = str(error).splitlines()[0] if str(error) else ""
        raise InputError(
            f"{fixture.name} is inconsistent ({type(error).__name__}: {text}); its arrays and configuration must have the "
            "layout of the shipped fixtures"
        ) from error


def _print(check: Check) -> None:
    """One line per check, for logs and grep."""
    name = f"{check.name} [{check.part}]" if check.part else check.name
    line = f"{check.verdict:<8}  {name:<44}  {_measured(check)}"
    typer.echo(f"{line}  {check.remark}".rstrip())


def _measured(check: Check) -> str:
    if check.difference is None or check.relative is None:
        return ""
    measured = f"absolute {check.difference:8.2e}  relative {check.relative:8.2e}"
    if check.limit == 0:
        return f"{measured}  {check.entries - check.differing:,} of {check.entries:,} equal"
    return f"{measured}  limit {check.limit:.0e}"


def _summary(checks: list[Check], dtype: str, device: str, failed: bool) -> str:
    known = ("pass", "fail", "excepted", "flips", "input", "absent")
    counts = {verdict: sum(check.verdict == verdict for check in checks) for verdict in known}
    shown = ", ".join(f"{number} {verdict}" for verdict, number in counts.items() if number or verdict in ("pass", "fail"))
    return f"{'FAILED' if failed else 'passed'}: {shown}; {dtype} on {device}"


def _json(family: str, device: str, dtype: str, checked: list[tuple[Fixture, list[Check]]], failed: bool) -> str:
    import dataclasses
    import json

    from nvgbench.results.store import plain

    fixtures = [
        {"fixture": fixture.name, "checks": [plain(dataclasses.asdict(check)) for check in checks]}
        for fixture, checks in checked
    ]
    tree = {"family": family, "device": device, "dtype": dtype, "failed": failed, "fixtures": fixtures}
    return json.dumps(tree, indent=1, ensure_ascii=False, allow_nan=False)
