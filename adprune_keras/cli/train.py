"""`adprune-train`: trains a network of the paper's families, prunes it on the way, records the run."""

from absl import flags

from adprune_keras.cli import command, options
from adprune_keras.cli.export import exit_if_refused
from adprune_keras.cli.listing import what_there_is
from adprune_keras.data.settings import Images, Source
from adprune_keras.export.formats import resolve
from adprune_keras.files.packages import need
from adprune_keras.prune.schedule import Epochs, Saturation
from adprune_keras.prune.settings import Pruning
from adprune_keras.prune.widths import WidthRule
from adprune_keras.record.directory import check_directory
from adprune_keras.train.settings import Machine, Network, Output, Run, Training

FLAGS = flags.FLAGS
KINDS = (Output, Source, Images, Network, Training, Saturation, Epochs, Pruning, WidthRule, Machine)
_WHEN = (
    *("prune", "rho", "patience", "min_epochs", "prune_at", "max_prunes", "final_epochs", "rollback"),
    "target",
)


def define_flags():
    """Define the flags of `adprune-train`; return them as `{title: list}`."""
    flags.DEFINE_flag(command.Show("list", "Show data sets, networks and flagfiles.", what_there_is))
    return {
        "Run": [flags.FLAGS["list"], *options.define(Output, required=("run_dir",))],
        "Data": options.define(Source, Images),
        "Network": options.define(Network),
        "Training": options.define(Training, leave_out=_WHEN),
        "When to prune": options.define(Training, Saturation, Epochs, Pruning, only=_WHEN),
        "What to prune": options.define(Pruning, WidthRule, leave_out=_WHEN),
        "Machine": options.define(Machine),
    }


def act():
    """Train what the flags describe, and export the final net where asked."""
    values = options.values(FLAGS, *KINDS)
    run = Run.of(values)
    if run.output.export:
        resolve(run.output.export)
    if run.machine.distribution == "none":  # of several processes only the chief looks
        check_directory(run.output.run_dir, run.output.overwrite, run.output.resume)
    need("Training", "tensorflow", "matplotlib")
    command.load_libraries()
    from adprune_keras.train import session

    kept = [name for name in values if name not in ("overwrite", "resume")]
    directory = session.train(run, values, options.flagfile(FLAGS, kept))
    if directory is not None and run.output.export:
        from adprune_keras.export import jobs

        with exit_if_refused():
            jobs.export_run(directory, run.output.export, verbose=run.output.verbose)


def main():
    """Entry point of `adprune-train`."""
    command.run("adprune-train", act, define_flags())


if __name__ == "__main__":
    main()
