"""What is refused before the first epoch, and what is warned of."""

import warnings

from adprune_keras.counting.count import cost
from adprune_keras.counting.reductions import ops_reduction


def check_compiled(model):
    """Raise `ValueError` where a model is not compiled."""
    if not getattr(model, "compiled", False):
        raise ValueError(
            "ADPrune needs a compiled model: call `model.compile(...)` before `fit`. "
            f"Received: model={model.name!r}, not compiled"
        )


def check_prunable(model, groups, rule):
    """Raise `ValueError` where no layer may be resized, or a pattern of the rule matches none.

    Args:
        model: `keras.Model`.
        groups: its `Groups`.
        rule: `WidthRule`.
    """
    prunable = groups.prunable()
    if not prunable:
        raise ValueError(
            f"No layer of model '{model.name}' may be resized. Received: "
            + "; ".join(f"'{g.owner}' ({g.fixed or 'no ReLU follows it'})" for g in groups.groups)
        )
    rule.check([g.owner for g in prunable])


def check_trainable(groups, weights):
    """Raise `ValueError` where a layer that is not trainable would be drawn anew."""
    calls = groups.trace.calls
    frozen = [c.name for c in calls if getattr(c.op, "weights", ()) and not c.op.trainable]
    if frozen and weights == "random":
        raise ValueError(
            'With weights="random" every layer is drawn anew and must be trained. Received: layers '
            f'that are not trainable: {frozen}. Use weights="inherit", or make them trainable.'
        )


def warn_of_layers(groups, rule, weights):
    """Warn of the layers that keep their width, and of those whose inherited weights are not exact."""
    stay = [g for g in groups.groups if g.relus and g.fixed and "output of the model" not in g.fixed]
    if stay:
        reasons = "; ".join(f"'{g.owner}': {g.fixed}" for g in stay)
        warnings.warn(f"These layers keep their width. {reasons}.", stacklevel=3)
    inexact = [g for g in groups.prunable() if g.inexact and rule.covers(g.owner)]
    if inexact and weights == "inherit":
        reasons = "; ".join(f"'{g.owner}': {g.inexact}" for g in inexact)
        warnings.warn(f"Inherited weights are not exact for these layers. {reasons}.", stacklevel=3)


def warn_of_dead_layers(densities, net, known):
    """Warn of layers whose AE was 0 over a whole epoch, once each.

    Args:
        densities: `{layer name: AE}` of the epoch.
        net: int, index of the net.
        known: set of the layers that were warned of; the new ones are added.
    """
    dead = {name for name, density in densities.items() if density == 0}
    if new := sorted(dead - known):
        known.update(new)
        warnings.warn(
            f"net{net}: no activation of these layers was positive in a whole epoch: {new}. "
            "Where no shortcut leads past them nothing before them trains. Lower the learning rate.",
            stacklevel=3,
        )


def cost_or_warning(model, groups):
    """Return the `Cost` of a model, or `None` with a warning: what cannot be counted still trains."""
    try:
        counted = cost(model, groups)
        ops_reduction(counted, counted)
        return counted
    except ValueError as e:
        warnings.warn(f"The record holds no costs: {e}", stacklevel=3)
        return None
