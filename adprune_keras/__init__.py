"""Activation-density pruning of Keras 3 CNNs, while they train.

>>> from adprune_keras import ADPrune
>>> model.fit(train, epochs=300, validation_data=val, callbacks=[ADPrune()])
"""

from adprune_keras import models as models
from adprune_keras._version import __version__ as __version__
from adprune_keras.accounting import Cost as Cost
from adprune_keras.accounting import cost as cost
from adprune_keras.accounting import ops_reduction as ops_reduction
from adprune_keras.accounting import params_reduction as params_reduction
from adprune_keras.accounting import training_complexity as training_complexity
from adprune_keras.accounting import training_memory_complexity as training_memory_complexity
from adprune_keras.callback import ADPrune as ADPrune
from adprune_keras.density import activation_density as activation_density
from adprune_keras.groups import layer_widths as layer_widths
from adprune_keras.rebuild import resize as resize
from adprune_keras.widths import WidthRule as WidthRule
