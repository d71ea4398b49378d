"""Follow every channel of a model through its calls."""

from keras import layers

from adprune_keras.graph.kinds import is_relu
from adprune_keras.graph.rules.registry import PRODUCERS, RAW_RULES, RULES
from adprune_keras.graph.walk import Walk

_UNKNOWN = "is not a layer whose channels pruning can follow"


def follow(trace, shortcuts):
    """Follow every channel through a `Trace` and return the finished `Walk`."""
    walk = Walk(trace, shortcuts)
    for index, call in enumerate(trace.calls):
        out = _step(walk, call)
        for tensor in call.outputs:
            walk.at[id(tensor)] = out
        if is_relu(call.op):
            walk.relus.append((index, out))
    inside, walk.fixed = walk.fixed, {}
    for tensor in trace.outputs:
        walk.fix(walk.at[id(tensor)].ids, "it is an output of the model")
    walk.fixed |= {i: reason for i, reason in inside.items() if i not in walk.fixed}
    return walk


def _step(walk, call):
    rule = RULES.get(type(call.op))
    if rule is None and not isinstance(call.op, layers.Layer):
        rule = RAW_RULES.get(type(call.op).__name__)
    if getattr(call.op, "quantization_mode", None) or getattr(call.op, "lora_enabled", False):
        rule = None
    inputs = [walk.at[id(t)] for t in call.inputs]
    if rule is None or not call.inputs:
        return walk.stop(call, _UNKNOWN)
    if not any(c.known for c in inputs) and rule not in PRODUCERS:
        return walk.opaque(call)
    return rule(walk, call, inputs[0])
