"""`adprune-report`: a page, the paper's tables and figures from run directories alone.

Nothing is trained.
"""

from absl import flags

from adprune_keras.cli import command
from adprune_keras.files.packages import need

FLAGS = flags.FLAGS


def define_flags():
    """Define the flags of `adprune-report`."""
    flags.DEFINE_multi_string(
        "run_dir", None, "Run directory that adprune-train wrote; repeat it to compare.", required=True
    )
    flags.DEFINE_string(
        "output_dir", None, "Where tables and figures go; default: report/ in the (first) run directory."
    )


def _report():
    need("A report", "matplotlib", "jinja2")
    from adprune_keras.report.write import write_report  # it draws: that takes a second to load

    written = write_report(FLAGS.run_dir, FLAGS.output_dir)
    print((written[0].parent / "tables.md").read_text())
    print("\n".join(str(path) for path in written))
    print(f"\nThe page to look at: {written[0].parent / 'index.html'}")


def main():
    """Entry point of `adprune-report`."""
    define_flags()
    command.run("adprune-report", _report)


if __name__ == "__main__":
    main()
