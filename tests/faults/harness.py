"""`adprune-train` in forked processes that can be killed anywhere; TensorFlow is imported once.

A process in which TensorFlow has run cannot be forked, so this one never lets it.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import random
import resource
import shutil
import signal
import sys
import time
import traceback

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf  # noqa: F401  imported before the fork, not after it in each child

sys.path.append(str(pathlib.Path(__file__).parents[1]))
from toys import eager_compile

from adprune_keras.backup import store
from adprune_keras.backup.callback import Backup
from adprune_keras.cli import command, train
from adprune_keras.live import exchange
from adprune_keras.live.meter import Meter
from adprune_keras.prune import nets
from adprune_keras.prune.callback import ADPrune
from adprune_keras.record.directory import model_path
from adprune_keras.record.lines import read_record

train.define_flags()
DIGITS = (
    *("--dataset=digits", "--train_examples=200", "--test_examples=50", "--batch_size=40"),
    *("--min_width=2", "--verbose=0", "--learning_rate=0.02", "--resume"),
)
TINY = (*DIGITS, "--network=VGG11", "--width_scale=0.0625", "--epochs=5", "--prune_at=2,4")
# AE by epoch: saturated after two (prune), then rising (rollback), then the final net's.
TOTALS = (0.5, 0.5, 0.4, 0.45, 0.4501, 0.5, 0.5, 0.5)
MOST_KILLS = 6  # of one run
POINTS = (("rebuilt", 1), ("moved", 2), ("rename", 5))
BY_SIGNAL = (*DIGITS, "--epochs=7", "--min_epochs=2", "--patience=1", "--final_epochs=2")


class Child:
    """One run of `adprune-train` in a process of its own.

    Args:
        flags: list of str.
        output: path, what it prints goes there.
        die: `(event, n)` or `None`, kill -9 at the n-th event of that name.
        totals: list of float or `None`, total AE after each epoch instead of what is measured.
        limit: `(n, bytes)` or `None`: from the n-th save on no file can grow beyond so many bytes.
        nobody: bool, write as a user without rights, where this one has all.
    """

    eager = False  # of all children: faster where runs are this short

    def __init__(self, flags, output, die=None, totals=None, limit=None, nobody=False):
        self.events, self.rc, self._rest = [], None, b""
        self._reader, self._writer = os.pipe()
        self.pid = os.fork()
        if self.pid:
            os.close(self._writer)
            return
        code = 70
        try:
            os.close(self._reader)
            file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            os.dup2(file, 1)
            os.dup2(file, 2)
            _watch(self._writer, die, totals, limit)
            if self.eager:
                setattr(*eager_compile())
            if nobody and os.geteuid() == 0:
                _give_up_rights()
            train.FLAGS(["adprune-train", *flags])
            command.attempt("adprune-train", train.act, ["adprune-train"])
            _tell(self._writer, "end", _digest(train.FLAGS.run_dir))
            code = 0
        except SystemExit as e:
            code = e.code if isinstance(e.code, int) else 1
            if code == 1:
                print(e.code, file=sys.stderr)
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def read(self):
        """Return the next event as `[name, value]`, or `None` after the last."""
        while b"\n" not in self._rest:
            got = os.read(self._reader, 65536)
            if not got:
                return None
            self._rest += got
        line, self._rest = self._rest.split(b"\n", 1)
        self.events.append(json.loads(line))
        return self.events[-1]

    def finish(self):
        """Wait; return the exit code, negative for a signal."""
        while self.read() is not None:
            pass
        os.close(self._reader)
        self.rc = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.rc

    def last(self, name):
        """Return the value of the last event of a name, or `None`."""
        return next((value for event, value in reversed(self.events) if event == name), None)


def _tell(writer, name, value=None):
    os.write(writer, json.dumps([name, value]).encode() + b"\n")


def _watch(writer, die, totals, limit):
    """Report what happens in this process, and die where told."""
    seen = {}

    def happens(name, value=None):
        _tell(writer, name, value)
        seen[name] = seen.get(name, 0) + 1
        if die is not None and (name, seen[name]) == tuple(die):
            os.kill(os.getpid(), signal.SIGKILL)

    def around(owner, name, before, after):
        function = getattr(owner, name)

        def watched(*args, **kwargs):
            happens(before)
            result = function(*args, **kwargs)
            happens(after)
            return result

        setattr(owner, name, watched)

    write, begin = store.write, Backup.on_train_begin

    def watched_write(directory, number, state):
        happens("save")
        if limit is not None and seen["save"] >= limit[0]:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit[1], resource.RLIM_INFINITY))
        write(directory, number, state)
        happens("saved", state["epoch"])

    def watched_begin(self, logs=None):
        begin(self, logs)
        happens("begin", self.epoch)

    store.write, Backup.on_train_begin = watched_write, watched_begin
    around(os, "fsync", "sync", "synced")
    around(os, "replace", "rename", "renamed")
    around(nets, "rebuild", "rebuild", "rebuilt")
    around(nets, "swap", "swap", "swapped")
    around(exchange, "_move", "move", "moved")
    around(Backup, "on_train_batch_end", "step", "stepped")
    if totals is not None:
        _script(totals)


def _give_up_rights():
    open_ = Backup.open

    def unprivileged(self, **kwargs):
        os.seteuid(65534)
        open_(self, **kwargs)

    Backup.open = unprivileged


def _script(totals):
    read, end, now = Meter.read, ADPrune.on_epoch_end, []

    def scripted_end(self, epoch, logs=None):
        now[:] = [epoch]
        end(self, epoch, logs)

    Meter.read = lambda meter: dataclasses.replace(read(meter), total=totals[now[0]])
    ADPrune.on_epoch_end = scripted_end


def _digest(directory):
    """What two runs must agree on: every net, every epoch, and all final weights to the bit."""
    entries = [
        {k: v for k, v in entry.items() if not k.endswith("_seconds")}
        for entry in read_record(directory)
        if entry["kind"] != "run"
    ]
    weights = keras.models.load_model(model_path(directory)).get_weights()
    digest = hashlib.sha256(json.dumps(entries).encode())
    for array in weights:
        digest.update(array.tobytes())
    return digest.hexdigest()


def whole(flags, folder, name="whole", **settings):
    """Run without a fault; return its digest."""
    child = Child([*flags, f"--run_dir={folder / name}"], folder / f"{name}.txt", **settings)
    if child.finish() != 0:
        raise RuntimeError((folder / f"{name}.txt").read_text())
    return child.last("end")


def moments(count, seed=0, events=130):
    """Return when to kill: `[events to let pass, milliseconds after that]`, seeded."""
    generator = random.Random(seed)
    return [[generator.randrange(events), generator.randrange(30)] for _ in range(count)]


def kill_at_random(flags, folder, kills, **settings):
    """Start runs, killing each again and again, until all kills are done.

    Returns:
        list of dicts, one for each run: `kills`, `digest`, and `lost`: the largest number of epochs that
        a start was behind what had been saved before it.
    """
    left, results = list(kills), []
    while left:
        directory, log = folder / f"run{len(results)}", folder / f"run{len(results)}.txt"
        result, saved = {"kills": 0, "lost": 0, "digest": None}, 0
        while result["digest"] is None:
            child = Child([*flags, f"--run_dir={directory}"], log, **settings)
            if left and result["kills"] < MOST_KILLS:
                events, wait = left[0]
                while events > 0 and child.read() is not None:
                    events -= 1
                time.sleep(wait / 1000)
                os.kill(child.pid, signal.SIGKILL)
            rc = child.finish()
            began = child.last("begin")
            if began is not None:
                result["lost"] = max(result["lost"], saved - began)
            saved = max([saved, *(value for name, value in child.events if name == "saved")])
            if rc == -signal.SIGKILL:
                left.pop(0)
                result["kills"] += 1
            elif rc == 0:
                result["digest"] = child.last("end")
                if left and result["kills"] < MOST_KILLS:  # it was over before that moment
                    left[0] = [left[0][0] // 2, left[0][1]]
            else:
                raise RuntimeError(f"exit code {rc}: {log.read_text()}")
        results.append(result)
        shutil.rmtree(directory)
    return results


def kill_at(flags, folder, point, **settings):
    """Kill one run at one event and start it again; return its digest, `None` where nothing died."""
    directory, log = folder / "-".join(map(str, point)), folder / f"{point[0]}-{point[1]}.txt"
    child = Child([*flags, f"--run_dir={directory}"], log, die=point, **settings)
    if child.finish() != -signal.SIGKILL:
        return None
    return whole(flags, folder, directory.name, **settings)


def damages(length, seed=0):
    """Yield ways to damage a file, without end: `(name, function of its bytes, or None: missing)`."""
    generator = random.Random(seed)
    while True:
        at, bit = generator.randrange(length), 1 << generator.randrange(8)
        yield f"truncated at {at}", lambda b, at=at: b[:at]
        yield (
            f"bit {bit} of byte {at} flipped",
            lambda b, at=at, bit=bit: b[:at] + bytes([b[at] ^ bit]) + b[at + 1 :],
        )
        yield "missing", None


def damage(path, change):
    """Damage a file in place."""
    if change is None:
        path.unlink()
    else:
        path.write_bytes(change(path.read_bytes()))


def many(folder):
    """Ten kills at random moments, and each point with another network: for the slow tests."""
    found = {"twin": whole(TINY, folder), "kills": kill_at_random(TINY, folder, moments(10))}
    return found | _points(folder, "ResNet18")


def _points(folder, network):
    flags = (*BY_SIGNAL, f"--network={network}", "--width_scale=0.0625")
    return {
        "signalled twin": whole(flags, folder, "signalled", totals=TOTALS),
        "points": {
            "-".join(map(str, point)): kill_at(flags, folder, point, totals=TOTALS) for point in POINTS
        },
    }


def short(folder):
    """Four kills, and the short version of each other fault, in eager mode."""
    Child.eager = True
    twin = whole(TINY, folder)
    found = {"twin": twin, "kills": kill_at_random(TINY, folder, moments(1))}
    found |= _points(folder, "VGG11")
    directory, log = folder / "full", folder / "full.txt"
    flags = [*TINY, f"--run_dir={directory}"]
    child = Child(flags, log, limit=(3, 4096))
    rc, before = child.finish(), child.last("saved")
    found["full"] = {"rc": rc, "output": log.read_text(), "saved": before}
    found["full"]["left"] = sorted(p.name for p in (directory / "backup").iterdir())
    rc = Child([*flags, "--epochs=6", "--seed=1"], folder / "other.txt").finish()
    found["other flags"] = {"rc": rc, "output": (folder / "other.txt").read_text()}
    child = Child(flags, log)
    child.finish()
    found["full"] |= {"digest": child.last("end"), "began": child.last("begin")}

    closed, log = folder / "closed", folder / "closed.txt"
    closed.mkdir(mode=0o555)
    rc = Child([*TINY, f"--run_dir={closed}"], log, nobody=True).finish()
    found["read-only"] = {"rc": rc, "output": log.read_text()}

    flags = [*TINY, f"--run_dir={folder / 'shared'}"]
    first = Child(flags, folder / "first.txt")
    while first.read()[0] != "begin":
        pass
    os.kill(first.pid, signal.SIGSTOP)  # it holds the directory as long as this takes
    rc = Child(flags, log).finish()
    os.kill(first.pid, signal.SIGCONT)
    first.finish()
    found["second"] = {"rc": rc, "output": log.read_text(), "digest": first.last("end")}

    flags = [*TINY, f"--run_dir={folder / 'sigterm'}"]
    child = Child(flags, log)
    while child.read()[0] != "stepped":
        pass
    os.kill(child.pid, signal.SIGTERM)
    found["sigterm"] = {"rc": child.finish(), "digest": whole(flags, folder, "sigterm")}
    return found


if __name__ == "__main__":
    carry_out = {"short": short, "many": many}[sys.argv[1]]
    print(json.dumps(carry_out(pathlib.Path(sys.argv[2]))))
