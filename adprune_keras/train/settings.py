"""The settings of a run of `adprune-train`, each declared once."""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

from adprune_keras.backup.sigterm import TERMINATED
from adprune_keras.data.settings import Images, Source
from adprune_keras.files import limits
from adprune_keras.live.choices import DISTRIBUTIONS
from adprune_keras.models import NETWORKS, default_widths
from adprune_keras.models.plans import resolve_widths
from adprune_keras.prune.schedule import Epochs, Saturation, Schedule
from adprune_keras.prune.settings import Pruning
from adprune_keras.prune.widths import WidthRule
from adprune_keras.settings import check, from_values, setting

OPTIMIZERS = ("sgd", "adam", "adamw")
LR_SCHEDULES = ("cosine", "step", "constant")
_WIDEST = 1000  # times the published widths
DTYPE_POLICIES = ("float32", "mixed_bfloat16", "mixed_float16")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Output:
    """Where a run is written, and what is kept of it."""

    run_dir: str | None = setting(None, "Directory that the run is written to.")
    overwrite: bool = setting(False, "Replace the run that run_dir holds.")
    resume: bool = setting(
        False,
        "Go on with the run that run_dir holds, from where it was saved; where there is none, begin it. "
        "Flags must be as they were.",
    )
    backup: bool = setting(
        True,
        "Save the state of the run after every epoch, in run_dir/backup, until it is over; after "
        f"SIGTERM too (exit code {TERMINATED}). It takes a fraction of a second.",
    )
    save_freq: int | None = setting(
        None, "Save also every so many steps; not by default: epochs are short.", least=1
    )
    verbose: int = setting(
        2,
        "As in Keras: 0 prints nothing, 1 a progress bar, 2 a line an epoch, which reads well in logs "
        "too.",
        least=0,
        most=2,
    )
    tensorboard: bool = setting(
        False,
        "Write run_dir/tensorboard: logs, widths, AE of each layer, figures. Needs the extra "
        "tensorboard.",
    )
    export: tuple[str, ...] = setting(
        (), "Formats to export the final net to, as in adprune-export: onnx,tflite or all."
    )

    def __post_init__(self) -> None:
        check(self)
        if self.overwrite and self.resume:
            raise ValueError("--overwrite and --resume exclude each other. Received: both")
        if self.resume and not self.backup:
            raise ValueError("--resume needs backups. Received: --resume and --nobackup")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
    """Which of the factories' networks is net0.

    Raises:
        ValueError: a value that a setting cannot have, or widths that do not fit the network.
    """

    network: str | None = setting(
        "VGG19",
        "Network to start from; the paper's are VGG19 and ResNet18.",
        choices=tuple(NETWORKS),
    )
    widths: tuple[int, ...] | None = setting(
        None,
        "Widths of net0, one for each layer in the order of the paper's Table I. Default: as published.",
    )
    width_scale: float = setting(
        1.0, "Multiply the published widths, e.g. 0.25 for a quarter; 1: as published.", least=0.0
    )

    def __post_init__(self) -> None:
        check(self)
        if self.network is not None:
            self.resolved()

    def resolved(self) -> list[int]:
        """Return the widths of net0, where this machine can hold such a net.

        Raises:
            ValueError: widths that do not fit the network, or a net that memory does not hold.
        """
        widths = self._chosen(str(self.network))
        kernel = 1 if self.network == "ResNet50" else 9  # at the least
        least = kernel * sum(abs(a * b) for a, b in itertools.pairwise(widths))
        try:  # weights, gradients and a slot of the optimizer
            limits.check_size("training net0", 3 * 4 * least, limits.memory())
        except ValueError as e:
            raise ValueError(f"The network is too wide. Received: widths={widths}: {e}") from e
        return widths

    def _chosen(self, network: str) -> list[int]:
        defaults = default_widths(network)
        if self.widths is None:
            if not 0 < self.width_scale <= _WIDEST:
                raise ValueError(
                    f"--width_scale must be above 0, at most {_WIDEST}. Received: {self.width_scale}"
                )
            return [max(1, round(width * self.width_scale)) for width in defaults.values()]
        if self.width_scale != 1.0:
            raise ValueError("--widths and --width_scale exclude each other. Received: both")
        return list(resolve_widths(defaults, defaults.values(), self.widths, network).values())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """How each net is trained.

    Raises:
        ValueError: a value that a setting cannot have, by name.
    """

    prune: bool = setting(True, "Prune while training; --noprune trains the dense network.")
    epochs: int = setting(
        100, "Epochs over all nets, the ceiling; the paper's first net takes 100.", least=1
    )
    batch_size: int = setting(128, "Images a step; the paper's.", least=1)
    optimizer: str = setting("sgd", "Optimizer; sgd is the paper's.", choices=OPTIMIZERS)
    learning_rate: float = setting(
        0.1,
        "Learning rate that each net starts from; usual for sgd with batch normalisation, take 0.001 "
        "for adam.",
        least=0.0,
    )
    momentum: float = setting(0.9, "Momentum of sgd; the usual one.", least=0.0, most=1.0)
    weight_decay: float = setting(
        5e-4,
        "Decoupled weight decay, as Keras applies it: each step takes off learning_rate x this. The "
        "usual one for CIFAR.",
        least=0.0,
    )
    lr_schedule: str = setting(
        "cosine",
        "How the learning rate decays over each net's training; step: divided by ten after one half "
        "and three quarters, as in configs/ for the paper's studies. cosine ends at 0 after any number "
        "of epochs.",
        choices=LR_SCHEDULES,
    )
    seed: int = setting(
        0,
        "Seed of weights, data order and augmentation; fixed, so that runs repeat.",
        least=0,
        most=2**32 - 1,
    )

    def __post_init__(self) -> None:
        check(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Machine:
    """What the run computes with."""

    jit_compile: str = setting(
        "auto",
        "XLA; auto: off on TensorFlow without a GPU, where it is several times slower, else Keras' "
        "own choice.",
        choices=("auto", "true", "false"),
    )
    dtype_policy: str = setting(
        "float32",
        "Keras' dtype policy; the mixed ones compute in half precision, which pays on GPUs only.",
        choices=DTYPE_POLICIES,
    )
    distribution: str = setting(
        "none",
        "mirrored: tf.distribute.MirroredStrategy over this machine's devices (TensorFlow); "
        "data_parallel: keras.distribution.DataParallel over all devices of all processes (JAX; "
        "KERAS_DISTRIBUTION_* in the environment say which processes); none: one device. batch_size is "
        "that of all.",
        choices=DISTRIBUTIONS,
    )

    def __post_init__(self) -> None:
        check(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """All settings of one run of `adprune-train`."""

    output: Output
    source: Source
    images: Images
    network: Network
    training: Training
    schedule: Schedule
    pruning: Pruning
    rule: WidthRule
    machine: Machine

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Run":
        """Return the settings that flags describe; flags that are not there are at their defaults.

        Args:
            values: `{name of a flag: its value}`, of a command or of a record.

        Raises:
            ValueError: a value that a setting cannot have, by name.
        """
        kinds = {"output": Output, "source": Source, "images": Images, "network": Network}
        kinds |= {"training": Training, "pruning": Pruning, "rule": WidthRule, "machine": Machine}
        found: dict[str, Any] = {name: from_values(kind, values) for name, kind in kinds.items()}
        return cls(**found, schedule=schedule_of(values))


def schedule_of(values: Mapping[str, Any]) -> Schedule:
    """Return the schedule that flags describe: `prune_at` names epochs, else rho and delta decide."""
    most = values.get("max_prunes")
    if values.get("prune_at") is None or most == 0:
        return from_values(Saturation, values)
    named = from_values(Epochs, values)
    return dataclasses.replace(named, prune_at=named.prune_at[:most])
