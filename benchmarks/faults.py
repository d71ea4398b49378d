"""What a fault costs a run: nothing beyond the running epoch. The long versions of tests/faults.

    python benchmarks/faults.py [--only=kills,points,damage] [--output=faults.json]

- kills: `kill -9` at random moments of tiny runs on the digits, several a run, from the list in
  benchmarks/kills.json: how many runs went on, from where, and which ended as the run that was
  not killed: the same nets, the same figures of every epoch, the same final weights to the bit.
- points: VGG-11 and ResNet18 killed before, within and after a prune, a rollback and a save.
- damage: backups truncated, with a flipped bit, or missing, the newer one, the older one or both: the
  bytes that are read must be those of the generation that is whole, or it is refused; one in ten
  goes on to the same end, or ends with one line.

Kills and damage are seeded. Needs TensorFlow and a system with `fork`. The commands are `harness.TINY`
and `harness.BY_SIGNAL`.
"""

import json
import pathlib
import shutil
import sys
import tempfile
import time
import warnings

from absl import app, flags

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests" / "faults"))

import harness

from adprune_keras.backup import store
from adprune_keras.files.atomic import write_text
from adprune_keras.record.directory import backup_path

FLAGS = flags.FLAGS
KILLS = pathlib.Path(__file__).with_name("kills.json")
NETWORKS = ("VGG11", "ResNet18")
POINTS = {
    "before a prune": ("rebuild", 1),
    "in a prune, net built": ("rebuilt", 1),
    "in a prune, graph moved": ("moved", 1),
    "after a prune": ("swapped", 1),
    "first step after a prune": ("stepped", 11),
    "before a rollback": ("swap", 2),
    "in a rollback, graph moved": ("moved", 2),
    "after a rollback": ("swapped", 2),
    "before the save that holds a prune": ("save", 3),
    "in it, written": ("sync", 7),
    "in it, before the rename": ("rename", 4),
    "in it, after the rename": ("renamed", 4),
}


def define_flags():
    """Define the flags of this benchmark."""
    flags.DEFINE_multi_enum("only", [], ["kills", "points", "damage"], "Which; default: all.")
    flags.DEFINE_integer("damaged", 200, "Damaged backups.", 1)
    flags.DEFINE_string("output", None, "A JSON file for the figures.")


def kills(folder):
    """Kill runs at the moments of the list."""
    twin = harness.whole(harness.TINY, folder)
    results = harness.kill_at_random(harness.TINY, folder, json.loads(KILLS.read_text()))
    return {
        "kills": sum(r["kills"] for r in results),
        "runs": len(results),
        "identical": sum(r["digest"] == twin for r in results),
        "largest number of saved epochs lost": max(r["lost"] for r in results),
    }


def points(folder):
    """Kill runs at each point; return `{network: {point: how it ended}}`."""
    found = {}
    for network in NETWORKS:
        command = (*harness.BY_SIGNAL, f"--network={network}", "--width_scale=0.0625")
        below = folder / network
        below.mkdir()
        twin = harness.whole(command, below, totals=harness.TOTALS)
        found[network] = {}
        for name, point in POINTS.items():
            digest = harness.kill_at(command, below, point, totals=harness.TOTALS)
            ends = {twin: "identical", None: "not killed"}
            found[network][name] = ends.get(digest, "DIFFERS")
    return found


def damage(folder, count):
    """Damage the backups of a run that was killed in its fourth epoch."""
    twin = harness.whole(harness.TINY, folder)
    flags_of = [*harness.TINY, f"--run_dir={folder / 'killed'}"]
    harness.Child(flags_of, folder / "killed.txt", die=("step", 18)).finish()
    backups = backup_path(folder / "killed")
    names = sorted(p.name for p in backups.glob("*.backup"))  # the newer, the older
    bodies = [(backups / name).read_bytes().split(b"\n", 1)[1] for name in names]
    ways = harness.damages(min(map(len, bodies)))
    found = {"restored": 0, "refused": 0, "to the end": 0, "wrong": []}
    for n in range(count):
        directory, log = folder / f"damaged{n}", folder / f"damaged{n}.txt"
        shutil.copytree(folder / "killed", directory)
        hit = ([0], [1], [0, 1])[n // 3 % 3]
        what = []
        for i, (name, change) in zip(hit, ways, strict=False):
            harness.damage(backup_path(directory) / names[i], change)
            what.append(name)
        left = [i for i in (0, 1) if i not in hit]
        outcome = _opened(backup_path(directory), bodies[left[0]] if left else None, what)
        if n % 10 == 0 and outcome in ("restored", "refused"):
            child = harness.Child([*harness.TINY, f"--run_dir={directory}"], log)
            rc, output = child.finish(), log.read_text()
            one_line = "Traceback" not in output and output.count("adprune-train:") == 1
            fresh = what == ["missing", "missing"]
            ends = child.last("end") == twin and (child.last("begin") == 0) == fresh
            if (rc == 0 and ends) if outcome == "restored" else (rc == 1 and one_line):
                found["to the end"] += 1
            else:
                outcome = f"rc {rc}: {output[-1000:]}"
        if outcome in found:
            found[outcome] += 1
        else:
            found["wrong"].append([*what, outcome])
        shutil.rmtree(directory)
    return found


def _opened(backups, expected, what):
    """Read damaged backups; say what came of it."""
    damaged = sum(name != "missing" for name in what)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            saved = store.newest(backups)
    except ValueError as e:
        return "refused" if expected is None and str(e).count("it is damaged") == damaged else str(e)
    if saved is None:  # both are missing: a run that begins
        return "restored" if what == ["missing", "missing"] else "nothing was found"
    return "restored" if saved.body == expected else "other bytes"


def main(_):
    """Print what came of each."""
    parts = {"kills": kills, "points": points, "damage": lambda folder: damage(folder, FLAGS.damaged)}
    found = {}
    for name, part in parts.items():
        if FLAGS.only and name not in FLAGS.only:
            continue
        with tempfile.TemporaryDirectory() as folder:
            begin = time.perf_counter()
            found[name] = part(pathlib.Path(folder))
            found[name]["seconds"] = round(time.perf_counter() - begin)
            print(f"{name}: {json.dumps(found[name], indent=2)}", flush=True)
    if FLAGS.output:
        write_text(FLAGS.output, json.dumps(found, indent=2))


if __name__ == "__main__":
    define_flags()
    app.run(main, argv=[*sys.argv, "--run_dir=unused"])  # a flag of what is run
