"""`sslcurr grid TASK...`."""

from __future__ import annotations

from typing import Annotated

import typer

from sslcurr.cli.choices import FAILED, Baseline
from sslcurr.cli.options import Shared, shared_options
from sslcurr.errors import SpecError

FRACTIONS = "1,0.5,0.25,0.125"


def _fractions(name: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise SpecError(f"{name} takes shares, got {text!r}", f"give {name} {FRACTIONS}") from None


@shared_options
def grid(
    tasks: Annotated[list[str], typer.Argument(metavar="TASK...", help="Pretext tasks, in order: see sslcurr tasks.")],
    ssl_fractions: Annotated[
        str, typer.Option("--ssl-fractions", metavar="SHARES", help="Shares of the images that pretraining uses.")
    ] = FRACTIONS,
    label_fractions: Annotated[
        str, typer.Option("--label-fractions", metavar="SHARES", help="Shares of the labels that classification uses.")
    ] = FRACTIONS,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Seeds of every chain: --seed and those after it.")] = 3,
    baseline: Annotated[
        Baseline | None, typer.Option("--baseline", help="Also train each share of the labels from scratch.")
    ] = None,
    *,
    shared: Shared,
) -> None:
    """Train a chain on parts of the images and of the labels, and print the table of both.

    Parts are nested and stratified by class; pretraining never has fewer images than classification has labels. Each
    pretraining is done once for its column of classifiers.
    """
    from sslcurr.analysis.experiments.grid import cells_of, check_fractions
    from sslcurr.tasks import check_pretext

    check_pretext(tasks)
    shares = {}
    for name, text in (("--ssl-fractions", ssl_fractions), ("--label-fractions", label_fractions)):
        shares[name] = _fractions(name, text)
        check_fractions(name, shares[name])
    if (shared.fraction, shared.label_fraction) != (1.0, 1.0):
        raise SpecError("grid has shares of its own", "give --ssl-fractions and --label-fractions instead")
    from sslcurr.analysis.experiments.chains import Chain, Chains, MeasuredChain, Shares
    from sslcurr.analysis.experiments.forecast import forecast
    from sslcurr.analysis.experiments.grid import Grid
    from sslcurr.cli.forecast import print_cost, print_grid
    from sslcurr.cli.job import note, opened, run_record
    from sslcurr.cli.output import percent, plotted, print_files, print_json

    numbers = range(shared.seed, shared.seed + seeds)
    fractions = (shares["--label-fractions"], shares["--ssl-fractions"])
    cells_of(*fractions, baseline=baseline is not None)  # a share without a cell is refused before images are read
    with opened(shared, [*tasks, "classification"], None) as (planner, store, report):
        chains = Chains(planner, store, shared.runtime, report, device=shared.device)

        def chain_done(chain: Chain, cell: Shares) -> None:
            result = percent(chain.balanced_accuracy) if isinstance(chain, MeasuredChain) else f"failed: {chain.reason}"
            images = "scratch" if cell.ssl_fraction is None else f"images {cell.ssl_fraction:g}"
            note(chains, record)  # whatever ends this command, its reports are needed by the next
            report.say(f"labels {cell.label_fraction:g}, {images}, seed {chain.seed}: {result}")

        table = Grid(chains, tasks, numbers, *fractions, baseline=baseline is not None, chain_done=chain_done)
        specs = table.specs()
        if shared.dry_run:
            print_cost(forecast(chains, specs, shared.runtime()), shared.json)
            return
        chains.check_network(tasks)
        chains.need(specs)
        asked = {"grid": list(tasks), "stages": sorted(chains.needed)}
        record = run_record(planner, store, asked=asked, title=f"grid {' '.join(tasks)}", stages=[])
        note(chains, record)
        table.measure()
        document = table.document()
        note(chains, record | {"finished": not document.failed})
        store.keep_result(record, "grid", document.to_json())
    files = plotted("grid", document.to_json(), shared.plots())
    if shared.json:
        print_json({**document.to_json(), "files": files})
    else:
        print_grid(document)
        print_files(files)
    if document.failed:
        raise typer.Exit(FAILED)
