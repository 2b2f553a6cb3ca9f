"""`search`: the coefficients, the architecture, the paper's studies; workers that join; what was found."""

from __future__ import annotations

import typer

from compoundnet.cli.search_architecture import architecture
from compoundnet.cli.search_coefficients import coefficients
from compoundnet.cli.search_show import show
from compoundnet.cli.search_study import study
from compoundnet.cli.search_worker import worker

app = typer.Typer(no_args_is_help=True, help="Search coefficients, architectures and the paper's scaling studies.")
app.command("coefficients")(coefficients)
app.command("architecture")(architecture)
app.command("study")(study)
app.command("worker")(worker)
app.command("show")(show)
